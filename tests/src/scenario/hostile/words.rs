//! The words of a region that are not payload, and ways to damage one.
//!
//! # Invariants
//! - Payload and guard pages are never touched.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use outlast_shm::USER_OFFSET;
use outlast_wksp::Wksp;

use crate::draw::Draw;

/// Bytes of the workspace header; docs/format/wksp.md.
const HEAD_BYTES: u64 = 8192;
/// Bytes of the static words at its beginning.
const HEAD_STATIC_BYTES: u64 = 32;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// Bytes of the region's static header, after which comes the lock word; docs/format/region.md.
const STATIC_BYTES: u64 = 256;
/// Bytes of a joiner slot.
const JOINER_BYTES: u64 = 256;

/// Where the words of one workspace are, and its file, which reaches all of them.
#[derive(Debug)]
pub struct Tables {
    file: File,
    map: Range<u64>,
    slots_start: u64,
}

impl Tables {
    /// Of a workspace that is joined.
    ///
    /// # Errors
    /// If its descriptor cannot be duplicated.
    pub fn of(wksp: &Wksp) -> io::Result<Self> {
        let file = File::from(wksp.region().fd().as_fd().try_clone_to_owned()?);
        let map_start = USER_OFFSET + HEAD_BYTES;
        let map_end = map_start + wksp.data_bytes() / PAGE * 8;
        let slots_start = map_end.next_multiple_of(PAGE) + PAGE + wksp.data_bytes() + PAGE;
        Ok(Self { file, map: map_start..map_end, slots_start })
    }

    /// The word that holds the lock.
    pub const LOCK: u64 = STATIC_BYTES;

    /// Slots that the file holds now.
    ///
    /// # Errors
    /// That of `fstat`.
    pub fn slots(&self) -> io::Result<Range<u64>> {
        Ok(self.slots_start..self.file.metadata()?.len())
    }

    /// Every part: static header of the region, lock word, joiners, header of the workspace, page map, slots.
    ///
    /// # Errors
    /// That of `fstat`.
    pub fn parts(&self) -> io::Result<[Range<u64>; 6]> {
        Ok([
            0..STATIC_BYTES,
            Self::LOCK..Self::LOCK + 8,
            PAGE..USER_OFFSET,
            USER_OFFSET..USER_OFFSET + HEAD_BYTES,
            self.map.clone(),
            self.slots()?,
        ])
    }

    /// The parts that are written once: nothing but their own writer's end mends them.
    pub fn static_parts() -> [Range<u64>; 2] {
        [0..STATIC_BYTES, USER_OFFSET..USER_OFFSET + HEAD_STATIC_BYTES]
    }

    /// Joiner slots that are looked at word by word.
    pub fn first_joiners(count: u64) -> Range<u64> {
        PAGE..PAGE + count * JOINER_BYTES
    }

    /// Reads a word.
    ///
    /// # Errors
    /// That of `pread`.
    pub fn read(&self, at: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, at)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Overwrites a word; the kernel copies an aligned word by one store.
    ///
    /// # Errors
    /// That of `pwrite`.
    pub fn write(&self, at: u64, word: u64) -> io::Result<()> {
        self.file.write_all_at(&word.to_le_bytes(), at)
    }

    /// Copies a part out.
    ///
    /// # Errors
    /// That of `pread`.
    pub fn save(&self, part: Range<u64>) -> io::Result<(u64, Vec<u8>)> {
        let mut bytes = vec![0; (part.end - part.start) as usize];
        self.file.read_exact_at(&mut bytes, part.start)?;
        Ok((part.start, bytes))
    }

    /// Puts back what [`save`](Self::save) copied out.
    ///
    /// # Errors
    /// That of `pwrite`.
    pub fn put_back(&self, saved: &(u64, Vec<u8>)) -> io::Result<()> {
        self.file.write_all_at(&saved.1, saved.0)
    }

    /// Wipes the slots by which the file has grown since `saved` was copied out.
    ///
    /// # Errors
    /// That of `pwrite`.
    pub fn wipe_beyond(&self, saved: &[(u64, Vec<u8>)]) -> io::Result<()> {
        let end = saved.iter().map(|(start, bytes)| start + bytes.len() as u64).max().unwrap_or(0);
        let grown = self.slots()?.end.saturating_sub(end);
        if grown == 0 { Ok(()) } else { self.file.write_all_at(&vec![0; grown as usize], end) }
    }
}

/// Ways to damage a word that need no other word.
pub const DAMAGES: usize = 7;

/// The word `old` after damage number `damage`.
pub fn damaged(old: u64, damage: usize, draw: &mut Draw) -> u64 {
    match damage % DAMAGES {
        0 => draw.word(),
        1 => old ^ 1 << draw.below(64),
        2 => 0,
        3 => u64::MAX,
        4 => old.wrapping_add(1),
        5 => old.rotate_left(32),
        _ => draw.below(4096),
    }
}
