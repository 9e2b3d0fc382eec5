//! Size classes, and which superblock holds the slots of each, for every size of volume.
//!
//! A class is a size of slots in blocks. Its slots stand side by side in a *superblock* of its class, which is
//! itself a slot of a larger class, or a root: a 51st part of the volume. The superblocks of one nominal size
//! have aligned places, so the superblock of a slot is found by division.
//!
//! # Invariants
//! - Sizes ascend, and each is at most 5/4 of the one before from 8 blocks on.
//! - A superblock has 1 to 53 slots, which fit into it; a chain from a slot to its root has at most 4
//!   superblocks.
//!
//! Both are asserted when the crate is compiled, for all sizes of volumes.

use crate::layout::{
    BLOCK_BYTES, CLASS_COUNT, CLASS_NONE, ROOT_BLOCKS_MAX, ROOT_COUNT, VOLUME_BLOCKS_LOG2_MAX,
    VOLUME_BLOCKS_LOG2_MIN,
};

/// Levels of superblocks: roots and three sizes below.
pub(crate) const LEVEL_COUNT: usize = 4;
/// Blocks between neighbouring superblocks of a level; a root's are the volume's.
const LEVEL_BLOCKS: [u32; LEVEL_COUNT] = [0, 5120, 640, 40];
/// Sizes of volumes.
const SHAPE_COUNT: usize = (VOLUME_BLOCKS_LOG2_MAX - VOLUME_BLOCKS_LOG2_MIN + 1) as usize;

/// Blocks of a slot of each class: 1 to 8, then four to a doubling.
pub(crate) const SIZES: [u32; CLASS_COUNT] = {
    let mut sizes = [0; CLASS_COUNT];
    let mut class = 0;
    while class < CLASS_COUNT {
        sizes[class] = if class < 8 {
            class as u32 + 1
        } else {
            let (doubling, quarter) = ((class - 8) / 4, (class - 8) % 4);
            (2 << doubling) * (5 + quarter as u32)
        };
        class += 1;
    }
    sizes
};

/// The smallest class whose slots have at least `blocks` blocks, for 1 to 20,480 blocks.
#[inline]
pub(crate) const fn class_of_blocks(blocks: u32) -> usize {
    if blocks <= 8 {
        return blocks.saturating_sub(1) as usize;
    }
    let doubling = (blocks - 1).ilog2() - 3;
    let above = blocks - (8 << doubling);
    8 + 4 * doubling as usize + above.div_ceil(2 << doubling) as usize - 1
}

/// Blocks that an object of `size_bytes` needs; an empty one needs a block too, so that it has an address.
#[inline]
pub(crate) const fn blocks_of_bytes(size_bytes: u64) -> u64 {
    let blocks = size_bytes.div_ceil(BLOCK_BYTES);
    if blocks == 0 { 1 } else { blocks }
}

/// `dividend / divisor` for a dividend below 2^16, with `reciprocal(divisor)`.
#[inline]
const fn divide(dividend: u32, reciprocal: u64) -> u32 {
    ((dividend as u64 * reciprocal) >> 32) as u32
}

/// The error of the product is below 2^-16, so below the distance of any quotient to the next integer.
const fn reciprocal(divisor: u32) -> u64 {
    (1_u64 << 32).div_ceil(divisor as u64)
}

/// Where the slots of a class are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home {
    /// Level of its superblocks.
    pub(crate) level: usize,
    /// Slots in each of them.
    pub(crate) slots: u32,
    /// Blocks of each slot.
    pub(crate) slot_blocks: u32,
    /// Blocks of each superblock.
    pub(crate) superblock_blocks: u32,
    /// The class whose slots these superblocks are; [`CLASS_NONE`] for roots.
    pub(crate) parent: usize,
    slot_reciprocal: u64,
    superblock_reciprocal: u64,
    /// First word, within the volume's bits, of the bits of this class.
    pub(crate) bits: usize,
}

impl Home {
    /// The superblock, by its first block, that holds block `offset` of a root.
    #[inline]
    pub(crate) const fn superblock_of(&self, offset: u32) -> u32 {
        divide(offset, self.superblock_reciprocal) * self.superblock_blocks
    }

    /// The slot of the superblock that begins at `superblock`, which holds block `offset`, if it begins there.
    #[inline]
    pub(crate) const fn slot_of(&self, superblock: u32, offset: u32) -> Option<u32> {
        let slot = divide(offset - superblock, self.slot_reciprocal);
        if slot < self.slots && superblock + slot * self.slot_blocks == offset { Some(slot) } else { None }
    }

    /// The slot of the superblock that begins at `superblock`, which holds block `offset`; its tail has none.
    pub(crate) const fn slot_around(&self, superblock: u32, offset: u32) -> Option<u32> {
        let slot = divide(offset - superblock, self.slot_reciprocal);
        if slot < self.slots { Some(slot) } else { None }
    }

    /// One bit for each slot.
    #[inline]
    pub(crate) const fn mask(&self) -> u64 {
        (1 << self.slots) - 1
    }
}

