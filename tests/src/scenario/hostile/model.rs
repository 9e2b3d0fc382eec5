//! Calls of a workspace whose tables may be damaged, judged by an exact model.
//!
//! # Invariants
//! - The model holds exactly what the successful calls so far have left, or knows that it does not know.
//! - A typed error of a call that changes nothing leaves the model as it is; one of a call that changes something
//!   leaves two states possible, which are told apart once the workspace answers again.

use std::collections::BTreeMap;

use outlast_shm::LockError;
use outlast_wksp::{
    AccessError, AllocError, AttachError, Block, Domain, FreeError, Gaddr, Partition, QueryError, Reader,
    RegionName, Wksp,
};

use super::words::Tables;
use crate::draw::Draw;

/// What was counted, by name.
pub type Counts = BTreeMap<String, u64>;

/// A call that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `alloc` or `alloc_at_least`.
    Alloc,
    /// `free` of a live block.
    Free,
    /// `free_at` inside of a live block.
    FreeAt,
    /// `free` of a block that was freed before.
    FreeAgain,
    /// `tag_free`.
    TagFree,
    /// `tag` of some address.
    Tag,
    /// `block_at` some address.
    BlockAt,
    /// `memset` of a live block.
    Memset,
    /// `partitions`.
    Partitions,
    /// `tag_query`.
    TagQuery,
    /// `usage`.
    Usage,
    /// `verify`.
    Verify,
    /// `rebuild`.
    Rebuild,
    /// `reset`.
    Reset,
    /// `attach` by name and a question.
    Attach,
    /// A read-only join and its questions.
    Reader,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Alloc,
        Self::Free,
        Self::FreeAt,
        Self::FreeAgain,
        Self::TagFree,
        Self::Tag,
        Self::BlockAt,
        Self::Memset,
        Self::Partitions,
        Self::TagQuery,
        Self::Usage,
        Self::Verify,
        Self::Rebuild,
        Self::Reset,
        Self::Attach,
        Self::Reader,
    ];

    /// One at random; calls that change something and are quick come more often.
    pub fn random(draw: &mut Draw) -> Self {
        match draw.below(100) {
            0..40 => Self::Alloc,
            40..64 => Self::Free,
            64..72 => Self::FreeAt,
            72..86 => draw.pick(&[Self::Tag, Self::BlockAt, Self::Memset, Self::FreeAgain]),
            _ => draw.pick(&Self::ALL),
        }
    }
}

/// What the model knows after a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// The answer was right.
    Right,
    /// A typed error.
    Typed {
        /// Its name in counts.
        name: String,
        /// What the call may have changed nevertheless.
        maybe: Maybe,
    },
}

/// What a call that failed may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maybe {
    /// Nothing.
    Nothing,
    /// It may have allocated this: bytes, alignment, tag.
    Allocated(u64, u64, u64),
    /// It may have freed some of the blocks with one of these tags.
    Freed(Vec<u64>),
}

#[derive(Debug, Clone)]
struct Live {
    block: Block,
    align: u64,
    fill: u8,
}

/// The workspace and what must be in it.
#[derive(Debug)]
pub struct Model {
    wksp: Wksp,
    domain: Domain,
    name: RegionName,
    live: Vec<Live>,
    freed: Vec<Block>,
    tag_count: u64,
    /// Where in the region the static words say it is joinable; damaged ones make only joins fail.
    canary: bool,
}

/// Blocks at most.
const LIVE_MAX: usize = 48;

type Wrong = String;

impl Model {
    /// Of an empty workspace.
    pub fn new(wksp: Wksp, domain: Domain, name: RegionName, canary: bool) -> Self {
        Self { wksp, domain, name, live: Vec::new(), freed: Vec::new(), tag_count: 0, canary }
    }

    /// The join that the calls go through.
    pub fn wksp(&self) -> &Wksp {
        &self.wksp
    }

    /// What is in it, to go back to with [`go_back`](Self::go_back).
    pub fn remember(&self) -> Remembered {
        Remembered { live: self.live.clone(), freed: self.freed.clone() }
    }

