//! The calls that are swept, and the grooves that they are made in.
//!
//! # Invariants
//! - A groove is made by public calls, but for generations near their end, which nobody can wait for.
//! - [`Operation::model`] knows nothing of the tables.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use outlast_groove::{AllocError, CreateOptions, Groove, Joiner, ObjRef, RefError, VolumeError};
use outlast_shm::Domain;

use super::super::report::Failure;
use super::image::Image;
use super::name;

/// The objects of a groove: size and tag of each.
pub(super) type Objects = BTreeMap<ObjRef, (u64, u64)>;

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `alloc(size, 0, tag)`.
    Alloc(u64, u64),
    /// The same, after the joiner has allocated and freed once, so that it knows a superblock.
    AllocAgain(u64, u64),
    /// `free`.
    Free(ObjRef),
    /// `trim`.
    Trim,
    /// `remove_volume`.
    Remove(usize),
    /// Leaving the groove with a joiner that has allocated and freed an object of this size.
    Leave(u64),
    /// `adopt`: finishes what a killed call left.
    Adopt,
    /// `rebuild`.
    Rebuild,
}

/// What a call returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded and has nothing to say.
    Done,
    /// It allocated.
    Allocated(ObjRef),
    /// It refused, as it should.
    Refused,
}

impl Operation {
    /// Makes the call.
    ///
    /// # Errors
    /// A text: an error that is no answer.
    pub(super) fn perform(&self, groove: &Groove, joiner: &Joiner) -> Result<Outcome, String> {
        match *self {
            Self::Alloc(size, tag) | Self::AllocAgain(size, tag) => match joiner.alloc(size, 0, tag) {
                Ok(object) => Ok(Outcome::Allocated(object)),
                Err(AllocError::Full { .. }) => Ok(Outcome::Refused),
                Err(other) => Err(other.to_string()),
            },
            Self::Free(object) => match joiner.free(object) {
                Ok(()) => Ok(Outcome::Done),
                Err(RefError::AlreadyFreed { .. } | RefError::Stale { .. }) => Ok(Outcome::Refused),
                Err(other) => Err(other.to_string()),
            },
            Self::Trim => joiner.trim().map(|_| Outcome::Done).map_err(|error| error.to_string()),
            Self::Remove(index) => match groove.remove_volume(index) {
                Ok(()) => Ok(Outcome::Done),
                Err(VolumeError::HoldsObjects { .. }) => Ok(Outcome::Refused),
                Err(other) => Err(other.to_string()),
            },
            Self::Adopt => groove.adopt().map(|_| Outcome::Done).map_err(|error| error.to_string()),
            Self::Leave(_) => Ok(Outcome::Done),
            Self::Rebuild => Err("a rebuild is made alone".to_owned()),
        }
    }

    /// What it makes of the objects, given what it returned.
    pub(super) fn model(&self, before: &Objects, outcome: Outcome) -> Objects {
        let mut after = before.clone();
        match (*self, outcome) {
            (Self::Alloc(size, tag) | Self::AllocAgain(size, tag), Outcome::Allocated(object)) => {
                after.insert(object, (size, tag));
            }
            (Self::Free(object), Outcome::Done) => {
                after.remove(&object);
            }
            _ => {}
        }
        after
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(size, tag) => write!(f, "alloc:{size}:{tag}"),
            Self::AllocAgain(size, tag) => write!(f, "alloc-again:{size}:{tag}"),
            Self::Free(object) => write!(f, "free:{}", object.to_bits()),
            Self::Trim => f.write_str("trim"),
            Self::Remove(index) => write!(f, "remove:{index}"),
            Self::Leave(size) => write!(f, "leave:{size}"),
            Self::Adopt => f.write_str("adopt"),
            Self::Rebuild => f.write_str("rebuild"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let numbers: Result<Vec<u64>, _> = parts.map(str::parse).collect();
        let numbers = numbers.map_err(|error| format!("operation {text:?}: {error}"))?;
        Ok(match (name, numbers.as_slice()) {
            ("alloc", &[size, tag]) => Self::Alloc(size, tag),
            ("alloc-again", &[size, tag]) => Self::AllocAgain(size, tag),
            ("free", &[bits]) => Self::Free(ObjRef::from_bits(bits)),
            ("trim", []) => Self::Trim,
            ("remove", &[index]) => Self::Remove(index as usize),
            ("leave", &[size]) => Self::Leave(size),
            ("adopt", []) => Self::Adopt,
            ("rebuild", []) => Self::Rebuild,
            _ => return Err(format!("no operation is called {text:?}")),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Allocated(object) => write!(f, "allocated {}", object.to_bits()),
            Self::Refused => f.write_str("refused"),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split(' ').collect::<Vec<_>>().as_slice() {
            ["done"] => Ok(Self::Done),
            ["refused"] => Ok(Self::Refused),
            ["allocated", bits] => match bits.parse() {
                Ok(bits) => Ok(Self::Allocated(ObjRef::from_bits(bits))),
                Err(error) => Err(format!("outcome {text:?}: {error}")),
            },
            _ => Err(format!("no outcome is called {text:?}")),
        }
    }
}

/// A groove, and the call to be made in it.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// The groove, which nobody has joined.
    pub base: Image,
    /// Its objects.
    pub(super) before: Objects,
    /// The call.
    pub operation: Operation,
}

impl Case {
    /// The adoption of what a kill of this case's call leaves in `image`, which holds `before`.
    pub(super) fn adoption(&self, image: Image, before: Objects) -> Self {
        Self { name: format!("adopt/{}", self.name), base: image, before, operation: Operation::Adopt }
    }

    pub(super) fn failure(&self, reason: String) -> Failure {
        super::failure(&self.name, &self.operation.to_string(), reason)
    }
}

type Made<T> = Result<T, String>;

/// Any error as a text.
fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// The objects of a groove, as a joiner lists them.
pub(super) fn objects(joiner: &Joiner) -> Made<Objects> {
    let listed = joiner.objects(None).map_err(text)?;
    Ok(listed.into_iter().map(|object| (object.reference, (object.size_bytes, object.tag))).collect())
}

/// A groove in the making.
struct Draft {
    directory: tempfile::TempDir,
    groove: Groove,
    joiner: Joiner,
    objects: Vec<ObjRef>,
}

/// A directory that goes away, and a domain in it.
pub(super) fn domain() -> Made<(tempfile::TempDir, Domain)> {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).map_err(text)?;
    let domain = Domain::open(&directory.path().join("domain")).map_err(text)?;
    Ok((directory, domain))
}

impl Draft {
    fn new(volumes: usize) -> Made<Self> {
        let (directory, domain) = domain()?;
        let options = CreateOptions { volume_bytes: 2 << 20 };
        let groove = Groove::create(&domain, &name(), &options).map_err(text)?;
        for _ in 0..volumes {
            groove.add_volume(b"").map_err(text)?;
        }
        let joiner = groove.joiner().map_err(text)?;
        Ok(Self { directory, groove, joiner, objects: Vec::new() })
    }

