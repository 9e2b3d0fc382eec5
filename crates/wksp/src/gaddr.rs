//! Addresses that mean the same in every process: [`Gaddr`], [`Block`] and the text form [`Address`].

use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;

use outlast_shm::RegionName;

/// Where a byte lies in a workspace: its distance from the data origin, the same in every process.
///
/// 0 is no address, so `Option<Gaddr>` is as small as a `u64`. Holding one proves nothing about what is
/// there: every call that takes one checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gaddr(NonZeroU64);

impl Gaddr {
    /// `None` for 0.
    pub const fn new(gaddr: u64) -> Option<Self> {
        match NonZeroU64::new(gaddr) {
            Some(gaddr) => Some(Self(gaddr)),
            None => None,
        }
    }

    /// The distance from the data origin in bytes, never 0.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The address `bytes` further on, `None` on overflow.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(gaddr) => Some(Self(gaddr)),
            None => None,
        }
    }
}

impl fmt::Display for Gaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One allocation, as [`Wksp::alloc`](crate::Wksp::alloc) returned it.
///
/// Plain data: it can be copied, sent to another process and dropped without freeing anything. Its stamp
/// makes [`Wksp::free`](crate::Wksp::free) exact: once the allocation is gone the block stays stale for
/// ever, even when something else has been allocated at the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    pub(crate) gaddr: Gaddr,
    pub(crate) size_bytes: u64,
    pub(crate) tag: u64,
    pub(crate) slot: u32,
    pub(crate) stamp: u64,
}

impl Block {
    /// First byte of the allocation.
    pub const fn gaddr(&self) -> Gaddr {
        self.gaddr
    }

    /// Usable bytes from [`gaddr`](Self::gaddr) on, never 0.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The tag it was allocated with, never 0.
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// What is needed to name this very allocation in another process: (gaddr, slot, stamp).
    pub const fn to_parts(&self) -> (u64, u32, u64) {
        (self.gaddr.get(), self.slot, self.stamp)
    }
}

/// The text form of an address in a named workspace: `name:gaddr`.
///
/// The number is decimal, or hexadecimal after `0x`. The parser takes nothing else: no sign, no spaces, no
/// empty part, no 0.
///
/// ```
/// use outlast_wksp::Address;
/// let address: Address = "prices:0x1000".parse()?;
/// assert_eq!(address.to_string(), "prices:4096");
/// assert!("prices:4096 ".parse::<Address>().is_err());
/// # Ok::<(), outlast_wksp::AddressError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// The workspace.
    pub name: RegionName,
    /// Where in it.
    pub gaddr: Gaddr,
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no colon.
    #[error("no colon: an address is `name:gaddr`, such as `prices:4096`")]
    NoColon,
    /// The part before the colon is no workspace name.
    #[error(
        "the name before the colon is not 1 to 39 letters, digits, `_`, `-` or `.` after a letter or digit"
    )]
    Name,
    /// The part after the colon is no number.
    #[error(
        "the part after the colon is neither decimal digits nor `0x` and hexadecimal digits within 64 bits"
    )]
    Number,
    /// The number is 0, which is no address.
    #[error("gaddr 0 is no address")]
    Null,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (name, number) = text.rsplit_once(':').ok_or(AddressError::NoColon)?;
        let name = name.parse().map_err(|_| AddressError::Name)?;
        let gaddr =
            Gaddr::new(parse_number(number).ok_or(AddressError::Number)?).ok_or(AddressError::Null)?;
        Ok(Self { name, gaddr })
    }
}

fn parse_number(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    // `from_str_radix` alone would take a leading `+`.
    if plain { u64::from_str_radix(digits, radix).ok() } else { None }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.gaddr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_strict() {
        let ok = |text: &str| text.parse::<Address>().unwrap().gaddr.get();
        assert_eq!(ok("a:1"), 1);
        assert_eq!(ok("a.b-c_9:0xFf"), 255);
        assert_eq!(ok("a:18446744073709551615"), u64::MAX);
        assert_eq!(ok("a:0xffffffffffffffff"), u64::MAX);
        use AddressError::*;
        for (text, error) in [
            ("", NoColon),
            ("a", NoColon),
            (":1", Name),
            ("a b:1", Name),
            ("a:b:1", Name),
            (".a:1", Name),
            ("a:", Number),
            ("a: 1", Number),
            ("a:1 ", Number),
            ("a:+1", Number),
            ("a:-1", Number),
            ("a:0x", Number),
            ("a:0X1", Number),
            ("a:1f", Number),
            ("a:18446744073709551616", Number),
            ("a:0", Null),
            ("a:0x0", Null),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
        }
        assert!(format!("{}:1", "a".repeat(39)).parse::<Address>().is_ok());
        assert_eq!(format!("{}:1", "a".repeat(40)).parse::<Address>(), Err(Name));
    }
}
