//! alloc and free of a groove in multiples of a compare-and-swap, two threads against one, trim and rebuild.

use outlast_groove::{AllocError, CreateOptions, Groove, Joiner, ObjRef};
use outlast_probe::sync::AtomicU64;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::Context;
use super::allocation::swaps;
use super::figure::{Figure, Spread, Target};
use super::measure::{pairs, threads_timed, timed};
use crate::end::{Doing, End};
use crate::place::RegionGuard;

/// Pairs of alloc and free in one measurement: less than a time slice, so that others on the machine seldom count.
const ROUNDS: usize = 20_000;
/// Places of the shelf that random sizes are toggled on.
const SHELF: usize = 1024;

/// A groove with one volume of 1 GiB, which goes away with it.
struct Made {
    /// `None` while it is rebuilt, which has to be done alone.
    joined: Option<Groove>,
    guard: RegionGuard,
}

impl Drop for Made {
    fn drop(&mut self) {
        // There may be none, or none any more.
        let name = format!("{}.v0000", self.guard.name());
        let _ = name.as_str().parse().map(|name| self.guard.domain().unlink(&name));
    }
}

impl Made {
    fn new(context: &Context) -> Result<Self, End> {
        let guard = context.place.guard("groove")?;
        let groove = Groove::create(guard.domain(), guard.name(), &CreateOptions::default());
        let made = Self { joined: Some(groove.doing("making a groove")?), guard };
        made.groove()?.add_volume(b"").doing("adding a volume of 1 GiB")?;
        Ok(made)
    }

    fn groove(&self) -> Result<&Groove, End> {
        self.joined.as_ref().ok_or_else(|| crate::failed!("the groove is being rebuilt"))
    }
}

fn small(joiner: &Joiner, rounds: usize) -> Result<(), End> {
    for round in 0..rounds as u64 {
        joiner.free(joiner.alloc(64, 0, round).doing("alloc")?).doing("free")?;
    }
    Ok(())
}

/// Objects of 0 to 64 KiB, each allocated or freed in turn at a random place.
struct Shelf<'j> {
    joiner: &'j Joiner,
    random: Pcg64,
    objects: Vec<Option<ObjRef>>,
}

impl<'j> Shelf<'j> {
    fn new(joiner: &'j Joiner, stream: u64) -> Self {
        Self { joiner, random: Pcg64::seed_from_u64(stream), objects: vec![None; SHELF] }
    }

    fn toggle(&mut self, times: usize) -> Result<(), End> {
        for _ in 0..times {
            let word = self.random.next_u64();
            let place = &mut self.objects[word as usize % SHELF];
            match place.take() {
                Some(object) => self.joiner.free(object).doing("free")?,
                None => *place = Some(self.joiner.alloc(word >> 48, 0, word).doing("alloc")?),
            }
        }
        Ok(())
    }
}

fn nanos(seconds: &[f64]) -> Spread {
    Spread::of(seconds.iter().map(|time| time * 1e9 / ROUNDS as f64).collect())
}

/// One thread: 64 bytes, and random sizes.
///
/// # Errors
/// [`End`].
pub fn one_thread(context: &Context) -> Result<Vec<Figure>, End> {
    let made = Made::new(context)?;
    let joiner = made.groove()?.joiner().doing("joining")?;
    let cell = AtomicU64::new(0);
    let run = |work: &mut dyn FnMut() -> Result<(), End>| {
        let (time, done) = timed(work);
        done.map(|()| time)
    };
    small(&joiner, 10 * ROUNDS)?;
    let found =
        pairs(context, || run(&mut || small(&joiner, ROUNDS)), || Ok(timed(|| swaps(&cell, ROUNDS)).0))?;
    let in_swaps = found.subject.iter().zip(&found.yardstick).map(|(ours, theirs)| ours / theirs).collect();
    let mut shelf = Shelf::new(&joiner, 1);
    shelf.toggle(20 * ROUNDS)?;
    let mixed =
        pairs(context, || run(&mut || shelf.toggle(2 * ROUNDS)), || Ok(timed(|| swaps(&cell, ROUNDS)).0))?;
    Ok(vec![
        Figure::judged(
            "64 B pair in uncontended compare-and-swaps",
            Spread::of(in_swaps),
            "x",
            Target::AtMost(7.0),
        ),
        Figure::plain("64 B pair", nanos(&found.subject), "ns"),
        Figure::judged("0-64 KiB pair", nanos(&mixed.subject), "ns", Target::AtMost(70.0)),
        Figure::plain("an uncontended compare-and-swap", nanos(&found.yardstick), "ns"),
    ])
}

