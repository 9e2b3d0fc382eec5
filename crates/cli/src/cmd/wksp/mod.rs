//! `outlast wksp ...`: workspaces. `look` asks, `save` writes and reads checkpoints, the rest is here.

mod look;
mod save;

use std::io::{self, Write};

use outlast_shm::{Domain, RegionName};
use outlast_wksp::{Address, AttachError, CreateOptions, Fault, FreeError, QueryError, Report, Wksp};
use serde::Serialize;

use crate::args::{self, Global, WkspCommand};
use crate::exit::Status;
use crate::failure::Failure;
use crate::render::{Count, Mode, Screen, Show};
use crate::size::{Bytes, Human};

pub(super) fn run(command: &args::Wksp, global: &Global, screen: Screen) -> Result<(), Failure> {
    let makes = matches!(command.command, WkspCommand::New(_) | WkspCommand::Restore(_));
    let domain = if makes { super::domain(global)? } else { super::existing_domain(global)? };
    let session = Session { domain, timeout: command.timeout, screen };
    match &command.command {
        WkspCommand::New(new) => session.new_wksp(new),
        WkspCommand::Delete { name } => session.delete(name),
        WkspCommand::List => session.list(),
        WkspCommand::Info { name } => session.info(name),
        WkspCommand::Alloc(alloc) => session.alloc(alloc),
        WkspCommand::Free { address } => session.free(address),
        WkspCommand::Fill { address, byte } => session.fill(address, *byte),
        WkspCommand::Tag { address } => session.tag(address),
        WkspCommand::TagFree { name, tags } => session.tag_free(name, tags),
        WkspCommand::Partitions { name } => session.partitions(name),
        WkspCommand::Usage { name, tags } => session.usage(name, tags),
        WkspCommand::Verify { name } => session.verify(name),
        WkspCommand::Rebuild(seeded) => session.rebuild(seeded),
        WkspCommand::Reset(seeded) => session.reset(seeded),
        WkspCommand::Checkpoint(checkpoint) => session.checkpoint(checkpoint),
        WkspCommand::Restore(restore) => session.restore(restore),
    }
}

/// What every command works with.
#[derive(Debug)]
struct Session {
    domain: Domain,
    timeout: core::time::Duration,
    screen: Screen,
}

/// Says which workspace a failure is about, and what to do about those that have one remedy.
fn explain(failure: impl Into<Failure>, name: &RegionName) -> Failure {
    failure.into().about(format_args!("workspace {name}")).next_if(
        Status::Damaged,
        format!(
            "`outlast wksp verify {name}` lists every fault, `rebuild` mends the index, `reset` empties, `restore` \
             brings a checkpoint back"
        ),
    )
}

/// A failure to find a workspace.
fn explain_attach(error: AttachError, name: &RegionName) -> Failure {
    // Whoever cannot join it cannot mend it either.
    let unlink =
        format!("`outlast region unlink {name}` removes it, `outlast wksp restore {name} ...` makes it anew");
    Failure::from(error)
        .about(format_args!("workspace {name}"))
        .next_if(Status::NotFound, "`outlast wksp list` shows what there is")
        .next_if(Status::Damaged, unlink)
}

/// A failure to find an allocation.
fn explain_address(failure: impl Into<Failure>, address: &Address) -> Failure {
    let name = &address.name;
    let next = format!("`outlast wksp partitions {name}` lists the allocations");
    explain(failure.into().next_if(Status::NotFound, next), name)
}

impl Session {
    /// Joins a workspace for reading and writing.
    fn attach(&self, name: &RegionName) -> Result<Wksp, Failure> {
        let mut wksp = Wksp::attach(&self.domain, name).map_err(|error| explain_attach(error, name))?;
        wksp.set_lock_timeout(self.timeout);
        Ok(wksp)
    }

