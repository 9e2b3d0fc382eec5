//! The commands that only ask: list, info, tag, partitions, usage.
//!
//! # Invariants
//! - They look through a read-only join, which takes no lock and stores nothing. Only if the tables never hold
//!   still, as after a kill in the middle of a change, do they join like everybody else, which mends that.

use std::io::{self, Write};

use outlast_shm::RegionName;
use outlast_wksp::{Address, QueryError, Reader, Usage, Wksp};
use serde::Serialize;

use super::{Session, explain, explain_attach, not_allocated};
use crate::cmd::region;
use crate::failure::Failure;
use crate::render::{Align, Count, Mode, Moment, Partition, Show, fact, partition_table, table};
use crate::size::{Bytes, Human};

impl Session {
    /// Asks a read-only join, and a joiner with the lock where that one has no answer.
    fn look<T>(
        &self,
        name: &RegionName,
        ask: impl FnOnce(&Reader) -> Result<T, QueryError>,
        ask_locked: impl FnOnce(&Wksp) -> Result<T, QueryError>,
    ) -> Result<T, Failure> {
        let reader = Reader::attach(&self.domain, name).map_err(|error| explain_attach(error, name))?;
        let answer = match ask(&reader) {
            Err(QueryError::Unstable { .. }) => ask_locked(&self.attach(name)?),
            answer => answer,
        };
        answer.map_err(|error| explain(error, name))
    }

    pub(super) fn list(&self) -> Result<(), Failure> {
        let listings = self.domain.list()?.into_iter().filter_map(|listing| listing.info.ok());
        let workspaces = listings.filter(region::is_wksp).map(|info| Listed {
            name: info.name.to_string(),
            len_bytes: info.len_bytes,
            mode: Mode(info.mode),
            created_unix_ns: Moment(info.created_unix_ns),
            joiner_count: info.joiners.len() as u64,
        });
        self.screen.print(&Workspaces(workspaces.collect()))
    }

    pub(super) fn info(&self, name: &RegionName) -> Result<(), Failure> {
        let info = region::info(&self.domain, name)?;
        let (reader, usage) = match Reader::attach(&self.domain, name) {
            Err(error) if !region::is_wksp(&info) => return Err(explain_attach(error, name)),
            Err(error) => (None, Err(explain_attach(error, name))),
            Ok(reader) => (Some(reader), self.look(name, |reader| reader.usage(&[]), |wksp| wksp.usage(&[]))),
        };
        let printed = self.screen.print(&Info {
            region: region::Info::of(&info),
            data_bytes: reader.map(|reader| reader.data_bytes()),
            usage: usage.as_ref().ok().map(UsageAnswer::of),
            trouble: usage.as_ref().err().map(|failure| failure.message().to_owned()),
        });
        usage.and(printed)
    }

    pub(super) fn tag(&self, address: &Address) -> Result<(), Failure> {
        let gaddr = address.gaddr;
        let tag = self.look(&address.name, |reader| reader.tag(gaddr), |wksp| wksp.tag(gaddr))?;
        let tag = tag.ok_or_else(|| not_allocated(address))?;
        self.screen.print(&Tag { address: address.to_string(), gaddr: gaddr.get(), tag })
    }

    pub(super) fn partitions(&self, name: &RegionName) -> Result<(), Failure> {
        let partitions = self.look(name, Reader::partitions, Wksp::partitions)?;
        let answer = partitions.into_iter().map(|partition| Partition {
            gaddr: partition.gaddr.get(),
            size: partition.size_bytes,
            tag: partition.tag,
        });
        self.screen.print(&Partitions(answer.collect()))
    }

    pub(super) fn usage(&self, name: &RegionName, tags: &[u64]) -> Result<(), Failure> {
        let usage = self.look(name, |reader| reader.usage(tags), |wksp| wksp.usage(tags))?;
        let mut answer = UsageAnswer::of(&usage);
        if !tags.is_empty() {
            answer.matched_count = Some(usage.matched_count);
            answer.matched_bytes = Some(usage.matched_bytes);
        }
        self.screen.print(&answer)
    }
}

/// The answer of `list`.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Workspaces(Vec<Listed>);

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    len_bytes: u64,
    mode: Mode,
    created_unix_ns: Moment,
    joiner_count: u64,
}

impl Show for Workspaces {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let cells = |listed: &Listed| {
            let Listed { name, len_bytes, mode, created_unix_ns, joiner_count } = listed;
            let size = Human(*len_bytes).to_string();
            [name.clone(), size, mode.to_string(), created_unix_ns.to_string(), joiner_count.to_string()]
        };
        let rows: Vec<[String; 5]> = self.0.iter().map(cells).collect();
        let titles = [
            ("name", Align::Left),
            ("size", Align::Right),
            ("mode", Align::Right),
            ("created", Align::Left),
            ("joiners", Align::Right),
        ];
        table(out, titles, &rows)
    }
}

/// The answer of `info`.
#[derive(Debug, Serialize)]
struct Info {
    #[serde(flatten)]
    region: region::Info,
    data_bytes: Option<u64>,
    usage: Option<UsageAnswer>,
    /// Why there is no usage.
    trouble: Option<String>,
}

impl Show for Info {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.region.text(out)?;
        if let Some(data_bytes) = self.data_bytes {
            fact(out, "data", Bytes(data_bytes))?;
        }
        match (&self.usage, &self.trouble) {
            (Some(usage), _) => usage.facts(out),
            (None, trouble) => fact(out, "trouble", trouble.as_deref().unwrap_or("unknown")),
        }
    }
}

/// The answer of `tag`.
#[derive(Debug, Serialize)]
struct Tag {
    address: String,
    gaddr: u64,
    tag: u64,
}

impl Show for Tag {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.tag)
    }
}

/// The answer of `partitions`.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Partitions(Vec<Partition>);

impl Show for Partitions {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        partition_table(out, &self.0)
    }
}

/// The answer of `usage`.
#[derive(Debug, Serialize)]
struct UsageAnswer {
    data_bytes: u64,
    used_count: u64,
    used_bytes: u64,
    free_count: u64,
    free_bytes: u64,
    largest_free_bytes: u64,
    slot_count: u64,
    /// Of the tags asked about, if any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_bytes: Option<u64>,
}

impl UsageAnswer {
    fn of(usage: &Usage) -> Self {
        Self {
            data_bytes: usage.data_bytes,
            used_count: usage.used_count,
            used_bytes: usage.used_bytes,
            free_count: usage.free_count,
            free_bytes: usage.free_bytes,
            largest_free_bytes: usage.largest_free_bytes,
            slot_count: usage.slot_count,
            matched_count: None,
            matched_bytes: None,
        }
    }

    fn facts(&self, out: &mut dyn Write) -> io::Result<()> {
        let (count, bytes) = (Count(self.used_count, "allocation"), Bytes(self.used_bytes));
        fact(out, "used", format_args!("{count}, {bytes}"))?;
        let (count, bytes, largest) =
            (Count(self.free_count, "hole"), Bytes(self.free_bytes), Human(self.largest_free_bytes));
        fact(out, "free", format_args!("{count}, {bytes}, the largest {largest}"))?;
        fact(out, "slots", self.slot_count)?;
        if let (Some(count), Some(bytes)) = (self.matched_count, self.matched_bytes) {
            let (count, bytes) = (Count(count, "allocation"), Bytes(bytes));
            fact(out, "tagged", format_args!("{count}, {bytes}"))?;
        }
        Ok(())
    }
}

impl Show for UsageAnswer {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        fact(out, "data", Bytes(self.data_bytes))?;
        self.facts(out)
    }
}
