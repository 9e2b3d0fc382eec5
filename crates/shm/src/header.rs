//! The static header: 256 bytes that say what a file is, read once with `pread` and never from the map.
//!
//! # Invariants
//! - `decode(encode(h)) == h` for every header that a checked [`Spec`] yields.
//! - `decode` accepts nothing that a checked [`Spec`] could not have yielded, whatever the bytes: what comes
//!   out of it needs no further checks.

use crate::error::RegionError;
use crate::layout::{FNV_START, FORMAT_VERSION, LAYOUT_FINGERPRINT, MAGIC, STATIC_BYTES, fnv_byte, head};
use crate::name::{NAME_BYTES, RegionName};
use crate::spec::{Expect, PageSize, Spec};

/// The fields of the static header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) spec: Spec,
    pub(crate) name: Option<RegionName>,
    pub(crate) id: u128,
    pub(crate) creator_uid: u32,
    pub(crate) created_unix_ns: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; STATIC_BYTES] {
        let mut bytes = [0; STATIC_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(head::MAGIC, &MAGIC.to_le_bytes());
        put(head::VERSION, &FORMAT_VERSION.to_le_bytes());
        put(head::MODE, &self.spec.mode.to_le_bytes());
        put(head::LAYOUT, &LAYOUT_FINGERPRINT.to_le_bytes());
        put(head::KIND, &self.spec.kind.to_le_bytes());
        put(head::FINGERPRINT, &self.spec.fingerprint.to_le_bytes());
        put(head::LEN_MIN, &self.spec.len_bytes.to_le_bytes());
        put(head::LEN_MAX, &self.spec.len_max_bytes.to_le_bytes());
        put(head::PAGE_SIZE, &self.spec.page_size.bytes().to_le_bytes());
        put(head::NAME, self.name.as_ref().map_or(&[0; NAME_BYTES], |name| name.padded()));
        put(head::ID, &self.id.to_le_bytes());
        put(head::CREATOR_UID, &self.creator_uid.to_le_bytes());
        put(head::CREATED, &self.created_unix_ns.to_le_bytes());
        put(head::GUARD_LOW, &self.spec.guards[0].to_le_bytes());
        put(head::GUARD_HIGH, &self.spec.guards[1].to_le_bytes());
        let checksum = checksum(&bytes);
        bytes[head::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; STATIC_BYTES]) -> Result<Self, RegionError> {
        let u64_at = |at: usize| u64::from_le_bytes(part(bytes, at));
        let u32_at = |at: usize| u32::from_le_bytes(part(bytes, at));
        if u64_at(head::MAGIC) != MAGIC {
            return Err(RegionError::Magic { expected: MAGIC, found: u64_at(head::MAGIC) });
        }
        if u32_at(head::VERSION) != FORMAT_VERSION {
            return Err(RegionError::Version { expected: FORMAT_VERSION, found: u32_at(head::VERSION) });
        }
        let expected = checksum(bytes);
        if u64_at(head::CHECKSUM) != expected {
            return Err(RegionError::Checksum { expected, found: u64_at(head::CHECKSUM) });
        }
        if u64_at(head::LAYOUT) != LAYOUT_FINGERPRINT {
            return Err(RegionError::Layout { expected: LAYOUT_FINGERPRINT, found: u64_at(head::LAYOUT) });
        }
        // From here on the bytes are what somebody wrote on purpose; that somebody may still be hostile.
        let refuse = |field, offset: usize| {
            Err(RegionError::Header { field, offset: offset as u64, found: u64_at(offset & !7) })
        };
        if u64_at(head::PAGE_SIZE) != PageSize::Normal.bytes() {
            return refuse("page_size", head::PAGE_SIZE);
        }
        let spec = Spec {
            len_max_bytes: u64_at(head::LEN_MAX),
            guards: [u64_at(head::GUARD_LOW), u64_at(head::GUARD_HIGH)],
            mode: u32_at(head::MODE),
            ..Spec::new(u64_at(head::KIND), u64_at(head::FINGERPRINT), u64_at(head::LEN_MIN))
        };
        match spec.check() {
            Ok(()) => {}
            Err(RegionError::Spec { field: "len_bytes", .. }) => return refuse("len_min", head::LEN_MIN),
            Err(RegionError::Spec { field: "len_max_bytes", .. }) => return refuse("len_max", head::LEN_MAX),
            Err(RegionError::Spec { field: "guards", .. }) => return refuse("guards", head::GUARD_LOW),
            Err(_) => return refuse("mode", head::MODE),
        }
        let padded: [u8; NAME_BYTES] = part(bytes, head::NAME);
        let name = RegionName::from_padded(&padded);
        if name.is_none() && padded != [0; NAME_BYTES] {
            return refuse("name", head::NAME);
        }
        let header = Self {
            spec,
            name,
            id: u128::from_le_bytes(part(bytes, head::ID)),
            creator_uid: u32_at(head::CREATOR_UID),
            created_unix_ns: u64_at(head::CREATED),
        };
        if header.encode() != *bytes {
            return refuse("reserved", head::RESERVED_STATIC);
        }
        Ok(header)
    }

    /// Refuses a region of another kind or user layout.
    pub(crate) fn expect(&self, expect: &Expect) -> Result<(), RegionError> {
        if self.spec.kind != expect.kind {
            return Err(RegionError::Kind { expected: expect.kind, found: self.spec.kind });
        }
        if self.spec.fingerprint != expect.fingerprint {
            let (expected, found) = (expect.fingerprint, self.spec.fingerprint);
            return Err(RegionError::Fingerprint { expected, found });
        }
        Ok(())
    }

    /// Refuses a file of another length than the header allows.
    pub(crate) fn expect_len(&self, found: u64) -> Result<(), RegionError> {
        let (min, max) = (self.spec.len_bytes, self.spec.len_max_bytes);
        if crate::spec::is_page_in(found, &(min..max + 1)) {
            return Ok(());
        }
        Err(RegionError::Size { found, min, max })
    }
}

