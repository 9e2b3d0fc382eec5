//! Objects of a groove: alloc and free on one and two threads, trim, rebuild.
//!
//! What is timed is the calls alone: references come from an array, and no byte of an object is touched.

use std::hint::black_box;
use std::time::{Duration, Instant};

use outlast_groove::{CreateOptions, Groove, Joiner, ObjRef};
use outlast_probe::sync::{AtomicU64, Ordering};

use super::Context;
use super::figure::{Figure, Spread, Target};
use super::measure::{Pairs, pairs, timed};
use crate::draw::Draw;
use crate::end::{Doing, End, require};
use crate::place::GrooveGuard;

/// Bytes of a volume.
const VOLUME_BYTES: u64 = 1 << 30;
/// Calls, or pairs of calls, in one measurement.
const ROUNDS: usize = 200_000;
/// How long threads run in one measurement.
const SPAN: Duration = Duration::from_millis(150);
/// Objects of a random size that a thread has or has not.
const SLOTS: usize = 8192;
/// The largest of these, and how many sizes are drawn before.
const SIZE_MAX: u64 = 64 << 10;
const PLAN: usize = 1 << 16;
/// Bytes of an object that takes the smallest slot.
const SMALL_BYTES: u64 = 64;

/// A groove of one volume, gone with it.
fn groove(context: &Context, stem: &str) -> Result<(Groove, GrooveGuard), End> {
    let guard = context.place.groove_guard(stem)?;
    let options = CreateOptions { volume_bytes: VOLUME_BYTES };
    let groove = Groove::create(guard.domain(), guard.name(), &options).doing("making a groove")?;
    match groove.add_volume(b"") {
        Ok(_) => Ok((groove, guard)),
        Err(error) => Err(End::Skipped(format!("no volume of 1 GiB: {error}"))),
    }
}

/// Calls that one thread makes over and over.
trait Work: Send {
    /// So many of them.
    fn steps(&mut self, count: usize) -> Result<(), End>;
}

/// Allocates 64 bytes and frees them.
struct Pair(Joiner);

impl Work for Pair {
    fn steps(&mut self, count: usize) -> Result<(), End> {
        for _ in 0..count {
            let object = self.0.alloc(SMALL_BYTES, 0, 1).doing("alloc")?;
            self.0.free(black_box(object)).doing("free")?;
        }
        Ok(())
    }
}

/// Takes a random slot and frees the object there, or allocates one of a random size where there is none.
struct Toggle {
    joiner: Joiner,
    objects: Vec<ObjRef>,
    plan: Vec<(u32, u32)>,
    at: usize,
}

impl Toggle {
    fn new(groove: &Groove, stream: u64) -> Result<Self, End> {
        let mut draw = Draw::new(1, 0, stream);
        let plan = (0..PLAN).map(|_| (draw.index(SLOTS) as u32, draw.below(SIZE_MAX + 1) as u32)).collect();
        let joiner = groove.joiner().doing("joining")?;
        let mut made = Self { joiner, objects: vec![ObjRef::NULL; SLOTS], plan, at: 0 };
        made.steps(4 * PLAN)?;
        Ok(made)
    }
}

impl Work for Toggle {
    fn steps(&mut self, count: usize) -> Result<(), End> {
        for _ in 0..count {
            let (slot, size) = self.plan[self.at % PLAN];
            self.at += 1;
            let object = &mut self.objects[slot as usize];
            if object.is_null() {
                *object = self.joiner.alloc(size.into(), 0, 1).doing("alloc")?;
            } else {
                self.joiner.free(std::mem::take(object)).doing("free")?;
            }
        }
        Ok(())
    }
}

fn swaps(cell: &AtomicU64, count: usize) {
    for turn in 0..count as u64 {
        // SeqCst and Relaxed: the strongest one for the yardstick; nothing is ordered by it.
        let _ = black_box(cell).compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::Relaxed);
    }
    // Relaxed: one thread.
    cell.store(0, Ordering::Relaxed);
}

fn nanos(seconds: &[f64]) -> Spread {
    Spread::of(seconds.iter().map(|time| time * 1e9 / ROUNDS as f64).collect())
}

/// One thread's work against as many uncontended compare-and-swaps.
fn against_swaps(context: &Context, work: &mut impl Work) -> Result<Pairs, End> {
    let cell = AtomicU64::new(0);
    pairs(
        context,
        || {
            let (time, done) = timed(|| work.steps(ROUNDS));
            done.map(|()| time)
        },
        || Ok(timed(|| swaps(&cell, ROUNDS)).0),
    )
}

/// How long a step takes the slower of two threads at work, against one of them alone.
fn two_against_one<W: Work>(context: &Context, both: &mut [W; 2], mut one: W) -> Result<Pairs, End> {
    pairs(context, || together(both), || together(std::slice::from_mut(&mut one)))
}

/// How long the calling thread has been running.
fn cpu_time() -> Result<Duration, End> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    Ok(time.doing("asking for the time of a thread")?.into())
}

/// How long a step takes the slowest thread, of the time that it has a core; all are there before the first begins.
fn together<W: Work>(all: &mut [W]) -> Result<Duration, End> {
    let barrier = std::sync::Barrier::new(all.len());
    let work = |work: &mut W| {
        barrier.wait();
        let (begin, busy, mut count) = (Instant::now(), cpu_time()?, 0);
        while begin.elapsed() < SPAN || count == 0 {
            work.steps(64)?;
            count += 64;
        }
        Ok((cpu_time()? - busy).div_f64(f64::from(count)))
    };
    let times: Vec<Result<Duration, End>> = std::thread::scope(|scope| {
        let handles: Vec<_> = all.iter_mut().map(|one| scope.spawn(|| work(one))).collect();
        let panicked = |_| Err(End::Failed("a thread panicked".into()));
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(panicked)).collect()
    });
    let mut slowest = Duration::ZERO;
    for time in times {
        slowest = slowest.max(time?);
    }
    Ok(slowest)
}

