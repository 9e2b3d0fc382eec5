//! A volume in this process: its region, and where the parts of a block are.
//!
//! # Invariants
//! - The header's static words matched their check, and the groove's own, when it was opened.
//! - Nothing here trusts a word of the tables: what is read is held against the shape.

use std::sync::Arc;

use outlast_probe::sync::Ordering;
use outlast_shm::{
    Domain, Draft, Region, RegionError, RegionName, SharedBytes, Span, Spec, USER_OFFSET, Words,
};

use crate::bitset::Bitset;
use crate::class::{Home, LEVEL_COUNT, bit_words};
use crate::error::{AccessError, CreateError, Fault, FaultKind};
use crate::layout::{
    BLOCK_BYTES, CLASS_NONE, DESCRIPTOR_WORDS, Geometry, HEAD_WORDS, INFO_BYTES_MAX, ROOT_COUNT, VOLUME_KIND,
    check_of, expect, head, superblock,
};
use crate::object::ObjRef;
use crate::slot::Place;
use crate::word::{Descriptor, Slots, State};

/// The volume may be allocated in.
pub(crate) const OPEN: u64 = 1;
/// Its superblocks are being made anew.
pub(crate) const REBUILDING: u64 = 2;

/// What a volume's header says, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) groove: u128,
    pub(crate) index: usize,
    pub(crate) blocks_log2: u64,
    pub(crate) base: u32,
}

/// A superblock of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) level: usize,
    pub(crate) root: u32,
    /// Its first block in the root.
    pub(crate) offset: u32,
}

/// A volume, mapped.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) index: usize,
    pub(crate) geometry: Geometry,
    /// Generations of this volume begin after this one.
    pub(crate) base: u32,
    pub(crate) region: Region,
    tables: Span,
}

/// The name of a volume's region.
pub(crate) fn region_name(groove: &RegionName, index: usize) -> Result<RegionName, CreateError> {
    Ok(format!("{groove}.v{index:04}").as_str().parse()?)
}

/// The index in the name of a volume's region, if it is one of this groove.
pub(crate) fn index_of_name(groove: &RegionName, name: &str) -> Option<usize> {
    let digits = name.strip_prefix(groove.as_str())?.strip_prefix(".v")?;
    digits.parse().ok().filter(|index| region_name(groove, *index).is_ok_and(|whole| whole.as_str() == name))
}

