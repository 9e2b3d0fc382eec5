//! All cases, and recoveries of recoveries.
//!
//! # Invariants
//! - The same seed and profile make the same calls in the same workspaces (whose ids and stamps are random).

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rand_pcg::Pcg64;

use super::cases::{self, Case, below};
use super::child::Program;
use super::operation::Operation;
use super::report::{Failure, Report};
use super::trace_and_check;

/// How much is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The named cases, a few random ones, a few recoveries of recoveries: some seconds.
    Quick,
    /// More of everything: some minutes.
    Full,
}

impl Profile {
    fn random_count(self) -> u64 {
        match self {
            Self::Quick => 12,
            Self::Full => 200,
        }
    }

    /// How many images of a case have their recovery swept, and for one in how many cases.
    fn recoveries(self) -> (usize, u64) {
        match self {
            Self::Quick => (1, 2),
            Self::Full => (2, 1),
        }
    }
}

/// Recoveries of images of recoveries are swept, and no further.
const DEPTH_MAX: u32 = 2;

/// What [`sweep_all`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// One for each case, in the order in which they ended.
    pub reports: Vec<Report>,
    /// Cases that sweep the recovery of an image of another case.
    pub recovery_case_count: u64,
    /// Cases that sweep the recovery of an image of a recovery.
    pub nested_case_count: u64,
    /// Instructions stepped.
    pub instruction_count: u64,
    /// Images recovered and checked.
    pub image_count: u64,
    /// Wall time.
    pub elapsed: Duration,
}

impl Summary {
    fn add(&mut self, depth: u32, report: Report) {
        self.instruction_count += report.instruction_count;
        self.image_count += report.image_count;
        self.recovery_case_count += u64::from(depth == 1);
        self.nested_case_count += u64::from(1 < depth);
        self.reports.push(report);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cases ({} of them recoveries of a killed call, {} recoveries of a killed recovery), {} instructions stepped, {} images recovered and checked, {:.1} s",
            self.reports.len(),
            self.recovery_case_count,
            self.nested_case_count,
            self.instruction_count,
            self.image_count,
            self.elapsed.as_secs_f64(),
        )
    }
}

/// Sweeps all named cases, random ones, recoveries of some of their images, and recoveries of images of those.
/// One thread for each core.
///
/// # Errors
/// The first [`Failure`]; [`Failure::is_skip`] says whether that is one of the code under test.
pub fn sweep_all(seed: u64, profile: Profile, program: &Program) -> Result<Summary, Failure> {
    let begin = Instant::now();
    let mut queue: VecDeque<Job> = VecDeque::new();
    let setup =
        |reason| Failure::Setup { case: "making the cases".to_owned(), operation: "none".to_owned(), reason };
    queue.extend(cases::named().map_err(setup)?.into_iter().map(|case| Job { depth: 0, case }));
    for number in 0..profile.random_count() {
        let case = cases::random(number, &mut stream(seed, number)).map_err(setup)?;
        queue.push_back(Job { depth: 0, case });
    }
    let shared = Mutex::new(Shared { queue, summary: Summary::default(), failure: None });
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let worker = Worker { seed, profile, program, shared: &shared };
            scope.spawn(move || worker.run(number));
        }
    });
    let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    match shared.failure {
        Some(failure) => Err(failure),
        None => Ok(Summary { elapsed: begin.elapsed(), ..shared.summary }),
    }
}

/// One case to sweep.
struct Job {
    /// 0 for a call, 1 for the recovery of one of its images, 2 for the recovery of an image of that.
    depth: u32,
    case: Case,
}

/// What the workers share.
struct Shared {
    queue: VecDeque<Job>,
    summary: Summary,
    failure: Option<Failure>,
}

struct Worker<'s> {
    seed: u64,
    profile: Profile,
    program: &'s Program,
    shared: &'s Mutex<Shared>,
}

impl Worker<'_> {
    fn run(&self, number: usize) {
        // A step is two switches between tracer and child: far cheaper if both are on one core.
        pin(number);
        while let Some(job) = self.take() {
            let made = self.sweep(&job);
            let mut shared = self.lock();
            match made {
                Ok((report, more)) => {
                    shared.summary.add(job.depth, report);
                    shared.queue.extend(more);
                }
                Err(failure) => {
                    shared.failure.get_or_insert(failure);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, if there is one and nothing has failed. Another worker's job may bring more: it makes them.
    fn take(&self) -> Option<Job> {
        let mut shared = self.lock();
        if shared.failure.is_some() { None } else { shared.queue.pop_front() }
    }

    fn sweep(&self, job: &Job) -> Result<(Report, Vec<Job>), Failure> {
        let (report, trace) = trace_and_check(&job.case, self.program)?;
        let depth = job.depth + 1;
        let mut rng = stream(self.seed, name_hash(&job.case.name));
        let (samples, one_in) = self.profile.recoveries();
        // The first change takes the lock and the last ones let go of it: in between there is something to mend.
        let middle = trace.changes.len().saturating_sub(4) as u64;
        let chosen = depth <= DEPTH_MAX && middle != 0 && (below(&mut rng, one_in) == 0 || 1 < depth);
        let more = (0..if chosen { samples } else { 0 }).map(|_| {
            let count = 1 + below(&mut rng, middle) as usize;
            Job { depth, case: recovery(&job.case, &trace, count, &mut rng) }
        });
        Ok((report, more.collect()))
    }
}

/// The recovery of `trace`'s image after `count` changes: by a joiner's call, or by a newcomer's allocation.
fn recovery(case: &Case, trace: &super::trace::Trace, count: usize, rng: &mut Pcg64) -> Case {
    let operation = match below(rng, 8) {
        0 => Operation::JoinAlloc(100, 64, cases::TAG),
        1 => Operation::Reset(1),
        2 => Operation::Alloc(100, 64, cases::TAG),
        _ => Operation::Usage,
    };
    Case {
        name: format!("{}@{count}", case.name),
        base: trace.image(count),
        geography: trace.geography,
        operation,
    }
}

/// FNV-1a: what is drawn for a case depends on its name, not on which thread sweeps it when.
fn name_hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn stream(seed: u64, stream: u64) -> Pcg64 {
    Pcg64::new(u128::from(seed), u128::from(stream))
}

/// Keeps the calling thread, and children that it starts, on one of the cores it may use. Best effort.
pub(super) fn pin(number: usize) {
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return };
    let cores: Vec<usize> =
        (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect();
    let mut one = CpuSet::new();
    if let Some(core) = cores.get(number % cores.len().max(1))
        && one.set(*core).is_ok()
    {
        let _ = sched_setaffinity(this, &one);
    }
}