    fn new_wksp(&self, new: &args::New) -> Result<(), Failure> {
        let args::New { name, size, mode, slots, page_size, seed } = new;
        let mut options = CreateOptions::with_size(*size);
        (options.mode, options.slots, options.page_size, options.seed) = (*mode, *slots, *page_size, *seed);
        let wksp = Wksp::create(&self.domain, name, &options).map_err(|error| explain(error, name))?;
        self.screen.print(&Made {
            name: name.to_string(),
            data_bytes: wksp.data_bytes(),
            len_bytes: wksp.region().len_bytes(),
            mode: Mode(*mode),
        })
    }

    fn delete(&self, name: &RegionName) -> Result<(), Failure> {
        Wksp::delete(&self.domain, name).map_err(|error| explain_attach(error, name))?;
        self.screen.print(&Deleted { name: name.to_string(), deleted: true })
    }

    fn alloc(&self, alloc: &args::Alloc) -> Result<(), Failure> {
        let args::Alloc { name, size, tag, align } = alloc;
        let wksp = self.attach(name)?;
        let block = wksp.alloc(*size, *align, *tag).map_err(|error| {
            let next = "free some, ask for less, or restore a checkpoint of it into a larger one (--size)";
            explain(error, name).next_if(Status::Failed, next)
        })?;
        let gaddr = block.gaddr();
        let answer = Allocated {
            address: Address { name: *name, gaddr }.to_string(),
            name: name.to_string(),
            gaddr: gaddr.get(),
            size: *size,
            tag: *tag,
        };
        let printed = self.screen.print(&answer);
        if printed.is_err() {
            // Nobody knows the address, so nobody would ever free it.
            wksp.free(block).map_err(|error| explain(error, name))?;
            let failure = Failure::new(Status::Failed, "the address could not be written to stdout");
            return Err(failure.about(format_args!("workspace {name}")).or_next("nothing stays allocated"));
        }
        printed
    }

    fn free(&self, address: &Address) -> Result<(), Failure> {
        let Address { name, gaddr } = *address;
        let wksp = self.attach(&name)?;
        let found = wksp.block_at(gaddr).map_err(|error| explain_address(error, address))?;
        let block = found.ok_or_else(|| explain_address(FreeError::NotAllocated { gaddr }, address))?;
        wksp.free(block).map_err(|error| explain_address(error, address))?;
        self.screen.print(&Freed {
            address: Address { name, gaddr: block.gaddr() }.to_string(),
            gaddr: block.gaddr().get(),
            size: block.size_bytes(),
            tag: block.tag(),
        })
    }

    fn fill(&self, address: &Address, byte: u8) -> Result<(), Failure> {
        let wksp = self.attach(&address.name)?;
        let bytes = wksp.memset(address.gaddr, byte).map_err(|error| explain_address(error, address))?;
        self.screen.print(&Filled { address: address.to_string(), bytes, byte })
    }

    fn tag_free(&self, name: &RegionName, tags: &[u64]) -> Result<(), Failure> {
        let freed = self.attach(name)?.tag_free(tags).map_err(|error| explain(error, name))?;
        self.screen.print(&FreedTags { name: name.to_string(), freed_count: freed.0, freed_bytes: freed.1 })
    }

    fn verify(&self, name: &RegionName) -> Result<(), Failure> {
        let report = self.attach(name)?.verify().map_err(|error| explain(error, name))?;
        let printed = self.screen.print(&Verified::of(name, &report));
        if report.is_sound() {
            return printed;
        }
        let count = Count(report.faults.len() as u64, "fault");
        let failure = Failure::new(Status::Damaged, format!("{count} found"));
        let next = format!(
            "`outlast wksp rebuild {name}` mends the index; if an allocation itself is damaged, `reset` or `restore`"
        );
        Err(failure.about(format_args!("workspace {name}")).or_next(next))
    }

    fn rebuild(&self, seeded: &args::Seeded) -> Result<(), Failure> {
        let args::Seeded { name, seed } = seeded;
        self.attach(name)?.rebuild(*seed).map_err(|error| explain(error, name))?;
        self.screen.print(&Mended { name: name.to_string(), done: "rebuilt", seed: *seed })
    }

