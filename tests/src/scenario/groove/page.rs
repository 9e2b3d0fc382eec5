//! The words of a groove's regions as docs/format/groove.md has them, in code of its own: a yardstick for the crate.
//!
//! # Invariants
//! - Nothing here comes from the crate that it is held against.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use outlast_shm::{Domain, USER_OFFSET};

/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 512;
/// Roots of a volume.
const ROOTS: u32 = 51;
/// Words of the volume header, and of a superblock's record.
const HEAD_WORDS: u64 = 72;
const RECORD_WORDS: u64 = 8;
/// State of a descriptor whose object is there.
const LIVE: u64 = 2;

/// Where the superblocks of a class are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Blocks of a slot.
    pub blocks: u32,
    /// Level of its superblocks, from 0 for roots.
    pub level: usize,
    /// Blocks of a superblock.
    pub superblock_blocks: u32,
}

/// The tables of volumes of one size.
#[derive(Debug, Clone)]
pub struct Page {
    /// Blocks of a root.
    pub root_blocks: u32,
    /// The classes that there are, by number.
    pub classes: Vec<Class>,
    /// For each level, blocks from one superblock's place to the next, superblocks of a root, and how many of the
    /// volume come before.
    levels: [(u32, u32, u32); 4],
    bits: u64,
    descriptors: u64,
}

impl Page {
    /// Of volumes of so many bytes, a power of two.
    pub fn new(volume_bytes: u64) -> Self {
        let root_blocks = ((40_960 * volume_bytes) >> 30) as u32;
        let classes: Vec<Class> = sizes()
            .into_iter()
            .filter(|blocks| *blocks <= root_blocks / 2)
            .map(|blocks| class(blocks, root_blocks))
            .collect();
        let mut levels = [(root_blocks, 1, 0), (5120, 0, 0), (640, 0, 0), (40, 0, 0)];
        let mut superblocks = ROOTS;
        for (blocks, in_root, first) in &mut levels[1..] {
            *first = superblocks;
            *in_root = if *blocks * 2 <= root_blocks { root_blocks / *blocks } else { 0 };
            superblocks += ROOTS * *in_root;
        }
        let bits = HEAD_WORDS + RECORD_WORDS * u64::from(superblocks);
        let of_class = |class: &Class| {
            let words = u64::from(ROOTS * levels[class.level].1).div_ceil(64);
            words + words.div_ceil(64)
        };
        let descriptors = (bits + classes.iter().map(of_class).sum::<u64>()).next_multiple_of(8);
        Self { root_blocks, classes, levels, bits, descriptors }
    }

    /// Word of the superblock of a level that begins at a block of a root.
    pub fn superblock(&self, level: usize, root: u32, offset: u32) -> u64 {
        let (blocks, in_root, first) = self.levels[level];
        HEAD_WORDS + RECORD_WORDS * u64::from(first + root * in_root + offset / blocks)
    }

    /// Word of the descriptor of a block.
    pub fn descriptor(&self, root: u32, offset: u32) -> u64 {
        self.descriptors + 2 * u64::from(root * self.root_blocks + offset)
    }

    /// The parts of the tables, in words: header, superblocks, bits, descriptors.
    pub fn parts(&self) -> [(u64, u64); 4] {
        let end = self.descriptor(ROOTS, 0);
        [(0, HEAD_WORDS), (HEAD_WORDS, self.bits), (self.bits, self.descriptors), (self.descriptors, end)]
    }
}

/// Blocks of the slots of each class: 1 to 8, then four to a doubling up to 20,480.
fn sizes() -> Vec<u32> {
    let mut sizes: Vec<u32> = (1..=8).collect();
    let (mut last, mut step) = (8, 2);
    while last < 20_480 {
        for _ in 0..4 {
            last += step;
            sizes.push(last);
        }
        step *= 2;
    }
    sizes.retain(|size| *size <= 20_480);
    sizes
}

fn class(blocks: u32, root_blocks: u32) -> Class {
    let (level, superblock_blocks) = match blocks {
        1 => (3, 40),
        2..=10 => (3, 80),
        11..=80 => (2, 640),
        81..=640 => (1, 5120),
        _ => (0, root_blocks),
    };
    if root_blocks / 2 < superblock_blocks {
        return Class { blocks, level: 0, superblock_blocks: root_blocks };
    }
    Class { blocks, level, superblock_blocks }
}

/// What the descriptor of an object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Its generation.
    pub generation: u32,
    /// Its bytes.
    pub size_bytes: u32,
    /// Its alignment.
    pub align: u64,
    /// Its tag.
    pub tag: u64,
}

impl Object {
    /// The two words of its descriptor.
    pub fn pack(&self) -> [u64; 2] {
        let state = u64::from(self.generation) << 32
            | u64::from(self.size_bytes) << 8
            | u64::from(self.align.trailing_zeros()) << 4
            | LIVE;
        [state, self.tag]
    }

    /// The object of a descriptor, if there is one.
    pub fn unpack([state, tag]: [u64; 2]) -> Option<Self> {
        (state & 0xf == LIVE).then_some(Self {
            generation: (state >> 32) as u32,
            size_bytes: (state >> 8) as u32 & 0xff_ffff,
            align: 1 << (state >> 4 & 0xf),
            tag,
        })
    }
}

/// The file of a region, word by word, as a process sees it that has nothing to do with the crate.
#[derive(Debug)]
pub struct Words(File);

impl Words {
    /// Of the region of this name.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(domain: &Domain, name: &str) -> io::Result<Self> {
        Ok(Self(File::options().read(true).write(true).open(domain.path().join(name))?))
    }

    /// `COUNT` words from word `at` of the tables on.
    ///
    /// # Errors
    /// That of `pread`.
    pub fn read<const COUNT: usize>(&self, at: u64) -> io::Result<[u64; COUNT]> {
        let mut words = [0; COUNT];
        for (index, word) in words.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            self.0.read_exact_at(&mut bytes, USER_OFFSET + 8 * (at + index as u64))?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
    }

    /// Overwrites words; the kernel copies an aligned word by one store.
    ///
    /// # Errors
    /// That of `pwrite`.
    pub fn write(&self, at: u64, words: &[u64]) -> io::Result<()> {
        let place = |index: usize| USER_OFFSET + 8 * (at + index as u64);
        let mut words = words.iter().enumerate();
        words.try_for_each(|(index, word)| self.0.write_all_at(&word.to_le_bytes(), place(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_read_right() {
        let sizes = sizes();
        assert_eq!((sizes.len(), sizes[8], sizes[12], sizes[52]), (53, 10, 20, 20_480));
        let page = Page::new(1 << 30);
        assert_eq!((page.root_blocks, page.classes.len()), (40_960, 53));
        assert_eq!(Page::new(1 << 20).root_blocks, 40);
        let object = Object { generation: 7, size_bytes: 0xff_ffff, align: 512, tag: 9 };
        assert_eq!(object.pack(), [7 << 32 | 0xff_ffff << 8 | 9 << 4 | 2, 9]);
        assert_eq!(Object::unpack(object.pack()), Some(object));
        assert_eq!(Object::unpack([7 << 32 | 3, 9]), None);
    }
}