fn in_yardsticks(found: &Pairs) -> Spread {
    Spread::of(found.subject.iter().zip(&found.yardstick).map(|(ours, theirs)| ours / theirs).collect())
}

fn single(seconds: &[f64]) -> Spread {
    Spread::of(seconds.iter().map(|time| time * 1e9).collect())
}

/// The pair of alloc and free of 64 bytes.
///
/// # Errors
/// [`End`].
pub fn pair(context: &Context) -> Result<Vec<Figure>, End> {
    let (groove, _guard) = groove(context, "pair")?;
    let joiner = || groove.joiner().doing("joining");
    let found = against_swaps(context, &mut Pair(joiner()?))?;
    let mut figures = vec![
        Figure::judged(
            "alloc+free of 64 bytes, one thread, in uncontended compare-and-swaps",
            in_yardsticks(&found),
            "x",
            Target::AtMost(7.0),
        ),
        Figure::plain("the same", nanos(&found.subject), "ns"),
        Figure::plain("an uncontended compare-and-swap", nanos(&found.yardstick), "ns"),
    ];
    if 2 <= context.two() {
        let found = two_against_one(context, &mut [Pair(joiner()?), Pair(joiner()?)], Pair(joiner()?))?;
        figures.push(Figure::judged(
            "the pair, each of two threads / one",
            in_yardsticks(&found),
            "x",
            Target::AtMost(1.3),
        ));
        figures.push(Figure::plain("the slower of two threads", single(&found.subject), "ns"));
    }
    Ok(figures)
}

/// Random slots, random sizes.
///
/// # Errors
/// [`End`].
pub fn random(context: &Context) -> Result<Vec<Figure>, End> {
    let (groove, _guard) = groove(context, "random")?;
    let mut one = Toggle::new(&groove, 0)?;
    let found = against_swaps(context, &mut one)?;
    let mut figures = vec![
        Figure::judged(
            "alloc or free of 0 to 64 KiB in 8192 slots, one thread",
            nanos(&found.subject),
            "ns",
            Target::AtMost(70.0),
        ),
        Figure::plain("the same in uncontended compare-and-swaps", in_yardsticks(&found), "x"),
    ];
    if 2 <= context.two() {
        let mut both = [Toggle::new(&groove, 1)?, Toggle::new(&groove, 2)?];
        let found = two_against_one(context, &mut both, one)?;
        figures.push(Figure::judged(
            "the same, the slower of two threads",
            single(&found.subject),
            "ns",
            Target::AtMost(120.0),
        ));
        figures.push(Figure::plain("each of two threads / one", in_yardsticks(&found), "x"));
    }
    Ok(figures)
}

/// Fills a groove with objects of the smallest class.
fn fill(joiner: &Joiner) -> Result<Vec<ObjRef>, End> {
    let mut objects = Vec::new();
    loop {
        match joiner.alloc(SMALL_BYTES, 0, 1) {
            Ok(object) => objects.push(object),
            Err(outlast_groove::AllocError::Full { .. }) => return Ok(objects),
            Err(error) => return Err(error).doing("filling"),
        }
    }
}

/// Trim of a volume that was full of the smallest objects, all of them freed in random order.
///
/// # Errors
/// [`End`].
pub fn trim(context: &Context) -> Result<Vec<Figure>, End> {
    let (groove, _guard) = groove(context, "trim")?;
    let joiner = groove.joiner().doing("joining")?;
    let mut draw = Draw::new(1, 0, 0);
    let (mut times, mut superblocks) = (Vec::new(), 0);
    for turn in 0..=context.pairs {
        context.check()?;
        let mut objects = fill(&joiner)?;
        while !objects.is_empty() {
            let which = draw.index(objects.len());
            joiner.free(objects.swap_remove(which)).doing("freeing")?;
        }
        let (time, trimmed) = timed(|| joiner.trim());
        superblocks = trimmed.doing("trimming")?.superblocks;
        if turn != 0 {
            times.push(time.as_secs_f64() * 1e3);
        }
    }
    let count = superblocks as f64;
    Ok(vec![
        Figure::judged("trim of 1 GiB, all freed", Spread::of(times), "ms", Target::AtMost(43.0)),
        Figure::plain("superblocks given back", Spread { median: count, min: count, max: count }, ""),
    ])
}

/// Rebuild of a volume full of the smallest objects, from the call to the groove in hand.
///
/// # Errors
/// [`End`].
pub fn rebuild(context: &Context) -> Result<Vec<Figure>, End> {
    let (groove, guard) = groove(context, "rebuild")?;
    let joiner = groove.joiner().doing("joining")?;
    let objects = fill(&joiner)?.len() as u64;
    drop((joiner, groove));
    let mut times = Vec::new();
    for turn in 0..=context.pairs {
        context.check()?;
        let (time, rebuilt) = timed(|| Groove::rebuild(guard.domain(), guard.name()));
        let (_, rebuilt) = rebuilt.doing("rebuilding")?;
        require(rebuilt.objects == objects, || {
            format!("a rebuild found {} objects of {objects}", rebuilt.objects)
        })?;
        if turn != 0 {
            times.push(time.as_secs_f64());
        }
    }
    Ok(vec![
        Figure::judged(
            "rebuild of a volume full of the smallest objects, one thread",
            Pairs::rate(&times, objects as f64 * 1e-6),
            "million descriptors/s",
            Target::AtLeast(20.0),
        ),
        Figure::plain("the same", Spread::of(times.iter().map(|time| time * 1e3).collect()), "ms"),
    ])
}