impl Volume {
    /// Makes an empty volume and publishes its region.
    pub(crate) fn create(
        domain: &Domain,
        name: &RegionName,
        identity: Identity,
        geometry: Geometry,
        info: &[u8],
    ) -> Result<Region, AccessError> {
        let expect = expect(VOLUME_KIND);
        let spec = Spec::new(expect.kind, expect.fingerprint, geometry.region_bytes());
        let draft = Draft::new(domain, name, &spec)?;
        let span = tables(draft.region(), &geometry)?;
        let words = span.words();
        // Relaxed, all of this: nobody else sees the region before it is published.
        let store = |index: usize, value: u64| words.store(index, value, Ordering::Relaxed);
        let fields = identity.to_words();
        fields.iter().enumerate().for_each(|(index, field)| store(index, *field));
        store(head::CHECK, check_of(&fields));
        let info = &info[..info.len().min(INFO_BYTES_MAX)];
        store(head::INFO_LEN, info.len() as u64);
        for (index, chunk) in info.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            store(head::INFO + index, u64::from_le_bytes(bytes));
        }
        for root in 0..ROOT_COUNT {
            store(geometry.superblock_at(root), Slots::OPEN.0);
        }
        store(head::STATE, OPEN);
        outlast_probe::probe!("groove.add.formatted");
        // A region of this name that is there already was made by an `add` that was killed.
        Ok(draft.publish_replacing()?)
    }

    /// A volume whose region has been joined. `groove` is what it must be of.
    pub(crate) fn open(region: Region, index: usize, groove: Option<u128>) -> Result<Arc<Self>, AccessError> {
        let identity = Identity::read(&region, index)?;
        let fault = |expected: u64, found: u64| Fault {
            what: FaultKind::Identity,
            volume: index,
            at: byte_of(head::ID_LOW),
            expected,
            found,
        };
        if groove.is_some_and(|groove| groove != identity.groove) {
            return Err(fault(groove.unwrap_or(0) as u64, identity.groove as u64).into());
        }
        if identity.index != index {
            return Err(fault(index as u64, identity.index as u64).into());
        }
        let geometry = Geometry::new(identity.blocks_log2).ok_or_else(|| fault(0, identity.blocks_log2))?;
        if region.len_bytes() != geometry.region_bytes() {
            return Err(fault(geometry.region_bytes(), region.len_bytes()).into());
        }
        let tables = tables(&region, &geometry)?;
        Ok(Arc::new(Self { index, geometry, base: identity.base, region, tables }))
    }

    /// Header, superblocks, bits and descriptors.
    #[inline]
    pub(crate) fn words(&self) -> Words<'_> {
        self.tables.words()
    }

    /// The volume's state, [`OPEN`] or [`REBUILDING`].
    pub(crate) fn state(&self) -> u64 {
        // Acquire: partner is the Release of a rebuild that ends.
        self.words().load(head::STATE, Ordering::Acquire)
    }

    /// The user's information.
    pub(crate) fn info(&self) -> Vec<u8> {
        let words = self.words();
        // Relaxed: stored before the region was published.
        let load = |index| words.load(index, Ordering::Relaxed);
        let len = (load(head::INFO_LEN) as usize).min(INFO_BYTES_MAX);
        let bytes = (head::INFO..head::RESERVED_TAIL).flat_map(|index| load(index).to_le_bytes());
        bytes.take(len).collect()
    }

    /// The word of a superblock.
    pub(crate) fn slots_at(&self, at: Superblock) -> usize {
        let number = self.geometry.shape.superblock_number(at.level, at.root, at.offset);
        self.geometry.superblock_at(number) + superblock::SLOTS
    }

    /// The slots of a superblock of `class`.
    #[inline]
    pub(crate) fn place(&self, class: usize, home: &Home, root: u32, offset: u32) -> Place {
        let number = self.geometry.shape.superblock_number(home.level, root, offset);
        Place {
            word: self.geometry.superblock_at(number) + superblock::SLOTS,
            class,
            first: self.geometry.descriptor_at(root, offset),
            stride: DESCRIPTOR_WORDS * home.slot_blocks as usize,
            mask: home.mask(),
        }
    }

    /// The bits of a class.
    pub(crate) fn bits(&self, home: &Home) -> Bitset {
        let count = (ROOT_COUNT * self.geometry.shape.per_root[home.level]) as usize;
        Bitset { first: self.geometry.bits_at() + home.bits, words: bit_words(count).0 }
    }

    /// Root and block of a reference, if volumes of this size have it.
    #[inline]
    pub(crate) fn locate(&self, reference: ObjRef) -> Option<(u32, u32)> {
        let (root, offset) = (reference.root(), reference.offset());
        (root < ROOT_COUNT && offset < self.geometry.shape.root_blocks).then_some((root, offset))
    }

    /// The descriptor of a block.
    pub(crate) fn descriptor(&self, root: u32, offset: u32) -> Descriptor {
        // Acquire: partner is the Release of `slot::commit`.
        Descriptor(self.words().load(self.geometry.descriptor_at(root, offset), Ordering::Acquire))
    }

    /// The block, from the word of its descriptor.
    pub(crate) fn block_of(&self, descriptor_at: usize) -> Option<(u32, u32)> {
        let words = descriptor_at.checked_sub(self.geometry.descriptors_at())?;
        if !words.is_multiple_of(DESCRIPTOR_WORDS) {
            return None;
        }
        let blocks = self.geometry.shape.root_blocks;
        let block = u32::try_from(words / DESCRIPTOR_WORDS).ok()?;
        (block < self.geometry.shape.data_blocks()).then_some((block / blocks, block % blocks))
    }

    /// First byte of a block in the volume's data.
    pub(crate) fn data_offset(&self, root: u32, offset: u32) -> u64 {
        u64::from(root * self.geometry.shape.root_blocks + offset) * BLOCK_BYTES
    }

    /// Bytes of the volume's data.
    pub(crate) fn data(&self, start: u64, len: u64) -> Result<SharedBytes<'_>, AccessError> {
        let data = self.geometry.data().start;
        let range = data + start..data + start + len;
        Ok(self.region.bytes(range).map_err(RegionError::from)?)
    }

    /// A fault at a word of the tables.
    #[cold]
    pub(crate) fn fault(&self, what: FaultKind, word: usize, expected: u64, found: u64) -> Fault {
        Fault { what, volume: self.index, at: byte_of(word), expected, found }
    }

    /// Every superblock that there can be, smaller ones first.
    pub(crate) fn superblocks(&self) -> impl Iterator<Item = Superblock> + use<> {
        let shape = self.geometry.shape;
        (0..LEVEL_COUNT).rev().flat_map(move |level| {
            (0..ROOT_COUNT * shape.per_root[level]).map(move |number| {
                let (root, offset) = shape.superblock_place(level, number);
                Superblock { level, root, offset }
            })
        })
    }

    /// The word of a superblock, with the home of its class if it has one that it can have.
    pub(crate) fn superblock(&self, at: Superblock) -> (Slots, Option<(usize, &'static Home)>) {
        // Acquire: partner is the Release of `slot::carve`.
        let slots = Slots(self.words().load(self.slots_at(at), Ordering::Acquire));
        let class = slots.class();
        let shape = self.geometry.shape;
        if class == CLASS_NONE || shape.class_count <= class {
            return (slots, None);
        }
        let home = shape.home(class);
        let fits = home.level == at.level && at.offset.is_multiple_of(home.superblock_blocks);
        (slots, fits.then_some((class, home)))
    }

    /// The slot that a superblock, whose slots are of `home`, is itself: the parent's place and the slot's number.
    /// `None` for a root.
    pub(crate) fn parent_of(&self, home: &Home, root: u32, offset: u32) -> Option<(Place, u32)> {
        if home.parent == CLASS_NONE {
            return None;
        }
        let above = self.geometry.shape.home(home.parent);
        let first = above.superblock_of(offset);
        Some((self.place(home.parent, above, root, first), above.slot_of(first, offset)?))
    }

    /// Counts the objects, and finds the highest generation that was given out. Reads every descriptor.
    pub(crate) fn census(&self) -> (u64, u32) {
        let words = self.words();
        let (first, end) = (self.geometry.descriptors_at(), self.geometry.table_words());
        let (mut objects, mut highest) = (0, self.base);
        for at in (first..end).step_by(DESCRIPTOR_WORDS) {
            // Relaxed: a count, exact only while nobody else is in.
            let word = Descriptor(words.load(at, Ordering::Relaxed));
            objects += u64::from(word.state() == State::Live);
            highest = highest.max(word.generation());
        }
        (objects, highest)
    }
}

