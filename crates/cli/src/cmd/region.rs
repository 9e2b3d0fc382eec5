//! `outlast region ...`: the files below, and what can be said about one without joining it.

use std::io::{self, Write};

use outlast_shm::{Domain, JoinerInfo, LockState, RegionInfo, RegionName};
use outlast_wksp::REGION_KIND;
use serde::Serialize;

use crate::args::{Global, Region};
use crate::exit::Status;
use crate::failure::Failure;
use crate::render::{Align, Id, Mode, Moment, Screen, Show, fact, table};
use crate::size::{Bytes, Human};

pub(super) fn run(command: &Region, global: &Global, screen: Screen) -> Result<(), Failure> {
    let domain = super::existing_domain(global)?;
    match command {
        Region::List => screen.print(&Entries::read(&domain)?),
        Region::Info { name } => screen.print(&Info::of(&info(&domain, name)?)),
        Region::Unlink { name } => {
            let unlinked = domain.unlink(name);
            unlinked.map_err(|error| explain(error, name))?;
            screen.print(&Unlinked { name: name.to_string(), unlinked: true })
        }
    }
}

/// What there is to say about region `name`.
pub(super) fn info(domain: &Domain, name: &RegionName) -> Result<RegionInfo, Failure> {
    domain.info(name).map_err(|error| explain(error, name))
}

fn explain(error: outlast_shm::RegionError, name: &RegionName) -> Failure {
    Failure::from(error)
        .about(format_args!("region {name}"))
        .next_if(Status::NotFound, "`outlast region list` shows what there is")
        .next_if(Status::Damaged, format!("`outlast region unlink {name}` removes it"))
}

/// What a region holds, in a word.
#[derive(Debug, Clone, Copy)]
struct Kind(u64);

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            REGION_KIND => f.write_str("workspace"),
            other => write!(f, "{other:#018x}"),
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a region is a workspace's.
pub(super) fn is_wksp(info: &RegionInfo) -> bool {
    info.kind == REGION_KIND
}

/// What is known about a region.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    name: String,
    id: Id,
    kind: Kind,
    len_bytes: u64,
    len_max_bytes: u64,
    page_size: String,
    mode: Mode,
    creator_uid: u32,
    created_unix_ns: Moment,
    lock: Lock,
    has_readers: bool,
    joiners: Vec<Joiner>,
}

/// Who holds a region's lock.
#[derive(Debug, Serialize)]
struct Lock {
    /// `None`: nobody.
    holder: Option<Holder>,
    needs_recovery: bool,
    has_waiters: bool,
}

#[derive(Debug, Serialize)]
struct Holder {
    /// `None`: the joiner table does not say.
    pid: Option<u32>,
    tid: u32,
    liveness: String,
}

#[derive(Debug, Serialize)]
struct Joiner {
    slot: usize,
    pid: u32,
    liveness: String,
    join_count: u64,
    /// Whether the record's check is right; if not, the fields above mean nothing.
    intact: bool,
}

impl Info {
    pub(super) fn of(info: &RegionInfo) -> Self {
        Self {
            name: info.name.to_string(),
            id: Id(info.id),
            kind: Kind(info.kind),
            len_bytes: info.len_bytes,
            len_max_bytes: info.len_max_bytes,
            page_size: info.page_size.to_string(),
            mode: Mode(info.mode),
            creator_uid: info.creator_uid,
            created_unix_ns: Moment(info.created_unix_ns),
            lock: Lock::of(&info.lock),
            has_readers: info.has_readers,
            joiners: info.joiners.iter().map(Joiner::of).collect(),
        }
    }
}

impl Lock {
    fn of(state: &LockState) -> Self {
        let holder = state.holder.as_ref().map(|holder| Holder {
            pid: holder.joiner.as_ref().map(|joiner| joiner.pid),
            tid: holder.tid,
            liveness: holder.liveness.to_string(),
        });
        Self { holder, needs_recovery: state.needs_recovery, has_waiters: state.has_waiters }
    }