/// Everything about the volumes of one size.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Blocks of a root.
    pub(crate) root_blocks: u32,
    /// Classes that there are; objects of larger ones do not fit a volume of this size.
    pub(crate) class_count: usize,
    /// For each class, its home.
    homes: [Home; CLASS_COUNT],
    /// For each level, superblocks in each root; 0 if there is no such level.
    pub(crate) per_root: [u32; LEVEL_COUNT],
    /// For each level, the number of its first superblock among all of the volume.
    pub(crate) level_first: [u32; LEVEL_COUNT],
    /// Superblocks of all levels.
    pub(crate) superblock_count: u32,
    /// Words of the volume's bits.
    pub(crate) bits_words: usize,
}

const NOWHERE: Home = Home {
    level: 0,
    slots: 0,
    slot_blocks: 0,
    superblock_blocks: 0,
    parent: CLASS_NONE,
    slot_reciprocal: 0,
    superblock_reciprocal: 0,
    bits: 0,
};

/// Words of the bits, and of the summary of the bits, of `count` superblocks.
pub(crate) const fn bit_words(count: usize) -> (usize, usize) {
    let words = count.div_ceil(64);
    (words, words.div_ceil(64))
}

impl Shape {
    const fn new(blocks_log2: u32) -> Self {
        let root_blocks = ROOT_BLOCKS_MAX >> (VOLUME_BLOCKS_LOG2_MAX - blocks_log2);
        let mut shape = Self {
            root_blocks,
            class_count: class_of_blocks(root_blocks / 2) + 1,
            homes: [NOWHERE; CLASS_COUNT],
            per_root: [1, 0, 0, 0],
            level_first: [0; LEVEL_COUNT],
            superblock_count: ROOT_COUNT,
            bits_words: 0,
        };
        let mut level = 1;
        while level < LEVEL_COUNT {
            if LEVEL_BLOCKS[level] * 2 <= root_blocks {
                shape.per_root[level] = root_blocks / LEVEL_BLOCKS[level];
            }
            shape.level_first[level] = shape.superblock_count;
            shape.superblock_count += ROOT_COUNT * shape.per_root[level];
            level += 1;
        }
        let mut class = 0;
        while class < shape.class_count {
            shape.homes[class] = shape.home_of(class);
            let (words, summary) =
                bit_words((ROOT_COUNT * shape.per_root[shape.homes[class].level]) as usize);
            shape.bits_words += words + summary;
            class += 1;
        }
        shape.check();
        shape
    }

    const fn home_of(&self, class: usize) -> Home {
        let slot_blocks = SIZES[class];
        let (mut level, mut superblock_blocks) = match slot_blocks {
            1 => (3, 40),
            2..=10 => (3, 80),
            11..=80 => (2, 640),
            81..=640 => (1, 5120),
            _ => (0, self.root_blocks),
        };
        if self.root_blocks < superblock_blocks * 2 {
            (level, superblock_blocks) = (0, self.root_blocks);
        }
        Home {
            level,
            slots: superblock_blocks / slot_blocks,
            slot_blocks,
            superblock_blocks,
            parent: if level == 0 { CLASS_NONE } else { class_of_blocks(superblock_blocks) },
            slot_reciprocal: reciprocal(slot_blocks),
            superblock_reciprocal: reciprocal(superblock_blocks),
            bits: self.bits_words,
        }
    }

    /// The laws; a failure is an error of compilation.
    const fn check(&self) {
        let mut class = 0;
        while class < self.class_count {
            let home = &self.homes[class];
            assert!(1 <= home.slots && home.slots <= 53, "a superblock word has a bit for each slot");
            assert!(home.slots * home.slot_blocks <= home.superblock_blocks);
            assert!(class_of_blocks(SIZES[class]) == class);
            assert!(self.root_blocks.is_multiple_of(home.superblock_blocks));
            assert!(home.level == 0 || home.superblock_blocks.is_multiple_of(LEVEL_BLOCKS[home.level]));
            let (mut depth, mut up) = (1, home.parent);
            while up != CLASS_NONE {
                assert!(class < up && up < self.class_count && self.homes[up].level < home.level);
                depth += 1;
                up = self.homes[up].parent;
            }
            assert!(depth <= LEVEL_COUNT);
            if 8 <= class {
                assert!(SIZES[class] * 4 <= SIZES[class - 1] * 5);
            }
            class += 1;
        }
    }

