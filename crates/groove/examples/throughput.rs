//! How long a pair of alloc and free takes, in multiples of an uncontended compare-and-swap of the same run.
//!
//! `cargo run --release -p outlast-groove --example throughput`

use std::sync::Barrier;
use std::time::{Duration, Instant};

use outlast_groove::{AllocError, CreateOptions, Groove, ObjRef};
use outlast_probe::sync::{AtomicU64, Ordering};
use outlast_shm::Domain;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

type Failed = Box<dyn std::error::Error + Send + Sync>;

const PAIRS: u64 = 3_000_000;

fn nanoseconds(elapsed: Duration, count: u64) -> f64 {
    elapsed.as_secs_f64() * 1e9 / count as f64
}

/// Time that this thread has run, so that others on its core do not count; wall time where that cannot be asked.
fn run_time(since: Instant) -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
    nanos.map_or_else(|| since.elapsed(), Duration::from_nanos)
}

fn cas() -> f64 {
    let word = AtomicU64::new(0);
    let start = Instant::now();
    let begin = run_time(start);
    for value in 0..PAIRS {
        let _ = std::hint::black_box(&word).compare_exchange(
            value,
            value + 1,
            Ordering::AcqRel, // For the yardstick: any ordering costs the same on x86-64.
            Ordering::Relaxed,
        );
    }
    nanoseconds(run_time(start).saturating_sub(begin), PAIRS)
}

/// Each of `threads` threads allocates and frees; returns the mean of what a pair took each.
fn run(
    groove: &Groove,
    threads: u64,
    work: impl Fn(&outlast_groove::Joiner, u64) -> Result<u64, Failed> + Sync,
) -> Result<f64, Failed> {
    let gate = Barrier::new(threads as usize);
    let results: Vec<Result<f64, Failed>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let (gate, work) = (&gate, &work);
                scope.spawn(move || -> Result<f64, Failed> {
                    let joiner = groove.joiner()?;
                    work(&joiner, thread)?;
                    gate.wait();
                    let start = Instant::now();
                    let begin = run_time(start);
                    let pairs = work(&joiner, thread)?;
                    Ok(nanoseconds(run_time(start).saturating_sub(begin), pairs))
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or(Ok(f64::NAN))).collect()
    });
    let times: Result<Vec<f64>, Failed> = results.into_iter().collect();
    let times = times?;
    Ok(times.iter().sum::<f64>() / times.len() as f64)
}

fn small(joiner: &outlast_groove::Joiner, _: u64) -> Result<u64, Failed> {
    for pair in 0..PAIRS {
        joiner.free(joiner.alloc(64, 0, pair)?)?;
    }
    Ok(PAIRS)
}

/// Toggles random slots: sizes of 0 to 64 KiB, half of them allocated at any time.
fn mixed(joiner: &outlast_groove::Joiner, thread: u64) -> Result<u64, Failed> {
    let mut random = Pcg64::seed_from_u64(thread);
    let mut slots: Vec<Option<ObjRef>> = vec![None; 1024];
    let steps = PAIRS;
    for _ in 0..steps {
        let word = random.next_u64();
        let slot = &mut slots[word as usize % 1024];
        match slot.take() {
            Some(object) => joiner.free(object)?,
            None => *slot = Some(joiner.alloc(word >> 48, 0, word)?),
        }
    }
    for object in slots.into_iter().flatten() {
        joiner.free(object)?;
    }
    Ok(steps / 2)
}

fn main() -> Result<(), Failed> {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let domain = Domain::open(&directory.path().join("domain"))?;
    let options = CreateOptions { volume_bytes: 1 << 30 };
    let groove = Groove::create(&domain, &"bench".parse()?, &options)?;
    groove.add_volume(b"")?;
    let cas = cas();
    println!("compare-and-swap                  {cas:>7.1} ns");
    let tell = |what: &str, nanos: f64| println!("{what:<32} {nanos:>8.1} ns  {:>6.1} CAS", nanos / cas);
    tell("64 B, one thread", run(&groove, 1, small)?);
    tell("64 B, each of two threads", run(&groove, 2, small)?);
    tell("0-64 KiB, one thread", run(&groove, 1, mixed)?);
    tell("0-64 KiB, each of two threads", run(&groove, 2, mixed)?);
    let joiner = groove.joiner()?;
    joiner.trim()?;
    let mut random = Pcg64::seed_from_u64(1);
    let mut objects = Vec::new();
    loop {
        match joiner.alloc(random.random_range(0..16384), 0, 0) {
            Ok(object) => objects.push(object),
            Err(AllocError::Full { .. }) => break,
            Err(other) => return Err(other.into()),
        }
    }
    for object in objects.drain(..) {
        joiner.free(object)?;
    }
    let begin = Instant::now();
    let trimmed = joiner.trim()?;
    println!(
        "trim of a freed 1 GiB volume      {:>7.1} ms, {trimmed:?}",
        begin.elapsed().as_secs_f64() * 1e3
    );
    while let Ok(object) = joiner.alloc(0, 0, 0) {
        objects.push(object);
    }
    drop(joiner);
    drop(groove);
    let begin = Instant::now();
    let (_, rebuilt) = Groove::rebuild(&domain, &"bench".parse()?)?;
    let elapsed = begin.elapsed();
    println!(
        "rebuild of the fullest volume     {:>7.1} ms, {:.1} million objects/s",
        elapsed.as_secs_f64() * 1e3,
        rebuilt.objects as f64 / elapsed.as_secs_f64() / 1e6
    );
    Ok(())
}