fn checksum(bytes: &[u8; STATIC_BYTES]) -> u64 {
    bytes[..head::CHECKSUM].iter().fold(FNV_START, |hash, byte| fnv_byte(hash, *byte))
}

fn part<const N: usize>(bytes: &[u8; STATIC_BYTES], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{LAYOUT_FINGERPRINT, MAGIC, USER_OFFSET};
    use proptest::prelude::*;

    fn sealed(mut bytes: [u8; STATIC_BYTES]) -> [u8; STATIC_BYTES] {
        let checksum = checksum(&bytes);
        bytes[head::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            kind: u64, fingerprint: u64, id: u128, mode in 0..=0o777_u32, creator_uid: u32, created_unix_ns: u64,
            pages in 0..1_u64 << 34, more in 0..1_u64 << 34, guards in [0..1_u64 << 34, 0..1_u64 << 34],
            name in proptest::option::of("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,38}"),
        ) {
            let len_bytes = USER_OFFSET + pages * 4096;
            let len_max_bytes = len_bytes + more * 4096;
            let guards = guards.map(|page| match page % (pages + more + 1) {
                0 => 0,
                page => USER_OFFSET + (page - 1) * 4096,
            });
            let spec = Spec { len_max_bytes, guards, mode, ..Spec::new(kind, fingerprint, len_bytes) };
            let name = name.map(|name| name.parse().unwrap());
            let header = Header { spec, name, id, creator_uid, created_unix_ns };
            prop_assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        }

        /// Bytes of a hostile creator, who knows how to compute the checksum.
        #[test]
        fn whatever_is_decoded_is_a_header(random: [u8; 32], flips in proptest::collection::vec((12..248_usize, any::<u8>()), 0..4)) {
            let spec = Spec::new(1, 2, USER_OFFSET + 4096);
            let name = Some("name".parse().unwrap());
            let mut bytes = Header { spec, name, id: 3, creator_uid: 4, created_unix_ns: 5 }.encode();
            for (index, (at, byte)) in flips.into_iter().enumerate() {
                bytes[at] = if index % 2 == 0 { byte } else { random[at % 32] };
            }
            let bytes = sealed(bytes);
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
                prop_assert!(header.spec.check().is_ok());
            }
        }
    }

    #[test]
    fn hostile_fields_are_named() {
        let header = Header {
            spec: Spec::new(1, 2, USER_OFFSET + 4096),
            name: Some("name".parse().unwrap()),
            id: 3,
            creator_uid: 4,
            created_unix_ns: 5,
        };
        let refused = |at: usize, value: u64| {
            let mut bytes = header.encode();
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            match Header::decode(&sealed(bytes)).unwrap_err() {
                RegionError::Header { field, .. } => field,
                RegionError::Layout { .. } => "layout",
                error => panic!("{error}"),
            }
        };
        assert_eq!(MAGIC.to_le_bytes()[0], 0x89);
        assert_eq!(refused(head::LAYOUT, !LAYOUT_FINGERPRINT), "layout");
        assert_eq!(refused(head::LEN_MIN, 4096), "len_min");
        assert_eq!(refused(head::LEN_MAX, u64::MAX), "len_max");
        assert_eq!(refused(head::PAGE_SIZE, 2 << 20), "page_size");
        assert_eq!(refused(head::GUARD_LOW, 4096), "guards");
        assert_eq!(refused(head::GUARD_HIGH, USER_OFFSET + 8192), "guards");
        assert_eq!(refused(head::NAME, 0x2f), "name");
        assert_eq!(refused(head::NAME + 32, 1), "name");
        assert_eq!(refused(head::RESERVED_STATIC, 1), "reserved");
        let mut bytes = header.encode();
        bytes[head::MODE + 1] = 0xff;
        assert!(matches!(Header::decode(&sealed(bytes)), Err(RegionError::Header { field: "mode", .. })));
    }
}
