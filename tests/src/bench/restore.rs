//! Reading checkpoints: verify alone, restore against memcpy, and one allocation on two threads.

use std::path::Path;
use std::time::Duration;

use outlast_checkpt::{Checkpoint, RestoreOptions as DecodeOptions};
use outlast_wksp::{CheckpointOptions, CreateOptions, RestoreMode, RestoreOptions, Style, Wksp};

use super::Context;
use super::checkpoint::{WINDOW, fill};
use super::corpus::{heap_like, noise};
use super::figure::{Figure, Target};
use super::measure::{Pairs, pairs, threads_timed, timed};
use crate::end::{Doing, End};
use crate::place::RegionGuard;

const BYTES: usize = 128 << 20;

/// A named workspace with a checkpoint of it.
struct Saved {
    // Dropped before the guard takes the name away.
    wksp: Wksp,
    directory: tempfile::TempDir,
    _guard: RegionGuard,
}

impl Saved {
    fn new(context: &Context, content: &[u8], style: Style, pieces: bool) -> Result<Self, End> {
        let guard = context.place.guard("bench")?;
        let options = CreateOptions::with_size(content.len() as u64 + (4 << 20));
        let wksp = Wksp::create(guard.domain(), guard.name(), &options).doing("making a workspace")?;
        if pieces {
            fill(&wksp, content)?;
        } else {
            let block = wksp.alloc(content.len() as u64, 64, 1).doing("filling")?;
            wksp.write(block.gaddr().get(), content).doing("filling")?;
        }
        let directory = tempfile::tempdir_in(&context.directory).doing("making a directory")?;
        let saved = Self { wksp, directory, _guard: guard };
        let options = CheckpointOptions::default().style(style);
        saved.wksp.checkpoint(&saved.path(), &options).doing("checkpoint")?;
        Ok(saved)
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("checkpoint")
    }

    fn restore(&mut self, mode: RestoreMode, threads: usize) -> Result<Duration, End> {
        let mut options = RestoreOptions::default();
        options.mode = mode;
        options.decode = DecodeOptions::default().threads(threads);
        let path = self.path();
        let (time, done) = timed(|| self.wksp.restore(&path, &options));
        done.doing("restore").map(|_| time)
    }
}

fn count(threads: usize) -> &'static str {
    if threads == 1 { "1 thread" } else { "2 threads" }
}

fn all_threads(context: &Context) -> Vec<usize> {
    let mut threads = vec![1];
    threads.extend((1 < context.two()).then_some(2));
    threads
}

/// Raw restores into a fresh region and in place, against memcpy on as many threads.
///
/// # Errors
/// [`End`].
pub fn raw(context: &Context) -> Result<Vec<Figure>, End> {
    let content = noise(BYTES, 1);
    let mut saved = Saved::new(context, &content, Style::Raw, true)?;
    let rate = |seconds: &[f64]| Pairs::rate(seconds, BYTES as f64 / 1e9);
    let mut figures = Vec::new();
    for threads in all_threads(context) {
        // Pages that nobody has touched are the fresh region's lot: memcpy gets such pages as well.
        let fresh = |saved: &mut Saved| saved.restore(RestoreMode::Fresh, threads);
        let found = pairs(context, || fresh(&mut saved), || copy_to_fresh(&content, threads))?;
        let what = format!("raw restore to a fresh region, {}", count(threads));
        figures.push(Figure::judged(
            format!("{what} / memcpy to fresh pages"),
            found.speed(),
            "x",
            Target::AtLeast(0.4),
        ));
        figures.push(Figure::plain(what, rate(&found.subject), "GB/s"));
        figures.push(Figure::plain(
            format!("memcpy to fresh pages, {}", count(threads)),
            rate(&found.yardstick),
            "GB/s",
        ));
        let mut touched = content.clone();
        let in_place = |saved: &mut Saved| saved.restore(RestoreMode::InPlace, threads);
        let found =
            pairs(context, || in_place(&mut saved), || Ok(copy_threads(&content, &mut touched, threads)))?;
        let what = format!("raw restore in place, {}", count(threads));
        figures.push(Figure::judged(format!("{what} / memcpy"), found.speed(), "x", Target::AtLeast(0.25)));
        figures.push(Figure::plain(what, rate(&found.subject), "GB/s"));
        figures.push(Figure::plain(format!("memcpy, {}", count(threads)), rate(&found.yardstick), "GB/s"));
    }
    Ok(figures)
}