    /// The volumes of 2^`blocks_log2` blocks; `None` if there are none.
    pub(crate) fn of(blocks_log2: u64) -> Option<&'static Self> {
        let first = u64::from(VOLUME_BLOCKS_LOG2_MIN);
        SHAPES.get(usize::try_from(blocks_log2.checked_sub(first)?).ok()?)
    }

    /// Where the slots of a class are.
    ///
    /// # Panics
    /// If there is no such class.
    #[inline]
    pub(crate) fn home(&self, class: usize) -> &Home {
        assert!(class < self.class_count, "class {class} of {}", self.class_count);
        &self.homes[class]
    }

    /// Bytes of the largest object.
    pub(crate) const fn object_bytes_max(&self) -> u64 {
        self.root_blocks as u64 / 2 * BLOCK_BYTES
    }

    /// Blocks of data of a volume.
    pub(crate) const fn data_blocks(&self) -> u32 {
        ROOT_COUNT * self.root_blocks
    }

    /// The number, among all of the volume, of the superblock of `level` that begins at block `offset` of
    /// `root`.
    #[inline]
    pub(crate) fn superblock_number(&self, level: usize, root: u32, offset: u32) -> u32 {
        self.level_first[level] + self.superblock_in_level(level, root, offset)
    }

    /// The number of that superblock among its level.
    #[inline]
    pub(crate) fn superblock_in_level(&self, level: usize, root: u32, offset: u32) -> u32 {
        match level {
            0 => root,
            1 => root * self.per_root[1] + offset / LEVEL_BLOCKS[1],
            2 => root * self.per_root[2] + offset / LEVEL_BLOCKS[2],
            _ => root * self.per_root[3] + offset / LEVEL_BLOCKS[3],
        }
    }

    /// Root and first block of a superblock, from its number in its level.
    pub(crate) fn superblock_place(&self, level: usize, number: u32) -> (u32, u32) {
        let root = number / self.per_root[level];
        (root, number % self.per_root[level] * LEVEL_BLOCKS[level])
    }
}

static SHAPES: [Shape; SHAPE_COUNT] = {
    let mut shapes = [const { Shape::new(VOLUME_BLOCKS_LOG2_MIN) }; SHAPE_COUNT];
    let mut index = 0;
    while index < SHAPE_COUNT {
        shapes[index] = Shape::new(VOLUME_BLOCKS_LOG2_MIN + index as u32);
        index += 1;
    }
    shapes
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_class_is_the_smallest_that_fits() {
        for blocks in 1..=ROOT_BLOCKS_MAX / 2 {
            let expected = SIZES.iter().position(|size| blocks <= *size).unwrap();
            assert_eq!(class_of_blocks(blocks), expected, "{blocks} blocks");
        }
    }

    #[test]
    fn a_quotient_by_reciprocal_is_the_quotient() {
        for divisor in SIZES.iter().chain(&[ROOT_BLOCKS_MAX]) {
            let factor = reciprocal(*divisor);
            for dividend in 0..=u32::from(u16::MAX) {
                assert_eq!(divide(dividend, factor), dividend / divisor, "{dividend} / {divisor}");
            }
        }
    }

    /// The table that the format page speaks of; `cargo test -- --nocapture` prints it.
    #[test]
    fn waste_is_bounded() {
        let shape = Shape::of(VOLUME_BLOCKS_LOG2_MAX.into()).unwrap();
        println!("class  blocks  slots  of  level  tail %  worst %  mean %");
        for class in 0..shape.class_count {
            let home = shape.home(class);
            let blocks = f64::from(home.slot_blocks);
            let least = if class == 0 { 1 } else { SIZES[class - 1] + 1 };
            let worst = (blocks - f64::from(least)) / f64::from(least) * 100.0;
            let mean = (least..=home.slot_blocks).map(|n| (blocks - f64::from(n)) / blocks).sum::<f64>()
                / f64::from(home.slot_blocks - least + 1)
                * 100.0;
            let tail = 100.0 - f64::from(home.slots) * blocks / f64::from(home.superblock_blocks) * 100.0;
            println!(
                "{class:>5}  {:>6}  {:>5}  {:>6}  {}  {tail:>5.1}  {worst:>5.1}  {mean:>5.1}",
                home.slot_blocks, home.slots, home.superblock_blocks, home.level
            );
            assert!(worst < 25.0, "class {class} wastes {worst} % of what was asked for");
        }
    }

    proptest! {
        #[test]
        fn a_slot_is_found_from_its_first_block(log2 in VOLUME_BLOCKS_LOG2_MIN..=VOLUME_BLOCKS_LOG2_MAX,
            class in 0..CLASS_COUNT, root in 0..ROOT_COUNT, pick: u32, slot: u32)
        {
            let shape = Shape::of(log2.into()).unwrap();
            let home = shape.home(class % shape.class_count);
            let superblock = pick % (shape.root_blocks / home.superblock_blocks) * home.superblock_blocks;
            let slot = slot % home.slots;
            let first = superblock + slot * home.slot_blocks;
            for offset in [first, first + home.slot_blocks / 2, first + home.slot_blocks - 1] {
                prop_assert_eq!(home.superblock_of(offset), superblock);
                prop_assert_eq!(home.slot_of(superblock, offset), (offset == first).then_some(slot));
                prop_assert_eq!(home.slot_around(superblock, offset), Some(slot));
            }
            let number = shape.superblock_in_level(home.level, root, superblock);
            prop_assert!(number < ROOT_COUNT * shape.per_root[home.level]);
            prop_assert_eq!(shape.superblock_place(home.level, number), (root, superblock));
        }
    }
}