    fn reset(&self, seeded: &args::Seeded) -> Result<(), Failure> {
        let args::Seeded { name, seed } = seeded;
        self.attach(name)?.reset(*seed).map_err(|error| explain(error, name))?;
        self.screen.print(&Mended { name: name.to_string(), done: "reset", seed: *seed })
    }
}

/// The failure for an address in no allocation.
fn not_allocated(address: &Address) -> Failure {
    explain_address(QueryError::NotAllocated { gaddr: address.gaddr }, address)
}

/// The answer of `new`.
#[derive(Debug, Serialize)]
struct Made {
    name: String,
    data_bytes: u64,
    len_bytes: u64,
    mode: Mode,
}

impl Show for Made {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { name, data_bytes, len_bytes, .. } = self;
        let (data, len) = (Human(*data_bytes), Human(*len_bytes));
        writeln!(out, "made {name}: {data} for allocations, {len} in all")
    }
}

/// The answer of `delete`.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    deleted: bool,
}

impl Show for Deleted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "deleted {}", self.name)
    }
}

/// The answer of `alloc`.
#[derive(Debug, Serialize)]
struct Allocated {
    address: String,
    name: String,
    gaddr: u64,
    size: u64,
    tag: u64,
}

impl Show for Allocated {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.address)
    }
}

/// The answer of `free`.
#[derive(Debug, Serialize)]
struct Freed {
    address: String,
    gaddr: u64,
    size: u64,
    tag: u64,
}

impl Show for Freed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { address, size, tag, .. } = self;
        writeln!(out, "freed {address}: {}, tag {tag}", Bytes(*size))
    }
}

/// The answer of `fill`.
#[derive(Debug, Serialize)]
struct Filled {
    address: String,
    bytes: u64,
    byte: u8,
}

impl Show for Filled {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { address, bytes, byte } = self;
        writeln!(out, "filled {} of {address} with {byte:#04x}", Bytes(*bytes))
    }
}

/// The answer of `tag-free`.
#[derive(Debug, Serialize)]
struct FreedTags {
    name: String,
    freed_count: u64,
    freed_bytes: u64,
}

impl Show for FreedTags {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { freed_count, freed_bytes, .. } = self;
        writeln!(out, "freed {}, {}", Count(*freed_count, "allocation"), Bytes(*freed_bytes))
    }
}

/// The answer of `rebuild` and `reset`.
#[derive(Debug, Serialize)]
struct Mended {
    name: String,
    done: &'static str,
    seed: u32,
}

impl Show for Mended {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { name, done, seed } = self;
        writeln!(out, "{done} {name} with seed {seed}")
    }
}

/// The answer of `verify`.
#[derive(Debug, Serialize)]
struct Verified {
    name: String,
    sound: bool,
    used_count: u64,
    free_count: u64,
    slot_count: u64,
    page_count: u64,
    faults: Vec<TableFault>,
}

#[derive(Debug, Serialize)]
struct TableFault {
    what: String,
    region_offset: u64,
    expected: String,
    found: String,
    #[serde(skip)]
    text: String,
}

impl Verified {
    fn of(name: &RegionName, report: &Report) -> Self {
        let fault = |fault: &Fault| TableFault {
            what: fault.what.to_string(),
            region_offset: fault.at,
            expected: format!("{:#x}", fault.expected),
            found: format!("{:#x}", fault.found),
            text: fault.to_string(),
        };
        Self {
            name: name.to_string(),
            sound: report.is_sound(),
            used_count: report.used_count,
            free_count: report.free_count,
            slot_count: report.slot_count,
            page_count: report.page_count,
            faults: report.faults.iter().map(fault).collect(),
        }
    }
}

impl Show for Verified {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { name, slot_count, page_count, .. } = self;
        if self.sound {
            let (used, free) = (Count(self.used_count, "allocation"), Count(self.free_count, "hole"));
            return writeln!(
                out,
                "{name} is sound: {used}, {free}; {slot_count} slots, {page_count} pages checked"
            );
        }
        self.faults.iter().try_for_each(|fault| writeln!(out, "{}", fault.text))
    }
}
