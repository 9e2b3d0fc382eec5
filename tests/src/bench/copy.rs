//! Copies of shared bytes, word by word or however this machine does it, against memcpy of private ones.

use std::hint::black_box;

use outlast_wksp::{CreateOptions, SharedBytes, Wksp};

use super::Context;
use super::corpus::noise;
use super::figure::{Figure, Target};
use super::measure::{Pairs, pairs, timed};
use crate::end::{Doing, End};

/// Bytes of one copy and how it is called.
const SIZES: [(usize, &str); 4] =
    [(4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (64 << 20, "64 MiB")];

/// Bytes to copy in one measurement, in as many copies as it takes.
const WORK: usize = 128 << 20;

/// How far apart in their pages the two sides of a copy lie. A store to an address that agrees with a later load's in
/// its low 12 bits holds that load up, so that a copy to a little behind its source is slow, whoever makes it; an
/// allocation and a large private buffer are usually 48 bytes apart in that way.
const APART: [(u64, &str); 2] = [(0, ""), (48, ", 48 bytes apart in their pages")];

/// Reads and writes of blocks of several sizes.
///
/// # Errors
/// [`End`].
pub fn against_memcpy(context: &Context) -> Result<Vec<Figure>, End> {
    let wksp = Wksp::anonymous(&CreateOptions::with_size(65 << 20)).doing("making a workspace")?;
    let from = noise(64 << 20, 1);
    let mut figures = Vec::new();
    for (apart, how) in APART {
        // Allocations begin at multiples of 64 bytes of a page-aligned origin.
        let at = 4096 + (from.as_ptr() as u64 + apart) % 4096;
        let shared = wksp.bytes(at, 64 << 20).doing("the shared bytes")?;
        for (size, name) in SIZES {
            let found = one_size(context, &from[..size], shared, &format!("{name}{how}"))?;
            // memcpy itself is the same in both places.
            figures.extend(found.into_iter().take(if apart == 0 { 3 } else { 2 }));
        }
    }
    Ok(figures)
}

fn one_size(context: &Context, from: &[u8], shared: SharedBytes<'_>, name: &str) -> Result<Vec<Figure>, End> {
    let (mut into, mut other) = (from.to_vec(), from.to_vec());
    let turns = WORK / from.len();
    let target = if 64 << 10 <= from.len() { Target::AtLeast(0.9) } else { Target::None };
    let mut memcpy = || {
        let mut copy = || black_box(&mut other[..]).copy_from_slice(black_box(from));
        Ok(timed(|| (0..turns).for_each(|_| copy())).0)
    };
    let write = || {
        let (time, done) = timed(|| (0..turns).try_for_each(|_| shared.write(0, black_box(from))));
        done.doing("write").map(|()| time)
    };
    let written = pairs(context, write, &mut memcpy)?;
    let read = || {
        let (time, done) = timed(|| (0..turns).try_for_each(|_| shared.read(0, black_box(&mut into))));
        done.doing("read").map(|()| time)
    };
    let found = pairs(context, read, &mut memcpy)?;
    Ok(vec![
        Figure::judged(format!("write of {name} / memcpy"), written.speed(), "x", target),
        Figure::judged(format!("read of {name} / memcpy"), found.speed(), "x", target),
        Figure::plain(format!("memcpy of {name}"), Pairs::rate(&found.yardstick, WORK as f64 / 1e9), "GB/s"),
    ])
}
