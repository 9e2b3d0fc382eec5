//! Made-up runs for the tests of reports.
//!
//! # Invariants
//! - The same run every time: what is random comes from the job's number.

#![allow(clippy::unwrap_used, reason = "only tests use it")]
#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use outlast_sched::{
    Event, Exit, Host, JobInfo, Outcome, PlanInfo, Record, SCHEMA, Sample, Sink, Summary, exit_code,
};

/// A run as it would be told.
#[derive(Clone)]
pub(crate) struct MadeUp {
    pub(crate) plan: PlanInfo,
    /// In completion order.
    pub(crate) records: Vec<Record>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) summary: Summary,
}

impl MadeUp {
    /// All events, in order.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Planned(Box::new(self.plan.clone()))];
        for record in &self.records {
            if let Some(slot) = record.slot {
                let (ordinal, at) = (record.ordinal, record.start);
                events.push(Event::Assigned { ordinal, slot, cpus: record.cpus.clone(), at });
            }
            events.push(Event::Finished(Box::new(record.clone())));
        }
        events.extend(self.samples.iter().map(|sample| Event::Sampled(*sample)));
        events.push(Event::Ended(self.summary.clone()));
        events
    }

    /// Writes it as the engine does.
    pub(crate) fn write(&self, directory: &Path) {
        let json = |value: serde_json::Value| value.to_string() + "\n";
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        write("plan.json", json(serde_json::to_value(&self.plan).unwrap()));
        let records = self.records.iter().map(|record| json(serde_json::to_value(record).unwrap()));
        write("records.jsonl", records.collect());
        let samples = self.samples.iter().map(|sample| json(serde_json::to_value(sample).unwrap()));
        write("samples.jsonl", samples.collect());
        write("summary.json", json(serde_json::to_value(&self.summary).unwrap()));
    }

    /// The part of it that shard `part` of `of` would have run.
    pub(crate) fn shard(&self, part: u32, of: u32) -> Self {
        let mine = |global: u32| global % of == part - 1;
        let mut shard = self.clone();
        shard.plan.shard = Some((part, of));
        shard.plan.run = format!("{}-{part}", self.plan.run);
        shard.plan.jobs.retain(|job| mine(job.global_ordinal));
        shard.records.retain(|record| mine(record.global_ordinal));
        for (job, ordinal) in shard.plan.jobs.iter_mut().zip(0..) {
            job.ordinal = ordinal;
        }
        for (record, completion) in shard.records.iter_mut().zip(0..) {
            record.ordinal = record.global_ordinal / of;
            record.completion = completion;
        }
        shard.summary.exit_code = exit_code(shard.records.iter().map(|record| record.outcome));
        shard
    }
}

pub(crate) fn tell(events: &[Event], sink: &mut dyn Sink) {
    for event in events {
        sink.on(event).unwrap();
    }
}

/// A number that looks random.
fn scatter(n: u64) -> u64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}

pub(crate) fn job(ordinal: u32, group: &str, name: &str) -> JobInfo {
    let past: Vec<u64> = (0..ordinal % 6).map(|n| duration(ordinal, u64::from(n) + 7)).collect();
    JobInfo {
        ordinal,
        global_ordinal: ordinal,
        project: "outlast".to_owned(),
        group: group.to_owned(),
        name: name.to_owned(),
        repetition: 1,
        repetitions: 1,
        seed: 1000 + u64::from(ordinal),
        expected: (!past.is_empty())
            .then(|| Duration::from_nanos(past.iter().sum::<u64>() / past.len() as u64)),
        past_ns: past,
    }
}

fn duration(ordinal: u32, salt: u64) -> u64 {
    let base = 40_000_000 + scatter(u64::from(ordinal)) % 900_000_000;
    base * (80 + scatter(u64::from(ordinal) * 31 + salt) % 50) / 100
}

fn record(job: &JobInfo, outcome: Outcome) -> Record {
    Record {
        schema: SCHEMA,
        ordinal: job.ordinal,
        global_ordinal: job.global_ordinal,
        completion: 0,
        project: job.project.clone(),
        group: job.group.clone(),
        name: job.name.clone(),
        repetition: job.repetition,
        repetitions: job.repetitions,
        seed: job.seed,
        outcome,
        reason: (!outcome.is_pass()).then(|| "slot 3: expected tag 7, found 9 at gaddr 0x4c0".to_owned()),
        text: String::new(),
        exit: Some(Exit::Code(i32::from(outcome.is_failure()))),
        slot: Some(0),
        cpus: Vec::new(),
        start: Duration::ZERO,
        duration: Duration::from_nanos(duration(job.ordinal, 1)),
        process: None,
        expected: job.expected,
        slow: false,
        peak_bytes: Some(1 << (20 + job.ordinal % 6)),
        leaked: Vec::new(),
        sandbox: None,
        stdout_tail: String::new(),
        stderr_tail: String::new(),
        replay: format!("cargo xtask stress {} --seed {}", job.name, job.seed),
        schedule: None,
        inputs: None,
        report: serde_json::json!({"kills": 3}),
    }
}

