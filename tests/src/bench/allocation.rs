//! alloc and free: one thread in multiples of a compare-and-swap, two threads in multiples of one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use outlast_probe::sync::{AtomicU64, Ordering};
use outlast_wksp::{Block, CreateOptions, Wksp};

use super::Context;
use super::figure::{Figure, Spread, Target};
use super::measure::{Pairs, pairs, timed};
use crate::draw::Draw;
use crate::end::{Doing, End};

/// Live objects, their largest size, and bytes of a workspace with room for twice as many.
const LIVE: usize = 8192;
const SIZE_MAX: u64 = 16 << 10;
const DATA_BYTES: u64 = 128 << 20;

/// Pairs of alloc and free in one measurement.
const ROUNDS: usize = 100_000;

/// How long the threads run in one measurement.
const SPAN: Duration = Duration::from_millis(150);

/// A workspace at work: blocks that are freed and allocated again, in a random order that was drawn before.
struct Churn<'w> {
    wksp: &'w Wksp,
    live: Vec<Block>,
    plan: Vec<(u32, u32)>,
    at: usize,
}

impl<'w> Churn<'w> {
    fn new(wksp: &'w Wksp, live: usize, stream: u64) -> Result<Self, End> {
        let mut draw = Draw::new(1, 0, stream);
        let mut size = move || 1 + draw.below(SIZE_MAX);
        let blocks = (0..live).map(|_| wksp.alloc(size(), 64, 1 + stream)).collect::<Result<_, _>>();
        let mut draw = Draw::new(2, 0, stream);
        let plan = (0..1 << 16).map(|_| (draw.below(live as u64) as u32, 1 + draw.below(SIZE_MAX) as u32));
        Ok(Self { wksp, live: blocks.doing("filling")?, plan: plan.collect(), at: 0 })
    }

    #[inline(always)]
    fn step(&mut self) -> Result<(), End> {
        let (which, size) = self.plan[self.at & 0xffff];
        self.at += 1;
        let block = &mut self.live[which as usize];
        self.wksp.free(*block).doing("free")?;
        *block = self.wksp.alloc(u64::from(size), 64, 1).doing("alloc")?;
        Ok(())
    }

    fn steps(&mut self, count: usize) -> Result<(), End> {
        (0..count).try_for_each(|_| self.step())
    }

    /// Steps until `end`; how many.
    fn until(&mut self, end: Instant) -> Result<u64, End> {
        let mut count = 0;
        while Instant::now() < end {
            self.steps(64)?;
            count += 64;
        }
        Ok(count)
    }
}

fn workspace() -> Result<Wksp, End> {
    Wksp::anonymous(&CreateOptions::with_size(DATA_BYTES)).doing("making a workspace")
}

/// The pair of alloc and free, one thread.
///
/// # Errors
/// [`End`].
pub fn one_thread(context: &Context) -> Result<Vec<Figure>, End> {
    let wksp = workspace()?;
    let mut churn = Churn::new(&wksp, LIVE, 0)?;
    churn.steps(ROUNDS)?;
    let cell = AtomicU64::new(0);
    let found = pairs(
        context,
        || {
            let (time, done) = timed(|| churn.steps(ROUNDS));
            done.map(|()| time)
        },
        || Ok(timed(|| swaps(&cell, ROUNDS)).0),
    )?;
    let nanos = |seconds: &[f64]| Spread::of(seconds.iter().map(|time| time * 1e9 / ROUNDS as f64).collect());
    let in_swaps = found.subject.iter().zip(&found.yardstick).map(|(ours, theirs)| ours / theirs).collect();
    let (clock, mut times) = (clock_nanos(), each(&mut churn)?);
    times.sort_unstable();
    let quantile = |share: f64| {
        let nanos = times[((times.len() - 1) as f64 * share) as usize].saturating_sub(clock) as f64;
        Spread { median: nanos, min: nanos, max: nanos }
    };
    Ok(vec![
        Figure::judged(
            "alloc+free pair, 8192 live of at most 16 KiB",
            nanos(&found.subject),
            "ns",
            Target::AtMost(150.0),
        ),
        Figure::plain("the same in uncontended compare-and-swaps", Spread::of(in_swaps), "x"),
        Figure::plain("an uncontended compare-and-swap", nanos(&found.yardstick), "ns"),
        Figure::plain("the pair, median of single ones less the clock", quantile(0.5), "ns"),
        Figure::plain("the pair, 99 % of single ones take at most", quantile(0.99), "ns"),
        Figure::plain("the pair, 99.9 % of single ones take at most", quantile(0.999), "ns"),
    ])
}

pub(super) fn swaps(cell: &AtomicU64, count: usize) {
    for turn in 0..count as u64 {
        // SeqCst and Relaxed: the strongest one for the yardstick; nothing is ordered by it.
        let _ = black_box(cell).compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::Relaxed);
    }
    // Relaxed: one thread.
    cell.store(0, Ordering::Relaxed);
}

/// Nanoseconds that reading the clock twice takes, the median of many times.
fn clock_nanos() -> u64 {
    let mut all: Vec<u64> = (0..10_000).map(|_| timed(|| ()).0.as_nanos() as u64).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// Nanoseconds of each of many pairs.
fn each(churn: &mut Churn<'_>) -> Result<Vec<u64>, End> {
    (0..4 * ROUNDS)
        .map(|_| {
            let (time, done) = timed(|| churn.step());
            done.map(|()| time.as_nanos() as u64)
        })
        .collect()
}

/// Two threads with half of the objects each, against one with all of them.
///
/// # Errors
/// [`End`].
pub fn two_threads(context: &Context) -> Result<Vec<Figure>, End> {
    if context.two() < 2 {
        return Err(End::Skipped("one core: two threads have nothing to show".to_owned()));
    }
    let (shared, single) = (workspace()?, workspace()?);
    let mut both = [Churn::new(&shared, LIVE / 2, 0)?, Churn::new(&shared, LIVE / 2, 1)?];
    let mut one = Churn::new(&single, LIVE, 2)?;
    let per_op = |count: u64| SPAN.div_f64(count as f64);
    let (mut fewest, mut most) = (Vec::new(), Vec::new());
    let found = pairs(
        context,
        || {
            let counts = together(&mut both)?;
            fewest.push(*counts.iter().min().unwrap_or(&0) as f64);
            most.push(*counts.iter().max().unwrap_or(&1) as f64);
            Ok(per_op(counts.iter().sum()))
        },
        || Ok(per_op(one.until(Instant::now() + SPAN)?)),
    )?;
    let share = fewest.iter().zip(&most).map(|(fewest, most)| fewest / most).collect();
    Ok(vec![
        Figure::judged(
            "two threads' pairs together / one thread's",
            found.speed(),
            "x",
            Target::AtLeast(0.9),
        ),
        Figure::plain("two threads together", millions(&found.subject), "million pairs/s"),
        Figure::plain("one thread", millions(&found.yardstick), "million pairs/s"),
        Figure::plain("the slower thread's share of the faster one's", Spread::of(share), "x"),
    ])
}

/// Millions of pairs a second.
fn millions(seconds: &[f64]) -> Spread {
    Pairs::rate(seconds, 1e-6)
}

fn together(both: &mut [Churn<'_>; 2]) -> Result<Vec<u64>, End> {
    let end = Instant::now() + SPAN;
    std::thread::scope(|scope| {
        let handles: Vec<_> = both.iter_mut().map(|churn| scope.spawn(move || churn.until(end))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().map_err(|_| End::Failed("a thread panicked".into()))?)
            .collect()
    })
}