    fn alloc(mut self, size: u64, count: usize) -> Made<Self> {
        for _ in 0..count {
            let tag = self.objects.len() as u64 + 1;
            self.objects.push(self.joiner.alloc(size, 0, tag).map_err(text)?);
        }
        Ok(self)
    }

    /// Allocates until there is no room.
    fn fill(mut self, size: u64) -> Made<Self> {
        loop {
            match self.joiner.alloc(size, 0, self.objects.len() as u64 + 1) {
                Ok(object) => self.objects.push(object),
                Err(AllocError::Full { .. }) => return Ok(self),
                Err(other) => return Err(other.to_string()),
            }
        }
    }

    /// Frees what the filter picks by number.
    fn free(self, pick: impl Fn(usize) -> bool) -> Made<Self> {
        for (_, object) in self.objects.iter().enumerate().filter(|(number, _)| pick(*number)) {
            self.joiner.free(*object).map_err(text)?;
        }
        Ok(self)
    }

    fn case(self, name: &str, operation: Operation) -> Made<Case> {
        let before = objects(&self.joiner)?;
        drop(self.joiner);
        drop(self.groove);
        let base = Image::read(&self.directory.path().join("domain")).map_err(text)?;
        Ok(Case { name: name.to_owned(), base, before, operation })
    }
}

/// One case for each way through the code. In volumes of 2 MiB objects of one block have a superblock that is a slot
/// of a root, and all others one that is a root.
///
/// # Errors
/// A text.
pub fn cases() -> Result<Vec<Case>, String> {
    use Operation::{Alloc, AllocAgain, Free, Leave, Rebuild, Remove, Trim};
    let full = || Draft::new(1)?.fill(5000);
    let first = |draft: &Draft| draft.objects[0];
    let mut cases = vec![
        Draft::new(1)?.case("alloc/first", Alloc(100, 7))?,
        Draft::new(1)?.alloc(100, 3)?.case("alloc/hinted", Alloc(100, 7))?,
        Draft::new(1)?.alloc(100, 3)?.case("alloc/current", AllocAgain(100, 7))?,
        Draft::new(1)?.alloc(100, 39)?.case("alloc/last-slot", Alloc(100, 7))?,
        Draft::new(2)?.fill(20 << 10)?.case("alloc/full", Alloc(100, 7))?,
        full()?.free(|_| true)?.case("alloc/after-a-trim", Alloc(100, 7))?,
        Draft::new(1)?.alloc(0, 2)?.free(|number| number == 0)?.case("alloc/used-block", Alloc(0, 7))?,
        full()?.free(|number| number % 3 == 0)?.case("trim/little", Trim)?,
        full()?.free(|_| true)?.case("trim/all", Trim)?,
        Draft::new(2)?.alloc(100, 1)?.case("remove/empty", Remove(1))?,
        Draft::new(2)?.fill(5000)?.free(|number| number > 4)?.case("remove/untrimmed", Remove(1))?,
        Draft::new(1)?.alloc(100, 1)?.case("remove/refused", Remove(0))?,
        Draft::new(1)?.alloc(100, 3)?.case("leave", Leave(100))?,
        full()?.free(|number| number % 2 == 0)?.case("rebuild", Rebuild)?,
    ];
    let one = Draft::new(1)?.alloc(100, 3)?;
    let (object, freed) = (first(&one), one.objects[1]);
    cases.push(one.case("free/one-of-some", Free(object))?);
    let full = full()?;
    let object = first(&full);
    cases.push(full.case("free/of-a-full-superblock", Free(object))?);
    let again = Draft::new(1)?.alloc(100, 3)?.free(|number| number == 1)?;
    cases.push(again.case("free/again", Free(freed))?);
    Ok(cases)
}
