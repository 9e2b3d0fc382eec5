//! The workspaces that calls are swept in: one for each way through the code, and random ones.
//!
//! # Invariants
//! - A case is made through the public calls alone, so it is a workspace that can exist.

use outlast_wksp::{Block, CreateOptions, Wksp};
use rand::Rng;
use rand_pcg::Pcg64;

use super::image::{self, Geography};
use super::operation::Operation;

/// A region, and the call to be made in it.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// The bytes of the region's file. Nobody has joined it.
    pub base: Vec<u8>,
    /// Where the parts lie.
    pub geography: Geography,
    /// The call.
    pub operation: Operation,
}

/// Bytes of payload: 16 pages, 1024 granules.
const DATA_BYTES: u64 = 64 << 10;

/// A workspace in the making.
struct Draft {
    wksp: Wksp,
    blocks: Vec<Block>,
}

type Made<T> = Result<T, String>;

impl Draft {
    fn new() -> Made<Self> {
        // The smallest slot table: one page of 64 slots.
        let mut options = CreateOptions::with_size(DATA_BYTES);
        options.slots = Some(1);
        let wksp = Wksp::anonymous(&options).map_err(|error| format!("create: {error}"))?;
        Ok(Self { wksp, blocks: Vec::new() })
    }

    /// A workspace with one block for each (size, alignment), tags 1, 2, ...
    fn with(sizes: &[(u64, u64)]) -> Made<Self> {
        let mut draft = Self::new()?;
        for &(size, align) in sizes {
            let tag = draft.blocks.len() as u64 + 1;
            draft.alloc(size, align, tag)?;
        }
        Ok(draft)
    }

    fn alloc(&mut self, size: u64, align: u64, tag: u64) -> Made<u64> {
        let block = self.wksp.alloc(size, align, tag).map_err(|error| format!("alloc: {error}"))?;
        self.blocks.push(block);
        Ok(block.gaddr().get())
    }

    /// Frees the blocks with these numbers.
    fn free(self, numbers: &[usize]) -> Made<Self> {
        for &number in numbers {
            self.wksp.free(self.blocks[number]).map_err(|error| format!("free: {error}"))?;
        }
        Ok(self)
    }

    fn gaddr(&self, number: usize) -> u64 {
        self.blocks[number].gaddr().get()
    }

    fn case(self, name: &str, operation: Operation) -> Made<Case> {
        let geography = Geography::of(&self.wksp)?;
        let file = image::file(&self.wksp)?;
        drop(self.wksp);
        let base = image::bytes_of(&file).map_err(|error| format!("reading the region: {error}"))?;
        Ok(Case { name: name.to_owned(), base, geography, operation })
    }

    fn case_free(self, name: &str, number: usize) -> Made<Case> {
        let operation = Operation::Free(self.gaddr(number));
        self.case(name, operation)
    }
}

/// Tag of what the swept call allocates: no other word of a region looks like it.
pub const TAG: u64 = 0x00c0_ffee_7a67_0001;

/// Every case that has a name.
///
/// # Errors
/// A text: a workspace could not be made.
pub fn named() -> Result<Vec<Case>, String> {
    let mut cases = allocations()?;
    cases.extend(frees()?);
    cases.extend(wholes()?);
    Ok(cases)
}

fn allocations() -> Made<Vec<Case>> {
    let alloc = |size, align| Operation::Alloc(size, align, TAG);
    // A block in page 0, one that fills page 1, one at the start of page 3: holes on both sides of what is aligned.
    let spread = || Draft::with(&[(64, 64), (4096, 4096), (4096, 4096), (64, 4096)]);
    Ok(vec![
        Draft::new()?.case("alloc/first", alloc(100, 64))?,
        Draft::with(&[(64, 64), (640, 64), (64, 64)])?.free(&[1])?.case("alloc/exact", alloc(640, 64))?,
        Draft::with(&[(64, 64), (640, 64), (64, 64)])?
            .free(&[1])?
            .case("alloc/rest-right", alloc(128, 64))?,
        Draft::with(&[(64, 64); 3])?.case("alloc/same-class", alloc(64, 64))?,
        spread()?.free(&[2])?.case("alloc/exact-aligned", alloc(4096, 4096))?,
        spread()?.free(&[1])?.case("alloc/rest-left", alloc(4096, 4096))?,
        spread()?.free(&[1, 2])?.case("alloc/rest-both", alloc(4096, 4096))?,
        spread()?.case("alloc/rest-both-last", alloc(64, 4096))?,
        Draft::with(&[(64, 64); 8])?.free(&[2, 3, 4])?.case("alloc/idle-slot", alloc(64, 64))?,
        Draft::with(&[(640, 64), (64, 64), (640, 64), (64, 64), (640, 64), (64, 64)])?
            .free(&[0, 2, 4])?
            .case("alloc/one-of-a-class", alloc(640, 64))?,
        Draft::with(&[(1000, 64)])?.case("alloc/many-pages", alloc(3 * 4096 + 1, 64))?,
        Draft::with(&[(64, 64); 62])?.case("alloc/table-growth", alloc(64, 64))?,
        Draft::with(&[(60 << 10, 64)])?.case("alloc/no-space", alloc(8 << 10, 64))?,
        Draft::with(&[(200, 64), (300, 64)])?.case("alloc/newcomer", Operation::JoinAlloc(100, 64, TAG))?,
    ])
}