/// Puts the records on slots, the longest first, and makes the rest of the run.
fn scheduled(jobs: Vec<JobInfo>, slots: u32, mut records: Vec<Record>) -> MadeUp {
    let mut free = vec![Duration::ZERO; slots as usize];
    records.sort_by_key(|record| std::cmp::Reverse(record.duration));
    for record in records.iter_mut().filter(|record| record.slot.is_some()) {
        let slot = (0..free.len()).min_by_key(|slot| free[*slot]).unwrap();
        record.slot = Some(slot as u32);
        record.start = free[slot];
        free[slot] += record.duration + Duration::from_micros(400);
    }
    records.sort_by_key(|record| record.start + record.duration);
    for (record, completion) in records.iter_mut().zip(0..) {
        record.completion = completion;
    }
    let elapsed = free.into_iter().max().unwrap() + Duration::from_millis(3);
    let sample = |n: u32| {
        let at = elapsed * n / 40;
        let running =
            records.iter().filter(|r| r.slot.is_some() && r.start <= at && at < r.start + r.duration);
        let memory_bytes = running.clone().map(|record| record.peak_bytes.unwrap_or(0)).sum();
        let finished = records.iter().filter(|record| record.start + record.duration <= at).count() as u32;
        Sample { at, running: running.count() as u32, finished, memory_bytes }
    };
    let summary = Summary {
        schema: SCHEMA,
        elapsed,
        interrupted: false,
        exit_code: exit_code(records.iter().map(|record| record.outcome)),
    };
    let plan = PlanInfo {
        schema: SCHEMA,
        run: "20261126-210000-4711".to_owned(),
        directory: PathBuf::from("target/stress/20261126-210000-4711"),
        started_unix_ms: 1_795_726_800_000,
        seed: 42,
        profile: "quick".to_owned(),
        shard: None,
        whole: None,
        slots,
        commit: Some("c160dcb+".to_owned()),
        host: Host {
            cpus: (0..slots).collect(),
            memory_bytes: 8 << 30,
            system: "Linux 6.12 x86_64".to_owned(),
            load: 0.42,
        },
        jobs,
    };
    MadeUp { plan, samples: (0..=40).map(sample).collect(), records, summary }
}

/// One job.
pub(crate) fn one(outcome: Outcome) -> MadeUp {
    let job = job(0, "wksp", "wksp/roundtrip");
    let mut record = record(&job, outcome);
    record.text = "2048 allocations, 3 checkpoints, 12 MiB compared\n".to_owned();
    if outcome == Outcome::Crashed {
        record.exit = Some(Exit::Signal { number: 11, core: true });
    }
    scheduled(vec![job], 2, vec![record])
}

/// Many jobs in a few groups.
pub(crate) fn many(count: u32, slots: u32, outcome: impl Fn(u32) -> Outcome) -> MadeUp {
    let groups = ["wksp", "shm", "checkpt", "groove", "sched"];
    let jobs: Vec<_> = (0..count)
        .map(|n| {
            let group = groups[(n * 5 / count) as usize];
            job(n, group, &format!("{group}/scenario_{n}"))
        })
        .collect();
    let records = jobs.iter().map(|job| record(job, outcome(job.ordinal))).collect();
    scheduled(jobs, slots, records)
}

/// One job of each outcome, and one more that was interrupted before it began.
pub(crate) fn every_outcome() -> MadeUp {
    let outcomes = Outcome::ALL.into_iter().chain([Outcome::Interrupted]);
    let (mut jobs, mut records) = (Vec::new(), Vec::new());
    for (outcome, ordinal) in outcomes.zip(0..) {
        let group = ["shm", "wksp", "sched"][ordinal as usize / 5];
        let mut job = job(ordinal, group, &format!("{group}/{}_{ordinal}", outcome.as_str()));
        if outcome == Outcome::Failed {
            (job.repetition, job.repetitions) = (2, 5);
        }
        let mut record = record(&job, outcome);
        dress(&mut record, ordinal == 12);
        jobs.push(job);
        records.push(record);
    }
    let mut run = scheduled(jobs, 3, records);
    run.summary.interrupted = true;
    run
}

/// Gives a record what one of its outcome would have.
fn dress(record: &mut Record, never_began: bool) {
    let reason = match record.outcome {
        Outcome::Skipped => "needs a build with probes: cargo xtask stress --probes",
        Outcome::Inconclusive => "no kill landed in 200 tries, expected at least 1",
        Outcome::NotStarted => "EAGAIN: the limit of processes (ulimit -u) is reached",
        Outcome::Leaked => "2 processes outlived it and were killed",
        Outcome::Failed => "tag of block 17: expected 7, found 9",
        Outcome::TimedOut => "ran past its limit of 30 s",
        Outcome::Crashed => "SIGSEGV (11, core dumped)",
        Outcome::Usage => "there is no scenario wksp/roundtrap; did you mean wksp/roundtrip?",
        Outcome::Interrupted if never_began => "interrupted before it began",
        Outcome::Interrupted => "interrupted",
        _ => "",
    };
    record.reason = (!reason.is_empty()).then(|| reason.to_owned());
    let no_process = matches!(record.outcome, Outcome::Cached | Outcome::Skipped | Outcome::NotStarted);
    if no_process || never_began {
        (record.slot, record.exit, record.peak_bytes) = (None, None, None);
        record.duration = Duration::ZERO;
    }
    match record.outcome {
        Outcome::Failed => {
            record.text =
                "round 3 of 8, after 12 kills\nexpected: 07 07 07 07\nfound:    07 07 09 07\n".to_owned();
            record.stdout_tail = "filled 8192 allocations\nkilled worker 3 at wksp.alloc.tagged\n".to_owned();
            record.stderr_tail = "outlast: verify failed\n".to_owned();
            record.schedule = Some("w0@alloc.claimed w1@free.cleared kill:w0".to_owned());
            record.sandbox = Some("target/stress/20261126-210000-4711/7".into());
        }
        Outcome::Crashed => record.exit = Some(Exit::Signal { number: 11, core: true }),
        Outcome::TimedOut => {
            record.exit = Some(Exit::Signal { number: 9, core: false });
            record.slow = true;
        }
        Outcome::Leaked => record.leaked = vec!["4711 sleep".to_owned(), "4712 sh".to_owned()],
        _ => {}
    }
}
