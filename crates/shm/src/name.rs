//! The name of a region: a file name that needs no quoting anywhere.
//!
//! # Invariants
//! - 1 to 39 characters; the first a letter or digit of ASCII, the rest those or `_`, `-`, `.`.
//! - Stored zero-padded in 40 bytes; the padding is all zero, so equal names are equal bytes.

use core::fmt;
use core::str::FromStr;

/// Bytes of a name with its padding.
pub(crate) const NAME_BYTES: usize = 40;

/// The validated name of a region, 1 to 39 characters.
///
/// ```
/// use outlast_shm::RegionName;
///
/// let name: RegionName = "orders.v2".parse()?;
/// assert_eq!(name.as_str(), "orders.v2");
/// assert!("../orders".parse::<RegionName>().is_err());
/// # Ok::<(), outlast_shm::NameError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName([u8; NAME_BYTES]);

/// Why a text is not a region name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, or longer than 39 bytes.
    #[error("a region name has 1 to 39 characters, not {len}")]
    Length {
        /// Bytes of the text.
        len: usize,
    },
    /// A byte that names may not hold at this place.
    #[error(
        "byte 0x{found:02x} at offset {offset} of a region name: the first character is a letter or digit, \
         the rest are those or one of _ - ."
    )]
    Character {
        /// Where.
        offset: usize,
        /// What.
        found: u8,
    },
}

impl RegionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        // The constructor admits ASCII only, so the fallback is never taken.
        core::str::from_utf8(&self.0[..self.len()]).unwrap_or("")
    }

    fn len(&self) -> usize {
        self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES)
    }

    /// From the bytes of a file name.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        if bytes.is_empty() || NAME_BYTES <= bytes.len() {
            return Err(NameError::Length { len: bytes.len() });
        }
        for (offset, &found) in bytes.iter().enumerate() {
            let punctuation = 0 < offset && matches!(found, b'_' | b'-' | b'.');
            if !found.is_ascii_alphanumeric() && !punctuation {
                return Err(NameError::Character { offset, found });
            }
        }
        let mut padded = [0; NAME_BYTES];
        padded[..bytes.len()].copy_from_slice(bytes);
        Ok(Self(padded))
    }

    /// From the 40 bytes of a header; `None` unless they are a name and its padding.
    pub(crate) fn from_padded(padded: &[u8; NAME_BYTES]) -> Option<Self> {
        let len = padded.iter().position(|byte| *byte == 0)?;
        let name = Self::from_bytes(&padded[..len]).ok()?;
        (name.0 == *padded).then_some(name)
    }

    /// The 40 bytes that a header holds.
    pub(crate) fn padded(&self) -> &[u8; NAME_BYTES] {
        &self.0
    }
}

impl TryFrom<&str> for RegionName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl FromStr for RegionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule in other words.
    fn is_name(text: &str) -> bool {
        let inner = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        text.chars().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && text.chars().all(inner)
            && text.len() < 40
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn names_are_what_the_rule_says(text in prop_oneof!["[a-z0-9A-Z._@/-]{0,42}", "[a-z][a-z0-9._-]{30,41}", ".{0,10}"]) {
            let name = text.parse::<RegionName>();
            prop_assert_eq!(name.is_ok(), is_name(&text), "{:?}", text);
            if let Ok(name) = name {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert_eq!(RegionName::from_padded(name.padded()), Some(name));
                prop_assert_eq!(format!("{name} {name:?}"), format!("{text} {text:?}"));
            }
        }

        #[test]
        fn padding_must_be_zero(text in "[a-z]{1,38}", at in 0..40_usize, byte in 1..=255_u8) {
            let mut padded = *text.parse::<RegionName>().unwrap().padded();
            if text.len() < at {
                padded[at] = byte;
                prop_assert_eq!(RegionName::from_padded(&padded), None);
            }
        }
    }

    #[test]
    fn edges() {
        assert_eq!("".parse::<RegionName>(), Err(NameError::Length { len: 0 }));
        assert!("a".repeat(39).parse::<RegionName>().is_ok());
        assert_eq!("a".repeat(40).parse::<RegionName>(), Err(NameError::Length { len: 40 }));
        assert_eq!("a/b".parse::<RegionName>(), Err(NameError::Character { offset: 1, found: b'/' }));
        assert_eq!(RegionName::from_padded(&[b'a'; NAME_BYTES]), None);
        assert_eq!(RegionName::from_padded(&[0; NAME_BYTES]), None);
    }
}
