//! The tables of a groove's regions, as bytes.
//!
//! # Invariants
//! - Data is not among them: a file that an image is put in has a hole there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use outlast_shm::Domain;

/// The first page of a region and four joiners; see docs/format/region.md.
const HEAD_BYTES: usize = 4096 + 4 * 256;
/// Bytes of data of a volume of 2 MiB; see docs/format/groove.md.
const DATA_BYTES: usize = 51 * 80 * 512;
/// Bytes of the control header, of an entry and of a seat; how many entries there are.
const CONTROL_BYTES: usize = 128;
const LINE_BYTES: usize = 64;
const ENTRY_COUNT: usize = 1024;
/// Entries and seats that are watched at every instruction.
const LINES_WATCHED: usize = 4;

/// A file of a groove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name in the domain.
    pub name: String,
    /// Bytes of the whole file.
    pub len: u64,
    /// Those before the data.
    pub bytes: Vec<u8>,
}

/// Every file of a groove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// By name.
    pub parts: Vec<Part>,
}

/// What an instruction has stored: part, byte offset, value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The instruction's number.
    pub instruction: u64,
    /// Address of the next one, from where the program is mapped.
    pub next_address: u64,
    /// The words.
    pub words: Vec<(usize, usize, u64)>,
}

/// A call, instruction by instruction.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Before the first.
    pub base: Image,
    /// In order.
    pub changes: Vec<Change>,
    /// Instructions that were stepped.
    pub instruction_count: u64,
}

/// Whether a file is a volume's.
fn is_volume(name: &str) -> bool {
    name.contains(".v")
}

/// Bytes before the data.
fn table_bytes(name: &str, len: u64) -> usize {
    if is_volume(name) { len as usize - DATA_BYTES } else { len as usize }
}

/// The ranges in which a call may store.
fn watched(part: &Part) -> Vec<std::ops::Range<usize>> {
    let tables = outlast_shm::USER_OFFSET as usize;
    if is_volume(&part.name) {
        return vec![0..HEAD_BYTES, tables..part.bytes.len()];
    }
    let seats = tables + CONTROL_BYTES + ENTRY_COUNT * LINE_BYTES;
    let lines = LINES_WATCHED * LINE_BYTES;
    vec![0..HEAD_BYTES, tables..tables + CONTROL_BYTES + lines, seats..seats + lines]
}

impl Image {
    /// Reads a domain.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(domain: &Path) -> io::Result<Self> {
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(domain)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = File::open(entry.path())?;
            let len = file.metadata()?.len();
            let mut bytes = vec![0; table_bytes(&name, len)];
            file.read_exact_at(&mut bytes, 0)?;
            parts.push(Part { name, len, bytes });
        }
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { parts })
    }

    /// Makes the files in an empty domain; of the volumes only, if told so.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, domain: &Domain, only_volumes: bool) -> io::Result<()> {
        for part in self.parts.iter().filter(|part| !only_volumes || is_volume(&part.name)) {
            let path = domain.path().join(&part.name);
            let file = File::create_new(path)?;
            file.set_len(part.len)?;
            file.write_all_at(&part.bytes, 0)?;
        }
        Ok(())
    }

    /// Stores what an instruction has stored.
    pub fn apply(&mut self, change: &Change) {
        for &(part, at, value) in &change.words {
            self.parts[part].bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// The files of a groove that is being used.
pub(super) struct Watch {
    files: Vec<File>,
    pub(super) last: Image,
    scratch: Vec<u8>,
}

impl Watch {
    pub(super) fn new(domain: &Path) -> io::Result<Self> {
        let last = Image::read(domain)?;
        let files: io::Result<_> =
            last.parts.iter().map(|part| File::open(domain.join(&part.name))).collect();
        Ok(Self { files: files?, last, scratch: Vec::new() })
    }

    /// The words that changed since the last look.
    pub(super) fn look(&mut self) -> io::Result<Vec<(usize, usize, u64)>> {
        let mut words = Vec::new();
        for (index, (file, part)) in self.files.iter().zip(&mut self.last.parts).enumerate() {
            self.scratch.resize(part.bytes.len(), 0);
            for range in watched(part) {
                let now = &mut self.scratch[range.clone()];
                file.read_exact_at(now, range.start as u64)?;
                let last = &mut part.bytes[range.clone()];
                if now == last {
                    continue;
                }
                for at in (0..now.len()).step_by(8).filter(|&at| now[at..at + 8] != last[at..at + 8]) {
                    words.push((index, range.start + at, super::super::image::word(now, at)));
                }
                last.copy_from_slice(now);
            }
        }
        Ok(words)
    }

    /// The file that differs from all that was seen to change, or has data, if there is one.
    pub(super) fn unwatched(&self) -> io::Result<Option<String>> {
        for (file, part) in self.files.iter().zip(&self.last.parts) {
            let mut now = vec![0; part.len as usize];
            file.read_exact_at(&mut now, 0)?;
            let (tables, data) = now.split_at(part.bytes.len());
            if tables != part.bytes || data.iter().any(|byte| *byte != 0) {
                return Ok(Some(part.name.clone()));
            }
        }
        Ok(None)
    }
}

impl Trace {
    /// The changes of a word that a filter picks, by part's name and value, in order.
    pub fn changes_of(&self, pick: impl Fn(&str, u64) -> bool) -> Vec<usize> {
        let picks = |change: &Change| {
            change.words.iter().any(|&(part, _, value)| pick(&self.base.parts[part].name, value))
        };
        (0..self.changes.len()).filter(|&index| picks(&self.changes[index])).collect()
    }

    /// Lets change `from` happen as number `to`: what another order of the same stores would have left.
    pub fn reorder(&mut self, from: usize, to: usize) {
        let change = self.changes.remove(from);
        self.changes.insert(to, change);
    }

    /// The words that the last of `applied` changes stored, for messages.
    pub fn describe(&self, applied: usize) -> String {
        let Some(change) = applied.checked_sub(1).and_then(|index| self.changes.get(index)) else {
            return "before its first store".to_owned();
        };
        let words = change
            .words
            .iter()
            .map(|&(part, at, value)| format!("{} +{at:#x} = {value:#x}", self.base.parts[part].name));
        format!(
            "killed at instruction {} of {} (store {applied} of {}, next instruction at +{:#x}), which stored {}",
            change.instruction,
            self.instruction_count,
            self.changes.len(),
            change.next_address,
            words.collect::<Vec<_>>().join(", "),
        )
    }
}