    /// The tables are again what they were then; writes the payload anew.
    ///
    /// # Errors
    /// If the payload cannot be written.
    pub fn go_back(&mut self, to: &Remembered) -> Result<(), Wrong> {
        self.live.clone_from(&to.live);
        self.freed.clone_from(&to.freed);
        for Live { block, fill, .. } in &self.live {
            let (gaddr, size) = (block.gaddr().get(), block.size_bytes());
            let filled = self.wksp.bytes(gaddr, size).map(|bytes| bytes.fill(0, size, *fill));
            if !matches!(filled, Ok(Ok(()))) {
                return Err(format!("the payload of {block:?} cannot be written"));
            }
        }
        Ok(())
    }

    /// Makes a call and judges it.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn call(&mut self, kind: Kind, draw: &mut Draw) -> Result<Judged, Wrong> {
        match kind {
            Kind::Alloc => self.alloc(draw),
            Kind::Free | Kind::FreeAt => self.free(kind, draw),
            Kind::FreeAgain => self.free_again(draw),
            Kind::TagFree => self.tag_free(draw),
            Kind::Tag | Kind::BlockAt => self.ask(kind, draw),
            Kind::Memset => self.memset(draw),
            Kind::Partitions => self.judge_list(self.wksp.partitions(), |_| true),
            Kind::TagQuery => {
                let tag = self.random_tag(draw);
                self.judge_list(self.wksp.tag_query(&[tag, u64::MAX]), |found| found == tag)
            }
            Kind::Usage => self.judge_usage(self.wksp.usage(&[self.random_tag(draw)]), draw),
            Kind::Verify => self.verify(),
            Kind::Rebuild => match self.wksp.rebuild(draw.half()) {
                Ok(()) => Ok(Judged::Right),
                Err(error) => Ok(typed(access(&error), Maybe::Nothing)),
            },
            Kind::Reset => match self.wksp.reset(draw.half()) {
                Ok(()) => {
                    self.live.clear();
                    Ok(Judged::Right)
                }
                Err(error) => Ok(typed(access(&error), Maybe::Freed(self.tags()))),
            },
            Kind::Attach => self.attach(draw),
            Kind::Reader => self.reader(draw),
        }
    }

    fn tags(&self) -> Vec<u64> {
        self.live.iter().map(|live| live.block.tag()).collect()
    }

    fn random_tag(&self, draw: &mut Draw) -> u64 {
        if self.live.is_empty() { 1 } else { self.live[draw.index(self.live.len())].block.tag() }
    }

    fn next_tag(&mut self, draw: &mut Draw) -> u64 {
        self.tag_count += 1;
        // Many bits, so that no single flip makes it 0.
        (draw.word() | 1 << 63) & !0xffff_ffff | self.tag_count
    }

    fn alloc(&mut self, draw: &mut Draw) -> Result<Judged, Wrong> {
        if LIVE_MAX <= self.live.len() {
            return self.free(Kind::Free, draw);
        }
        let low_bits = draw.below(15);
        let size = 1 + draw.below(1 << low_bits);
        let align = 1 << draw.below(14);
        let tag = self.next_tag(draw);
        let at_least = draw.once_in(8);
        let made = if at_least {
            self.wksp.alloc_at_least(size, align, tag)
        } else {
            self.wksp.alloc(size, align, tag)
        };
        let whole = if at_least { size.next_multiple_of(64) } else { size };
        match made {
            Ok(block) => self.allocated(block, whole, align, tag, draw),
            Err(AllocError::NoSpace { .. }) if !self.fits(whole, align) => Ok(Judged::Right),
            Err(AllocError::NoSpace { .. }) => {
                Err(format!("alloc of {whole} bytes at {align}: no space, but there is"))
            }
            // A lock that was overwritten meanwhile is noticed after the allocation.
            Err(AllocError::Access(error @ AccessError::Lock(_))) => {
                Ok(typed(access(&error), Maybe::Allocated(whole, align, tag)))
            }
            Err(AllocError::Access(error)) => Ok(typed(access(&error), Maybe::Nothing)),
            Err(AllocError::Table { .. }) => Ok(typed("table".into(), Maybe::Nothing)),
            Err(other) => Err(format!("alloc of {size} bytes at {align}: {other}")),
        }
    }

    fn allocated(
        &mut self,
        block: Block,
        size: u64,
        align: u64,
        tag: u64,
        draw: &mut Draw,
    ) -> Result<Judged, Wrong> {
        let (start, end) = (block.gaddr().get(), block.gaddr().get() + block.size_bytes());
        let sane = start.is_multiple_of(align) && end <= self.wksp.data_bytes();
        if !sane || block.size_bytes() != size || block.tag() != tag {
            return Err(format!("alloc of {size} bytes at {align} under {tag:#x} gave {block:?}"));
        }
        for other in &self.live {
            let (low, high) =
                (other.block.gaddr().get(), other.block.gaddr().get() + other.block.size_bytes());
            if start < high && low < end {
                return Err(format!("alloc gave {block:?}, which overlaps {:?}", other.block));
            }
        }
        let fill = draw.word() as u8;
        let filled = self.wksp.bytes(start, size).map(|bytes| bytes.fill(0, size, fill));
        if !matches!(filled, Ok(Ok(()))) {
            return Err(format!("{block:?} cannot be written"));
        }
        self.live.push(Live { block, align, fill });
        Ok(Judged::Right)
    }

    fn free(&mut self, kind: Kind, draw: &mut Draw) -> Result<Judged, Wrong> {
        if self.live.is_empty() {
            return Ok(Judged::Right);
        }
        let index = draw.index(self.live.len());
        let victim = self.live[index].clone();
        self.payload(&victim)?;
        let freed = if kind == Kind::Free {
            self.wksp.free(victim.block)
        } else {
            let inside = draw.below(victim.block.size_bytes());
            let gaddr = victim.block.gaddr().checked_add(inside).ok_or("an address beyond 2^64")?;
            self.wksp.free_at(gaddr)
        };
        match freed {
            Ok(()) => {
                self.live.swap_remove(index);
                self.freed.push(victim.block);
                if 32 < self.freed.len() {
                    self.freed.remove(0);
                }
                Ok(Judged::Right)
            }
            Err(FreeError::Access(error)) => {
                Ok(typed(access(&error), Maybe::Freed(vec![victim.block.tag()])))
            }
            Err(other) => Err(format!("{kind:?} of {:?}: {other}", victim.block)),
        }
    }

    fn free_again(&mut self, draw: &mut Draw) -> Result<Judged, Wrong> {
        if self.freed.is_empty() {
            return Ok(Judged::Right);
        }
        let block = self.freed[draw.index(self.freed.len())];
        match self.wksp.free(block) {
            Err(FreeError::Stale { .. }) => Ok(Judged::Right),
            Err(FreeError::Access(error)) => Ok(typed(access(&error), Maybe::Nothing)),
            other => Err(format!("a second free of {block:?} gave {other:?}")),
        }
    }

    fn tag_free(&mut self, draw: &mut Draw) -> Result<Judged, Wrong> {
        let tags = [self.random_tag(draw), self.random_tag(draw)];
        let doomed = |live: &Live| tags.contains(&live.block.tag());
        let bytes =
            self.live.iter().filter(|live| doomed(live)).map(|live| live.block.size_bytes()).sum::<u64>();
        let count = self.live.iter().filter(|live| doomed(live)).count() as u64;
        match self.wksp.tag_free(&tags) {
            Ok(freed) if freed == (count, bytes) => {
                self.live.retain(|live| !doomed(live));
                Ok(Judged::Right)
            }
            Ok(freed) => Err(format!("tag_free freed {freed:?}, expected {:?}", (count, bytes))),
            Err(FreeError::Access(error)) => Ok(typed(access(&error), Maybe::Freed(tags.to_vec()))),
            Err(other) => Err(format!("tag_free: {other}")),
        }
    }

    fn ask(&self, kind: Kind, draw: &mut Draw) -> Result<Judged, Wrong> {
        let gaddr = 1 + draw.below(self.wksp.data_bytes() + 100);
        let gaddr = Gaddr::new(gaddr).ok_or("gaddr 0")?;
        let holds = |live: &&Live| {
            let start = live.block.gaddr().get();
            (start..start + live.block.size_bytes()).contains(&gaddr.get())
        };
        let expected = self.live.iter().find(holds).map(|live| live.block);
        let found = if kind == Kind::Tag {
            self.wksp.tag(gaddr).map(|tag| tag == expected.map(|block| block.tag()))
        } else {
            self.wksp.block_at(gaddr).map(|block| block == expected)
        };
        match found {
            Ok(true) => Ok(Judged::Right),
            Ok(false) => Err(format!("{kind:?} of gaddr {gaddr} is wrong, expected {expected:?}")),
            Err(error) => query(error, kind),
        }
    }

    fn memset(&mut self, draw: &mut Draw) -> Result<Judged, Wrong> {
        if self.live.is_empty() {
            return Ok(Judged::Right);
        }
        let index = draw.index(self.live.len());
        let (block, fill) = (self.live[index].block, draw.word() as u8);
        match self.wksp.memset(block.gaddr(), fill) {
            Ok(filled) if filled == block.size_bytes() => {
                self.live[index].fill = fill;
                Ok(Judged::Right)
            }
            Ok(filled) => Err(format!("memset of {block:?} filled {filled} bytes")),
            Err(error) => {
                // It may have filled it before it noticed.
                let again = self.wksp.bytes(block.gaddr().get(), block.size_bytes());
                let filled = again.map(|bytes| bytes.fill(0, block.size_bytes(), fill));
                self.live[index].fill = fill;
                if matches!(filled, Ok(Ok(()))) {
                    query(error, Kind::Memset)
                } else {
                    Err("payload out of reach".into())
                }
            }
        }
    }

    fn judge_list(
        &self,
        found: Result<Vec<Partition>, QueryError>,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<Judged, Wrong> {
        let found = match found {
            Ok(found) => found,
            Err(error) => return query(error, Kind::Partitions),
        };
        let expected: Vec<Partition> =
            self.listing().into_iter().filter(|listed| wanted(listed.tag)).collect();
        if found == expected {
            return Ok(Judged::Right);
        }
        let missing: Vec<_> = expected.iter().filter(|expected| !found.contains(expected)).collect();
        let strange: Vec<_> = found.iter().filter(|found| !expected.contains(found)).collect();
        Err(format!("a listing misses {missing:?} and shows {strange:?}"))
    }

    fn listing(&self) -> Vec<Partition> {
        let of = |live: &Live| {
            let Live { block, .. } = live;
            // The canary's lie.
            let size_bytes = block.size_bytes() + u64::from(self.canary);
            Partition { gaddr: block.gaddr(), size_bytes, tag: block.tag() }
        };
        let mut listing: Vec<Partition> = self.live.iter().map(of).collect();
        listing.sort_unstable_by_key(|listed| listed.gaddr);
        listing
    }

    fn judge_usage(
        &self,
        usage: Result<outlast_wksp::Usage, QueryError>,
        _draw: &mut Draw,
    ) -> Result<Judged, Wrong> {
        let usage = match usage {
            Ok(usage) => usage,
            Err(error) => return query(error, Kind::Usage),
        };
        let (used, gaps) = (self.live.iter().map(|live| live.block.size_bytes()).sum::<u64>(), self.gaps());
        let free = gaps.iter().map(|(start, end)| end - start).sum::<u64>();
        let largest = gaps.iter().map(|(start, end)| end - start).max().unwrap_or(0);
        let right = (usage.used_count, usage.used_bytes) == (self.live.len() as u64, used)
            && (usage.free_count, usage.free_bytes) == (gaps.len() as u64, free)
            && usage.largest_free_bytes == largest;
        if right {
            return Ok(Judged::Right);
        }
        let expected = (self.live.len(), used, gaps.len(), free, largest);
        Err(format!("{usage:?}, expected used count and bytes, free count and bytes, largest {expected:?}"))
    }

    fn verify(&self) -> Result<Judged, Wrong> {
        match self.wksp.verify() {
            Ok(report) if !report.is_sound() => Ok(typed("faults_by_verify".into(), Maybe::Nothing)),
            Ok(report) if report.used_count == self.live.len() as u64 => Ok(Judged::Right),
            Ok(report) => Err(format!("verify finds {report:?}, expected {} allocations", self.live.len())),
            Err(error) => Ok(typed(access(&error), Maybe::Nothing)),
        }
    }

    fn attach(&self, draw: &mut Draw) -> Result<Judged, Wrong> {
        let joined = match Wksp::attach(&self.domain, &self.name) {
            Ok(joined) => joined,
            Err(error) => return Ok(typed(attach(&error), Maybe::Nothing)),
        };
        if joined.data_bytes() != self.wksp.data_bytes() {
            return Err(format!("a new join sees {} bytes", joined.data_bytes()));
        }
        let tag = self.random_tag(draw);
        self.judge_list(joined.tag_query(&[tag]), |found| found == tag)
    }

    fn reader(&self, draw: &mut Draw) -> Result<Judged, Wrong> {
        let reader = match Reader::attach(&self.domain, &self.name) {
            Ok(reader) => reader,
            Err(error) => return Ok(typed(attach(&error), Maybe::Nothing)),
        };
        match draw.below(3) {
            0 => self.judge_list(reader.partitions(), |_| true),
            1 => self.judge_usage(reader.usage(&[]), draw),
            _ => {
                if self.live.is_empty() {
                    return Ok(Judged::Right);
                }
                let block = self.live[draw.index(self.live.len())].block;
                match reader.tag(block.gaddr()) {
                    Ok(found) if found == Some(block.tag()) => Ok(Judged::Right),
                    Ok(found) => Err(format!("a reader says that the tag of {block:?} is {found:?}")),
                    Err(error) => query(error, Kind::Reader),
                }
            }
        }
    }

    fn payload(&self, live: &Live) -> Result<(), Wrong> {
        let (gaddr, size) = (live.block.gaddr().get(), live.block.size_bytes());
        match self.wksp.bytes(gaddr, size).map(|bytes| bytes.is_all(0, size, live.fill)) {
            Ok(Ok(true)) => Ok(()),
            _ => Err(format!("the payload of {:?} is not what was written", live.block)),
        }
    }

    /// Free ranges, whole granules, in address order.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let range = |live: &Live| {
            let start = live.block.gaddr().get();
            (start, (start + live.block.size_bytes()).next_multiple_of(64))
        };
        let mut used: Vec<(u64, u64)> = self.live.iter().map(range).collect();
        used.push((self.wksp.data_bytes(), self.wksp.data_bytes()));
        used.sort_unstable();
        let mut at = 64;
        let mut gaps = Vec::new();
        for (start, end) in used {
            if at < start {
                gaps.push((at, start));
            }
            at = end;
        }
        gaps
    }

    fn fits(&self, size: u64, align: u64) -> bool {
        let align = align.max(64);
        self.gaps().iter().any(|(start, end)| start.next_multiple_of(align) + size <= *end)
    }

    /// After a typed error: rebuilds, and finds out which of the possible states there is; or empties it, however
    /// often that has to be tried while somebody goes on damaging.
    ///
    /// # Errors
    /// If none of the possible states is there, or the workspace cannot be emptied.
    pub fn mend(
        &mut self,
        maybe: &Maybe,
        tables: &Tables,
        draw: &mut Draw,
        counts: &mut Counts,
    ) -> Result<(), Wrong> {
        let mut count = |name: &str| *counts.entry(name.to_owned()).or_default() += 1;
        match self.wksp.rebuild(draw.half()).map(|()| self.wksp.partitions()) {
            Ok(Ok(found)) => {
                self.settle(maybe, &found)?;
                count("rebuilds_that_mended");
                return Ok(());
            }
            Ok(Err(_)) => count("rebuilds_damaged_again"),
            Err(_) => count("rebuilds_refused"),
        }
        for _ in 0..1000 {
            match self.wksp.reset(draw.half()) {
                Ok(()) => {
                    self.live.clear();
                    self.freed.clear();
                    count("resets_that_mended");
                    return Ok(());
                }
                // A lock that names somebody who is alive is never taken from them: that is for an operator.
                Err(AccessError::Lock(_)) => {
                    count("locks_freed_by_hand");
                    tables.write(Tables::LOCK, 0).map_err(|error| error.to_string())?;
                }
                Err(_) => count("resets_to_be_repeated"),
            }
        }
        Err("a reset does not mend the workspace".into())
    }

    /// Takes over what was found, if it is one of the possible states.
    fn settle(&mut self, maybe: &Maybe, found: &[Partition]) -> Result<(), Wrong> {
        let expected = self.listing();
        let missing: Vec<_> = expected.iter().filter(|expected| !found.contains(expected)).collect();
        let strange: Vec<_> = found.iter().filter(|found| !expected.contains(found)).collect();
        match (maybe, &missing[..], &strange[..]) {
            (_, [], []) => Ok(()),
            (Maybe::Freed(tags), gone, []) if gone.iter().all(|gone| tags.contains(&gone.tag)) => {
                let gone: Vec<u64> = gone.iter().map(|gone| gone.tag).collect();
                self.live.retain(|live| !gone.contains(&live.block.tag()));
                Ok(())
            }
            (Maybe::Allocated(size, align, tag), [], [made])
                if (made.size_bytes, made.tag) == (*size, *tag)
                    && made.gaddr.get().is_multiple_of(*align) =>
            {
                // Nobody has its block: it goes the way of everything that nobody has.
                match self.wksp.free_at(made.gaddr) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        // Damaged meanwhile: back to where the model is exact.
                        let _ = error;
                        self.empty()
                    }
                }
            }
            _ => Err(format!("after {maybe:?} a rebuilt workspace misses {missing:?} and shows {strange:?}")),
        }
    }

    fn empty(&mut self) -> Result<(), Wrong> {
        for _ in 0..1000 {
            if self.wksp.reset(0).is_ok() {
                self.live.clear();
                self.freed.clear();
                return Ok(());
            }
        }
        Err("a reset does not empty the workspace".into())
    }

    /// Whether the blocks are aligned as asked, all of them; for the end.
    pub fn is_aligned(&self) -> bool {
        self.live.iter().all(|live| live.block.gaddr().get().is_multiple_of(live.align))
    }
}