/// Two threads on one volume against one.
///
/// # Errors
/// [`End`].
pub fn two_threads(context: &Context) -> Result<Vec<Figure>, End> {
    if context.two() < 2 {
        return Err(End::Skipped("one core: two threads have nothing to show".to_owned()));
    }
    let made = Made::new(context)?;
    let groove = made.groove()?;
    let each = |threads: usize, work: &(dyn Fn(&Joiner, u64) -> Result<(), End> + Sync)| {
        let first = std::sync::Mutex::new(Ok(()));
        let time = threads_timed(threads, |thread| {
            let done = groove.joiner().doing("joining").and_then(|joiner| work(&joiner, thread as u64));
            if let (Err(end), Ok(mut first)) = (done, first.lock()) {
                *first = Err(end);
            }
        });
        first.into_inner().unwrap_or(Ok(())).map(|()| time)
    };
    let tiny = |joiner: &Joiner, _| small(joiner, ROUNDS);
    let found = pairs(context, || each(2, &tiny), || each(1, &tiny))?;
    let quotient = |found: &super::measure::Pairs| {
        Spread::of(found.subject.iter().zip(&found.yardstick).map(|(two, one)| two / one).collect())
    };
    let toggles = |joiner: &Joiner, thread| {
        let mut shelf = Shelf::new(joiner, thread);
        shelf.toggle(2 * ROUNDS)?;
        shelf.objects.iter().flatten().try_for_each(|object| joiner.free(*object).doing("free"))
    };
    let mixed = pairs(context, || each(2, &toggles), || each(1, &toggles))?;
    Ok(vec![
        Figure::judged(
            "64 B pair, each of two threads / one thread",
            quotient(&found),
            "x",
            Target::AtMost(1.3),
        ),
        Figure::plain("64 B pair, each of two threads", nanos(&found.subject), "ns"),
        Figure::judged(
            "0-64 KiB pair, each of two threads",
            nanos(&mixed.subject),
            "ns",
            Target::AtMost(120.0),
        ),
    ])
}

/// Trim of a volume that was filled and freed, and rebuild of one that is as full as can be.
///
/// # Errors
/// [`End`].
pub fn volumes(context: &Context) -> Result<Vec<Figure>, End> {
    let made = Made::new(context)?;
    let joiner = made.groove()?.joiner().doing("joining")?;
    let fill = |size: &mut dyn FnMut() -> u64| -> Result<Vec<ObjRef>, End> {
        let mut objects = Vec::new();
        loop {
            context.check()?;
            match joiner.alloc(size(), 0, 0) {
                Ok(object) => objects.push(object),
                Err(AllocError::Full { .. }) => return Ok(objects),
                Err(other) => return Err(crate::failed!("alloc: {other}")),
            }
        }
    };
    let mut random = Pcg64::seed_from_u64(1);
    let mut trims = Vec::new();
    for _ in 0..context.pairs.min(11) {
        let objects = fill(&mut || random.next_u64() % 16_384)?;
        objects.iter().try_for_each(|object| joiner.free(*object).doing("free"))?;
        let (time, trimmed) = timed(|| joiner.trim());
        trimmed.doing("trim")?;
        trims.push(time.as_secs_f64() * 1e3);
    }
    let objects = fill(&mut || 0)?;
    drop(joiner);
    let rebuilds = rebuild(made, objects.len(), context)?;
    Ok(vec![
        Figure::judged("trim of a freed 1 GiB volume", Spread::of(trims), "ms", Target::AtMost(43.0)),
        Figure::judged(
            "rebuild of the fullest volume, one thread",
            Spread::of(rebuilds),
            "million descriptors/s",
            Target::AtLeast(20.0),
        ),
    ])
}

/// Rebuilds again and again; millions of descriptors a second each time.
fn rebuild(mut made: Made, objects: usize, context: &Context) -> Result<Vec<f64>, End> {
    let (domain, name) = (made.guard.domain().clone(), *made.guard.name());
    let mut rates = Vec::new();
    for _ in 0..context.pairs.min(11) {
        context.check()?;
        made.joined = None;
        let (time, done) = timed(|| Groove::rebuild(&domain, &name));
        let (groove, rebuilt) = done.doing("rebuild")?;
        made.joined = Some(groove);
        crate::end::require(rebuilt.objects as usize == objects, || format!("{rebuilt:?}"))?;
        rates.push(objects as f64 / time.as_secs_f64() / 1e6);
    }
    Ok(rates)
}