impl Identity {
    fn to_words(self) -> [u64; 4] {
        [
            self.groove as u64,
            (self.groove >> 64) as u64,
            self.blocks_log2 << 32 | self.index as u64,
            self.base.into(),
        ]
    }

    /// Reads and checks a volume's header.
    pub(crate) fn read(region: &Region, volume: usize) -> Result<Self, AccessError> {
        let range = USER_OFFSET..byte_of(HEAD_WORDS);
        let words = region.words(range).map_err(RegionError::from)?;
        let mut fields = [0; 4];
        for (index, field) in fields.iter_mut().enumerate() {
            *field = words.load(index, Ordering::Relaxed); // Relaxed: static.
        }
        let (expected, found) = (check_of(&fields), words.load(head::CHECK, Ordering::Relaxed));
        if expected != found {
            let at = byte_of(head::CHECK);
            return Err(Fault { what: FaultKind::Header, volume, at, expected, found }.into());
        }
        Ok(Self {
            groove: u128::from(fields[1]) << 64 | u128::from(fields[0]),
            index: fields[2] as u32 as usize,
            blocks_log2: fields[2] >> 32,
            base: fields[3] as u32,
        })
    }
}

/// Byte offset in the region of a word of the tables.
fn byte_of(word: usize) -> u64 {
    USER_OFFSET + 8 * word as u64
}

fn tables(region: &Region, geometry: &Geometry) -> Result<Span, AccessError> {
    Ok(region.span(geometry.tables()).map_err(RegionError::from)?)
}