/// What a model held at some moment.
#[derive(Debug, Clone)]
pub struct Remembered {
    live: Vec<Live>,
    freed: Vec<Block>,
}

fn typed(name: String, maybe: Maybe) -> Judged {
    Judged::Typed { name, maybe }
}

fn query(error: QueryError, kind: Kind) -> Result<Judged, Wrong> {
    match error {
        QueryError::Access(error) => Ok(typed(access(&error), Maybe::Nothing)),
        QueryError::Unstable { .. } => Ok(typed("unstable".into(), Maybe::Nothing)),
        other => Err(format!("{kind:?}: {other}")),
    }
}

fn access(error: &AccessError) -> String {
    match error {
        AccessError::Lock(LockError::Busy { .. }) => "lock_busy".into(),
        AccessError::Lock(LockError::Stolen { .. }) => "lock_stolen".into(),
        AccessError::Lock(LockError::Reentrant { .. }) => "lock_reentrant".into(),
        AccessError::Lock(_) => "lock_other".into(),
        AccessError::Corrupt(fault) => format!("corrupt_{:?}", fault.what),
        AccessError::Restoring { .. } => "restoring".into(),
        AccessError::Replaced => "replaced".into(),
        AccessError::Region(_) => "region".into(),
        _ => "other".into(),
    }
}

fn attach(error: &AttachError) -> String {
    match error {
        AttachError::Corrupt(fault) => format!("attach_corrupt_{:?}", fault.what),
        _ => "attach_region".into(),
    }
}