    fn words(&self) -> String {
        let mut text = match &self.holder {
            None => "free".to_owned(),
            Some(Holder { pid: Some(pid), tid, liveness }) => {
                format!("held by process {pid}, thread {tid}, {liveness}")
            }
            Some(Holder { pid: None, tid, liveness }) => {
                format!("held by thread {tid} of an unknown process, {liveness}")
            }
        };
        if self.needs_recovery {
            text += "; the next holder finishes what a dead one left";
        }
        if self.has_waiters {
            text += "; others wait for it";
        }
        text
    }
}

impl Joiner {
    fn of(info: &JoinerInfo) -> Self {
        Self {
            slot: info.slot.index(),
            pid: info.pid,
            liveness: info.liveness.to_string(),
            join_count: info.join_count,
            intact: info.intact,
        }
    }

    fn words(&self) -> String {
        let Self { slot, pid, liveness, join_count, intact } = self;
        let damaged = if *intact { "" } else { ", its record is damaged" };
        format!("process {pid}, {liveness}, slot {slot}, joins {join_count}{damaged}")
    }
}

impl Show for Info {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        fact(out, "name", &self.name)?;
        fact(out, "id", self.id)?;
        fact(out, "kind", self.kind)?;
        let (len, len_max) = (Bytes(self.len_bytes), Human(self.len_max_bytes));
        fact(out, "length", format_args!("{len}, can grow to {len_max}"))?;
        fact(out, "page size", &self.page_size)?;
        fact(out, "mode", self.mode)?;
        fact(out, "created", format_args!("{} by user {}", self.created_unix_ns, self.creator_uid))?;
        fact(out, "lock", self.lock.words())?;
        fact(out, "readers", if self.has_readers { "some" } else { "none" })?;
        if self.joiners.is_empty() {
            fact(out, "joiners", "none")?;
        }
        self.joiners.iter().try_for_each(|joiner| fact(out, "joiner", joiner.words()))
    }
}

/// Every entry of a domain.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Entries(Vec<Entry>);

/// One entry: a region, or the reason why it is none.
#[derive(Debug, Serialize)]
struct Entry {
    file_name: String,
    #[serde(flatten)]
    info: Option<Info>,
    refused: Option<String>,
}

impl Entries {
    fn read(domain: &Domain) -> Result<Self, Failure> {
        let entries = domain.list()?.into_iter().map(|listing| {
            let file_name = listing.file_name.to_string_lossy().into_owned();
            match listing.info {
                Ok(info) => Entry { file_name, info: Some(Info::of(&info)), refused: None },
                Err(refusal) => Entry { file_name, info: None, refused: Some(refusal.to_string()) },
            }
        });
        Ok(Self(entries.collect()))
    }
}

impl Show for Entries {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let cells = |entry: &Entry| {
            let name = entry.file_name.escape_debug().to_string();
            match (&entry.info, &entry.refused) {
                (Some(info), _) => [
                    name,
                    info.len_bytes.to_string(),
                    info.mode.to_string(),
                    info.created_unix_ns.to_string(),
                    info.joiners.len().to_string(),
                    info.kind.to_string(),
                ],
                (None, refused) => {
                    let refused = refused.clone().unwrap_or_default();
                    [name, "-".into(), "-".into(), "-".into(), "-".into(), refused]
                }
            }
        };
        let rows: Vec<[String; 6]> = self.0.iter().map(cells).collect();
        let titles = [
            ("name", Align::Left),
            ("bytes", Align::Right),
            ("mode", Align::Right),
            ("created", Align::Left),
            ("joiners", Align::Right),
            ("holds", Align::Left),
        ];
        table(out, titles, &rows)
    }
}

/// The answer of `unlink`.
#[derive(Debug, Serialize)]
struct Unlinked {
    name: String,
    unlinked: bool,
}

impl Show for Unlinked {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "unlinked {}", self.name)
    }
}
