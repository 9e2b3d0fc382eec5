//! What a creator asks for and what an opener expects.
//!
//! # Invariants
//! - [`Spec::check`] runs before anything is made: no file ever has a geometry that `Header::decode` refuses.

use core::fmt;
use core::ops::Range;
use core::str::FromStr;

use crate::error::RegionError;
use crate::layout::{PAGE_BYTES, USER_OFFSET};

/// Largest region: what a mapping can hold with room left for everything else.
pub(crate) const LEN_BYTES_MAX: u64 = 1 << 47;

/// Size of the pages that back a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum PageSize {
    /// 4 KiB pages of a tmpfs or any other file system.
    #[default]
    Normal,
    /// 2 MiB pages of a hugetlbfs.
    Huge,
    /// 1 GiB pages of a hugetlbfs.
    Gigantic,
}

impl PageSize {
    /// Bytes of one page.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Normal => 4 << 10,
            Self::Huge => 2 << 20,
            Self::Gigantic => 1 << 30,
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Normal => "normal",
            Self::Huge => "huge",
            Self::Gigantic => "gigantic",
        })
    }
}

/// A text that is none of `normal`, `huge`, `gigantic`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page size {found:?} is none of normal, huge, gigantic")]
pub struct PageSizeError {
    /// The text.
    pub found: String,
}

impl FromStr for PageSize {
    type Err = PageSizeError;

    fn from_str(text: &str) -> Result<Self, PageSizeError> {
        [Self::Normal, Self::Huge, Self::Gigantic]
            .into_iter()
            .find(|size| text.eq_ignore_ascii_case(&size.to_string()))
            .ok_or_else(|| PageSizeError { found: text.to_owned() })
    }
}

/// What a new region shall be. All lengths and offsets count bytes from the start of the file, so they
/// include the [`USER_OFFSET`] bytes that the region keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What the region holds: an opaque number of the layer above.
    pub kind: u64,
    /// Layout of what it holds: an opaque number of the layer above.
    pub fingerprint: u64,
    /// Length of the file, reserved now: a page multiple, at least `USER_OFFSET`.
    pub len_bytes: u64,
    /// Length that [`Region::extend`](crate::Region::extend) may reach: a page multiple, at least `len_bytes`.
    /// Address space for it is taken in every process; memory is not.
    pub len_max_bytes: u64,
    /// Offsets of up to two pages that no process may touch; 0 for none.
    pub guards: [u64; 2],
    /// Size of the pages; only [`PageSize::Normal`] is supported so far.
    pub page_size: PageSize,
    /// Permission bits of the file, exact whatever the umask.
    pub mode: u32,
    /// A CPU near which the pages should lie; not supported so far, so asking for it is an error.
    pub near_cpu: Option<u32>,
}

impl Spec {
    /// A region of `len_bytes` that cannot grow, without guards, on normal pages, mode 0600.
    pub const fn new(kind: u64, fingerprint: u64, len_bytes: u64) -> Self {
        Self {
            kind,
            fingerprint,
            len_bytes,
            len_max_bytes: len_bytes,
            guards: [0; 2],
            page_size: PageSize::Normal,
            mode: 0o600,
            near_cpu: None,
        }
    }

    /// What an opener of this region has to expect.
    pub const fn expect(&self) -> Expect {
        Expect { kind: self.kind, fingerprint: self.fingerprint }
    }

    pub(crate) fn check(&self) -> Result<(), RegionError> {
        if self.page_size != PageSize::Normal {
            return Err(RegionError::Unsupported { what: "pages larger than 4 KiB" });
        }
        if self.near_cpu.is_some() {
            return Err(RegionError::Unsupported { what: "placement near a CPU" });
        }
        let refuse = |field, found, rule| Err(RegionError::Spec { field, found, rule });
        if !is_page_in(self.len_bytes, &(USER_OFFSET..LEN_BYTES_MAX + 1)) {
            return refuse("len_bytes", self.len_bytes, "a multiple of 4096 from USER_OFFSET to 2^47");
        }
        if !is_page_in(self.len_max_bytes, &(self.len_bytes..LEN_BYTES_MAX + 1)) {
            return refuse("len_max_bytes", self.len_max_bytes, "a multiple of 4096 from len_bytes to 2^47");
        }
        for guard in self.guards {
            if guard != 0 && !is_page_in(guard, &(USER_OFFSET..self.len_max_bytes)) {
                return refuse(
                    "guards",
                    guard,
                    "0 or a multiple of 4096 from USER_OFFSET to below len_max_bytes",
                );
            }
        }
        if self.mode & !0o777 != 0 {
            return refuse("mode", u64::from(self.mode), "permission bits only, at most 0o777");
        }
        Ok(())
    }
}

/// A page multiple inside `range`.
pub(crate) fn is_page_in(value: u64, range: &Range<u64>) -> bool {
    value.is_multiple_of(PAGE_BYTES) && range.contains(&value)
}

/// What an opener expects a region to hold; anything else is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// [`Spec::kind`] of the creator.
    pub kind: u64,
    /// [`Spec::fingerprint`] of the creator.
    pub fingerprint: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_read_and_print() {
        for (size, bytes) in
            [(PageSize::Normal, 4096), (PageSize::Huge, 2 << 20), (PageSize::Gigantic, 1 << 30)]
        {
            assert_eq!(size.bytes(), bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
            assert_eq!(size.to_string().to_uppercase().parse(), Ok(size));
        }
        for text in ["", "normal ", "4096", "large"] {
            assert_eq!(text.parse::<PageSize>(), Err(PageSizeError { found: text.to_owned() }));
        }
    }
}