/// memcpy into pages that were mapped just now.
fn copy_to_fresh(content: &[u8], threads: usize) -> Result<Duration, End> {
    let (time, done) = timed(|| {
        let mut fresh = memmap2::MmapMut::map_anon(content.len()).doing("mapping pages")?;
        copy_threads(content, &mut fresh, threads);
        Ok(fresh)
    });
    done.map(|_: memmap2::MmapMut| time)
}

fn copy_threads(from: &[u8], into: &mut [u8], threads: usize) -> Duration {
    let share = from.len().div_ceil(threads).next_multiple_of(4096);
    let parts: Vec<_> = into.chunks_mut(share).map(std::sync::Mutex::new).collect();
    threads_timed(threads, |thread| {
        let (Some(part), Some(from)) = (parts.get(thread), from.chunks(share).nth(thread)) else { return };
        let mut part = part.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (into, from) in part.chunks_mut(WINDOW).zip(from.chunks(WINDOW)) {
            into.copy_from_slice(from);
        }
    })
}

/// One LZ4-compressed allocation, restored on two threads and on one.
///
/// # Errors
/// [`End`].
pub fn one_allocation(context: &Context) -> Result<Vec<Figure>, End> {
    if context.two() < 2 {
        return Err(End::Skipped("one core: two threads have nothing to show".to_owned()));
    }
    let mut saved = Saved::new(context, &heap_like(BYTES, 1), Style::Lz4, false)?;
    let rate = |seconds: &[f64]| Pairs::rate(seconds, BYTES as f64 / 1e9);
    let mut figures = Vec::new();
    for (mode, name, target) in [
        (RestoreMode::InPlace, "in place", Target::AtLeast(1.7)),
        (RestoreMode::Fresh, "to a fresh region", Target::None),
    ] {
        let (mut two, mut one) = (Vec::new(), Vec::new());
        for turn in 0..=context.pairs {
            context.check()?;
            let pair = (saved.restore(mode, 2)?, saved.restore(mode, 1)?);
            if turn != 0 {
                two.push(pair.0.as_secs_f64());
                one.push(pair.1.as_secs_f64());
            }
        }
        let found = Pairs { subject: two, yardstick: one };
        figures.push(Figure::judged(
            format!("LZ4 restore of one allocation {name}, 2 threads / 1"),
            found.speed(),
            "x",
            target,
        ));
        figures.push(Figure::plain(
            format!("LZ4 restore of one allocation {name}, 2 threads"),
            rate(&found.subject),
            "GB/s",
        ));
        figures.push(Figure::plain(
            format!("LZ4 restore of one allocation {name}, 1 thread"),
            rate(&found.yardstick),
            "GB/s",
        ));
    }
    Ok(figures)
}

/// Verifying checkpoint files, against reading them.
///
/// # Errors
/// [`End`].
pub fn verify(context: &Context) -> Result<Vec<Figure>, End> {
    let mut figures = Vec::new();
    for (style, content) in
        [(Style::Raw, noise(BYTES, 1)), (Style::Lz4, heap_like(BYTES, 1)), (Style::Zstd, heap_like(BYTES, 1))]
    {
        let saved = Saved::new(context, &content, style, true)?;
        let path = saved.path();
        for threads in all_threads(context) {
            let found = pairs(context, || check(&path, threads), || read(&path))?;
            let rate = |seconds: &[f64]| Pairs::rate(seconds, BYTES as f64 / 1e9);
            let what = format!("verify, {style}, {}", count(threads));
            figures.push(Figure::plain(format!("{what} / reading the file"), found.speed(), "x"));
            figures.push(Figure::plain(what, rate(&found.subject), "GB/s of content"));
        }
    }
    Ok(figures)
}

fn check(path: &Path, threads: usize) -> Result<Duration, End> {
    let options = DecodeOptions::default().threads(threads);
    let (time, done) = timed(|| Checkpoint::open(path)?.verify(&options));
    let report = done.doing("verify")?;
    if report.faults.is_empty() {
        Ok(time)
    } else {
        Err(crate::failed!("verify found {} faults", report.faults.len()))
    }
}

fn read(path: &Path) -> Result<Duration, End> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path).doing("opening the file")?;
    let len = file.metadata().doing("the file's length")?.len();
    let mut window = vec![0; WINDOW];
    let (time, done) = timed(|| {
        (0..len / WINDOW as u64).try_for_each(|index| file.read_exact_at(&mut window, index * WINDOW as u64))
    });
    done.doing("reading the file").map(|()| time)
}
