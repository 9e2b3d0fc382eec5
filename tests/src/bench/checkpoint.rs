//! Writing checkpoints: raw against pwrite, compressed against loops of the same codec.
//!
//! # Invariants
//! - Subject and yardstick handle the same bytes, and write them (if they do) into files of the same directory
//!   that have held as many bytes before.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use outlast_wksp::{CheckpointOptions, CreateOptions, Style, Wksp};

use super::Context;
use super::corpus::{heap_like, noise};
use super::figure::{Figure, Target};
use super::measure::{Pairs, pairs, threads_timed, timed};
use crate::draw::Draw;
use crate::end::{Doing, End};

/// Bytes of content in raw and in compressed checkpoints.
const RAW_BYTES: usize = 128 << 20;
const CODEC_BYTES: usize = 64 << 20;

/// Bytes that the writer handles at a time by default; the yardsticks do the same.
pub(super) const WINDOW: usize = 256 << 10;

/// Fills `wksp` with `content`, cut into allocations of 64 KiB to 2 MiB.
pub(super) fn fill(wksp: &Wksp, content: &[u8]) -> Result<(), End> {
    let (mut draw, mut rest, mut tag) = (Draw::new(3, 0, 0), content, 1);
    while !rest.is_empty() {
        let size = (65_536 + draw.index(2 << 20)).min(rest.len());
        let block = wksp.alloc(size as u64, 64, tag).doing("filling")?;
        wksp.write(block.gaddr().get(), &rest[..size]).doing("filling")?;
        (rest, tag) = (&rest[size..], tag + 1);
    }
    Ok(())
}

/// An anonymous workspace that holds `content`.
fn filled(content: &[u8]) -> Result<Wksp, End> {
    let options = CreateOptions::with_size(content.len() as u64 + (4 << 20));
    let wksp = Wksp::anonymous(&options).doing("making a workspace")?;
    fill(&wksp, content)?;
    Ok(wksp)
}

fn scratch(context: &Context) -> Result<File, End> {
    tempfile::tempfile_in(&context.directory).doing("making a file")
}

/// Raw checkpoints with all checksums on one thread, against plain pwrite, and against pwrite of private copies:
/// what the safest writer without checksums would do, since peers may write while it does.
///
/// # Errors
/// [`End`].
pub fn raw(context: &Context) -> Result<Vec<Figure>, End> {
    let content = noise(RAW_BYTES, 1);
    let wksp = filled(&content)?;
    let options = CheckpointOptions::default().style(Style::Raw).threads(1);
    let rate = |seconds: &[f64]| Pairs::rate(seconds, RAW_BYTES as f64 / 1e9);
    let mut figures = Vec::new();
    // The target is for the page cache: a sync costs both the same and hides the difference.
    for (how, sync, copy, target) in [
        ("pwrite, page cache", false, false, Target::AtLeast(0.9)),
        ("copy and pwrite, page cache", false, true, Target::None),
        ("pwrite, fdatasync included", true, false, Target::None),
    ] {
        let (ours, theirs) = (scratch(context)?, scratch(context)?);
        let finish = |file: &File| if sync { file.sync_data().doing("fdatasync") } else { Ok(()) };
        let save = || wksp.checkpoint_to(&ours, &options).doing("checkpoint").and_then(|_| finish(&ours));
        let write = || write_plainly(&theirs, &content, copy).and_then(|()| finish(&theirs));
        let found = pairs(context, || measured(save), || measured(write))?;
        figures.push(Figure::judged(format!("raw checkpoint, 1 thread / {how}"), found.speed(), "x", target));
        figures.push(Figure::plain("raw checkpoint, 1 thread", rate(&found.subject), "GB/s"));
        figures.push(Figure::plain(how, rate(&found.yardstick), "GB/s"));
    }
    Ok(figures)
}

fn measured(work: impl FnOnce() -> Result<(), End>) -> Result<Duration, End> {
    let (time, done) = timed(work);
    done.map(|()| time)
}

fn write_plainly(file: &File, content: &[u8], copy: bool) -> Result<(), End> {
    let mut private = vec![0; WINDOW];
    let mut at = 0;
    for piece in content.chunks(WINDOW) {
        let from = if copy {
            let private = &mut private[..piece.len()];
            private.copy_from_slice(piece);
            black_box(&*private)
        } else {
            piece
        };
        file.write_all_at(from, at).doing("pwrite")?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Compressed checkpoints on two threads, against as many loops that only compress.
///
/// # Errors
/// [`End`].
pub fn codecs(context: &Context) -> Result<Vec<Figure>, End> {
    let content = heap_like(CODEC_BYTES, 1);
    let wksp = filled(&content)?;
    let threads = context.two();
    let mut figures = Vec::new();
    for (style, codec) in [(Style::Lz4, Codec::Lz4), (Style::Zstd, Codec::Zstd)] {
        context.check()?;
        let file = scratch(context)?;
        let options = CheckpointOptions::default().style(style).threads(threads);
        let mut ratio = 0.0;
        let found = pairs(
            context,
            || {
                let (time, done) = timed(|| wksp.checkpoint_to(&file, &options).doing("checkpoint"));
                let summary = done?;
                ratio = summary.used_bytes as f64 / summary.stored_bytes.max(1) as f64;
                Ok(time)
            },
            || Ok(loops(codec, threads, &content)),
        )?;
        let what = format!("{style} checkpoint ({ratio:.2} : 1), {threads} threads / {threads} codec loops");
        figures.push(Figure::judged(what, found.speed(), "x", Target::AtLeast(0.92)));
        let rate = |seconds: &[f64]| Pairs::rate(seconds, CODEC_BYTES as f64 / 1e9);
        figures.push(Figure::plain(
            format!("{style} checkpoint, {threads} threads"),
            rate(&found.subject),
            "GB/s",
        ));
        figures.push(Figure::plain(format!("{threads} {style} loops"), rate(&found.yardstick), "GB/s"));
    }
    Ok(figures)
}

/// A codec with the settings that the writer uses.
#[derive(Clone, Copy)]
enum Codec {
    Lz4,
    Zstd,
}

/// Threads that compress every so-manieth window each and throw the result away.
fn loops(codec: Codec, threads: usize, content: &[u8]) -> Duration {
    threads_timed(threads, |thread| {
        let windows = content.chunks(WINDOW).skip(thread).step_by(threads);
        match codec {
            Codec::Lz4 => {
                let mut table = CompressTable::large();
                let mut out = vec![0; get_maximum_output_size(WINDOW)];
                for window in windows {
                    let _ = black_box(compress_into_with_table(window, &mut out, &mut table));
                }
            }
            Codec::Zstd => {
                let Ok(mut compressor) = zstd::bulk::Compressor::new(1) else { return };
                let mut out = vec![0; zstd::zstd_safe::compress_bound(WINDOW)];
                for window in windows {
                    let _ = black_box(compressor.compress_to_buffer(window, &mut out));
                }
            }
        }
    })
}