fn frees() -> Made<Vec<Case>> {
    let row = || Draft::with(&[(640, 64); 7]);
    let pages = || Draft::with(&[(3000, 64), (9000, 64), (3000, 64), (64, 64)]);
    let near = row()?;
    let interior = Operation::FreeAt(near.gaddr(3) + 600);
    let gone = row()?.free(&[3])?;
    let double = Operation::FreeAt(near.gaddr(3) + 600);
    Ok(vec![
        row()?.case_free("free/alone", 3)?,
        row()?.free(&[2])?.case_free("free/after-a-hole", 3)?,
        row()?.free(&[4])?.case_free("free/before-a-hole", 3)?,
        row()?.free(&[2, 4])?.case_free("free/between-holes", 3)?,
        row()?.case_free("free/first", 0)?,
        row()?.case_free("free/last", 6)?,
        row()?.free(&[5])?.case_free("free/up-to-the-end", 6)?,
        Draft::with(&[(640, 64)])?.case_free("free/only-one", 0)?,
        pages()?.case_free("free/many-pages", 1)?,
        pages()?.free(&[0, 2])?.case_free("free/many-pages-between-holes", 1)?,
        near.case("free/interior-address", interior)?,
        gone.case("free/twice", double)?,
    ])
}

fn wholes() -> Made<Vec<Case>> {
    let mixed =
        || Draft::with(&[(64, 64), (5000, 4096), (640, 64), (300, 64), (9000, 64), (64, 128), (640, 64)]);
    let holed = || mixed()?.free(&[2, 5]);
    Ok(vec![
        mixed()?.case("tag-free/some", Operation::TagFree(vec![2, 3, 5, 7]))?,
        holed()?.case("tag-free/all", Operation::TagFree(vec![1, 2, 4, 5, 7]))?,
        mixed()?.case("tag-free/none", Operation::TagFree(vec![99]))?,
        holed()?.case("reset", Operation::Reset(3))?,
        Draft::new()?.case("reset/empty", Operation::Reset(3))?,
        holed()?.case("rebuild", Operation::Rebuild(5))?,
        Draft::new()?.case("rebuild/empty", Operation::Rebuild(0))?,
        holed()?.case("usage", Operation::Usage)?,
        holed()?.case("leave", Operation::Leave)?,
    ])
}

/// A workspace that random calls have made, and a random call in it.
///
/// # Errors
/// A text: a workspace could not be made.
pub fn random(number: u64, rng: &mut Pcg64) -> Result<Case, String> {
    let mut draft = Draft::new()?;
    for step in 0..below(rng, 80) {
        if draft.blocks.is_empty() || below(rng, 5) < 3 {
            let (size, align) = shape(rng);
            // A full workspace is as good as any.
            let _ = draft.alloc(size, align, 1 + step % 7);
        } else {
            let block = draft.blocks.swap_remove(below(rng, draft.blocks.len() as u64) as usize);
            draft.wksp.free(block).map_err(|error| format!("free: {error}"))?;
        }
    }
    let operation = random_operation(&draft, rng);
    draft.case(&format!("random/{number}"), operation)
}

fn random_operation(draft: &Draft, rng: &mut Pcg64) -> Operation {
    let pick =
        (!draft.blocks.is_empty()).then(|| draft.blocks[below(rng, draft.blocks.len() as u64) as usize]);
    match (below(rng, 16), pick) {
        (0, _) => Operation::Reset(below(rng, 1 << 32) as u32),
        (1, _) => Operation::Rebuild(below(rng, 1 << 32) as u32),
        (2, _) => Operation::TagFree(vec![1 + below(rng, 7), 1 + below(rng, 7)]),
        (3..=5, Some(block)) => Operation::Free(block.gaddr().get()),
        (6..=8, Some(block)) => Operation::FreeAt(block.gaddr().get() + below(rng, block.size_bytes())),
        _ => {
            let (size, align) = shape(rng);
            Operation::Alloc(size, align, TAG)
        }
    }
}

/// Size and alignment of a random allocation: mostly small.
fn shape(rng: &mut Pcg64) -> (u64, u64) {
    let bits = below(rng, 14);
    (1 + below(rng, 1 << bits), 1 << below(rng, 14))
}

/// A number below `limit`, near enough to uniform.
pub(super) fn below(rng: &mut Pcg64, limit: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(limit)) >> 64) as u64
}
