//! Measures writing, verifying and restoring against plain system calls and codec loops of the same run.
//!
//! `cargo run --release -p outlast-checkpt --example throughput [MIB [PAIRS [DIRECTORY]]]`
//!
//! Every figure is the median of interleaved pairs (subject, yardstick), with the quartiles of the pairs'
//! ratio; a ratio above 1 means faster than the yardstick. Files are touched before they are measured.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use outlast_checkpt::{
    Checkpoint, Meta, Partition, RestoreOptions, Sink, SinkError, Source, SourceError, Style, WriteOptions,
    write_to,
};

const WINDOW: usize = 256 << 10;

struct Region(Vec<u8>);

impl Source for Region {
    fn read(&self, gaddr: u64, into: &mut [u8]) -> Result<(), SourceError> {
        into.copy_from_slice(&self.0[gaddr as usize..gaddr as usize + into.len()]);
        Ok(())
    }
}

/// Windows of memory that threads fill each for themselves.
struct Windows(Vec<Mutex<Vec<u8>>>);

impl Sink for Windows {
    fn write(&self, gaddr: u64, from: &[u8]) -> Result<(), SinkError> {
        let (window, at) = (gaddr as usize / WINDOW, gaddr as usize % WINDOW);
        let mut window = self.0[window].lock().map_err(|_| SinkError::new("poisoned"))?;
        window[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let size = arguments.next().map_or(Ok(256), |text| text.parse::<usize>())? << 20;
    let pairs = arguments.next().map_or(Ok(11), |text| text.parse::<usize>())?;
    let directory = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    println!("{} MiB, {pairs} pairs, file in {}", size >> 20, directory.display());
    let region = Region(heap_like(size));
    let partitions = [Partition { gaddr: 0, size_bytes: size as u64, tag: 1 }];
    let file = touched(&directory, size + (1 << 20))?;
    let yardstick = touched(&directory, size)?;
    let bench = Bench { pairs, size };
    let meta = Meta { name: "throughput".into(), data_max_bytes: size as u64, ..Meta::default() };
    let write = |style, threads| {
        let options = WriteOptions::default().style(style).threads(threads);
        write_to(&file, &meta, &partitions, &region, &options)
    };

    bench.report(
        "write raw, 1 thread / pwrite",
        || write(Style::Raw, 1).map(drop),
        || {
            for (i, block) in region.0.chunks(WINDOW).enumerate() {
                let _ = yardstick.write_all_at(block, (i * WINDOW) as u64);
            }
        },
    )?;
    bench.report(
        "write raw, 2 threads / 1 thread",
        || write(Style::Raw, 2).map(drop),
        || drop(write(Style::Raw, 1)),
    )?;
    for style in [Style::Lz4, Style::Zstd] {
        let title = format!("write {style}, 2 threads / two codec loops");
        bench.report(&title, || write(style, 2).map(drop), || codec_loops(style, &region.0))?;
    }
    for style in [Style::Raw, Style::Lz4, Style::Zstd] {
        let summary = write(style, 2)?;
        println!("{style}: ratio {:.2}, {:?}", summary.ratio(), summary.style_counts);
        let checkpoint = Checkpoint::from_file(file.try_clone()?)?;
        let windows = Windows((0..size / WINDOW).map(|_| Mutex::new(vec![1; WINDOW])).collect());
        let mut copy = vec![1; size];
        for threads in [1, 2] {
            let options = RestoreOptions::default().threads(threads);
            let memcpy = |copy: &mut Vec<u8>| copy_on(threads, &region.0, copy);
            bench.report(
                &format!("restore {style}, {threads} threads / memcpy"),
                || checkpoint.restore(&windows, &options),
                || memcpy(&mut copy),
            )?;
            bench.report(
                &format!("verify {style}, {threads} threads / memcpy"),
                || checkpoint.verify(&options).map(drop),
                || memcpy(&mut copy),
            )?;
        }
    }
    Ok(())
}

struct Bench {
    pairs: usize,
    size: usize,
}

impl Bench {
    fn report<E>(
        &self,
        title: &str,
        mut subject: impl FnMut() -> Result<(), E>,
        mut yardstick: impl FnMut(),
    ) -> Result<(), E> {
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..self.pairs {
            let start = Instant::now();
            subject()?;
            let subject_s = start.elapsed().as_secs_f64();
            let start = Instant::now();
            yardstick();
            let yardstick_s = start.elapsed().as_secs_f64();
            times.push(subject_s);
            ratios.push(yardstick_s / subject_s);
        }
        times.sort_by(f64::total_cmp);
        ratios.sort_by(f64::total_cmp);
        let speed = self.size as f64 / times[times.len() / 2] / 1e9;
        let quartile = |n: usize| ratios[ratios.len() * n / 4];
        println!("{title:44} {speed:6.2} GB/s  {:.2} ({:.2}..{:.2})", quartile(2), quartile(1), quartile(3));
        Ok(())
    }
}

/// Records of 64 bytes with counters, pointers and text, as heaps have them.
fn heap_like(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for (i, record) in bytes.chunks_mut(64).enumerate() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        record[..8].copy_from_slice(&(i as u64).to_le_bytes());
        record[8..16].copy_from_slice(&(0x7F00_0000_0000u64 + (state >> 44 << 6)).to_le_bytes());
        record[16..20].copy_from_slice(&((state >> 32) as u32).to_le_bytes());
        record[24..32].copy_from_slice(&state.to_le_bytes());
        for (at, byte) in record[40..60].iter_mut().enumerate() {
            *byte = b"the quick brown fox jumps over"[(i + at) % 30];
        }
    }
    bytes
}

fn touched(directory: &Path, size: usize) -> std::io::Result<File> {
    let file = tempfile::tempfile_in(directory)?;
    let block = vec![1; WINDOW];
    for at in (0..size).step_by(WINDOW) {
        file.write_all_at(&block, at as u64)?;
    }
    Ok(file)
}

/// Two threads that compress every other window and do nothing else.
fn codec_loops(style: Style, bytes: &[u8]) {
    let half = |first: usize| {
        let mut table = lz4_flex::block::CompressTable::large();
        let Ok(mut zstd) = zstd::bulk::Compressor::new(1) else { return };
        let mut out = vec![0; 2 * WINDOW];
        for window in bytes.chunks(WINDOW).skip(first).step_by(2) {
            let stored = match style {
                Style::Lz4 => lz4_flex::block::compress_into_with_table(window, &mut out, &mut table).ok(),
                _ => zstd.compress_to_buffer(window, &mut out[..]).ok(),
            };
            black_box(stored);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| half(0));
        half(1);
    });
}

fn copy_on(threads: usize, from: &[u8], to: &mut [u8]) {
    let share = from.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for (from, to) in from.chunks(share).zip(to.chunks_mut(share)) {
            scope.spawn(|| to.copy_from_slice(black_box(from)));
        }
    });
    black_box(to);
}
