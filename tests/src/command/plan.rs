//! The plan of a run: one job for each scenario and repetition.
//!
//! # Invariants
//! - The same arguments and the same seed make the same plan, on every machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outlast_sched::{Command, Cpus, Demand, Job, Limit};
use twox_hash::XxHash3_128;

use super::arguments::Arguments;
use super::selection::{Again, Selected};
use crate::job;
use crate::report::reproduction;
use crate::run::Profile;

/// The heading of every line of the report.
const PROJECT: &str = "outlast";

/// What jobs are made from besides what is selected.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    /// The command line.
    pub(super) arguments: &'a Arguments,
    /// Seed of the run.
    pub(super) seed: u64,
    /// This program.
    pub(super) program: &'a Path,
    /// Where relative paths begin.
    pub(super) base: &'a Path,
    /// CPUs that the runner may use.
    pub(super) cpus: u32,
    /// Bytes for all regions and processes.
    pub(super) memory_bytes: u64,
}

/// Seed, iterations and schedule of one repetition.
type Round = (u64, Option<u64>, Option<String>);

impl Setting<'_> {
    /// The jobs in plan order.
    ///
    /// # Errors
    /// If this program cannot be read for its digest.
    pub(super) fn jobs(&self, selected: &[Selected]) -> std::io::Result<Vec<Job>> {
        let share = self.arguments.time.map(|time| self.share(time, selected));
        let build = if self.arguments.skip_unchanged { Some(digest_of(self.program)?) } else { None };
        let mut jobs = Vec::new();
        for one in selected {
            let rounds = self.rounds(one);
            let repetitions = rounds.len() as u32;
            for (index, round) in rounds.into_iter().enumerate() {
                let repetition = index as u32 + 1;
                let ordinal = jobs.len() as u32;
                let mut job = self.job(one, &round, share, build);
                job.global_ordinal = ordinal;
                (job.repetition, job.repetitions) = (repetition, repetitions);
                jobs.push(job);
            }
        }
        Ok(jobs)
    }

    /// A recorded failure comes first as it was, then once more as if it were new.
    fn rounds(&self, one: &Selected) -> Vec<Round> {
        let recorded = one
            .again
            .iter()
            .map(|Again { seed, iterations, schedule }| (*seed, *iterations, schedule.clone()));
        let fresh = (0..self.arguments.repeat)
            .map(|index| (self.seed.wrapping_add(u64::from(index)), self.arguments.iters, None));
        recorded.chain(fresh).collect()
    }

    fn job(&self, one: &Selected, round: &Round, share: Option<Duration>, build: Option<u128>) -> Job {
        let (seed, iterations, schedule) = round;
        let scenario = one.scenario;
        let words = job::Arguments {
            name: scenario.name.to_owned(),
            seed: *seed,
            iters: *iterations,
            millis: share.map(|share| u64::try_from(share.as_millis()).unwrap_or(u64::MAX)),
            profile: one.profile,
            parent: std::process::id().cast_signed(),
            base: self.base.to_owned(),
            options: one.options.clone(),
        };
        Job {
            global_ordinal: 0,
            project: PROJECT.to_owned(),
            group: scenario.group().to_owned(),
            name: scenario.name.to_owned(),
            repetition: 1,
            repetitions: 1,
            seed: *seed,
            schedule: schedule.clone(),
            demand: Demand {
                weight: 1,
                cpus: Cpus::Own(scenario.cpus),
                memory_bytes: scenario.memory_bytes.min(self.memory_bytes),
            },
            limit: self.limit(one.profile, share),
            command: Command {
                program: self.program.to_owned(),
                arguments: words.words(),
                environment: Vec::new(),
                reports: true,
            },
            skeleton: None,
            inputs: build.map(|build| self.inputs(one, *iterations, build)),
            skip: scenario.missing(),
            replay: reproduction(scenario.name, *seed, *iterations, one.profile.as_str(), &one.options),
        }
    }

    /// The time of each scenario, so that all of them together take `time` if they keep all CPUs busy.
    fn share(&self, time: Duration, selected: &[Selected]) -> Duration {
        let busy =
            |one: &Selected| u64::from(one.scenario.cpus.min(self.cpus)) * self.rounds(one).len() as u64;
        let needed: u64 = selected.iter().filter(|one| one.scenario.missing().is_none()).map(busy).sum();
        time.mul_f64(f64::from(self.cpus) / needed.max(u64::from(self.cpus)) as f64)
    }

    fn limit(&self, profile: Profile, share: Option<Duration>) -> Limit {
        let (slow, kill) = match profile {
            Profile::Quick => (60, 600),
            Profile::Full => (1200, 6 * 3600),
        };
        let beside = share.unwrap_or_default();
        Limit {
            slow: Some(self.arguments.slow.unwrap_or(beside + Duration::from_secs(slow))),
            kill: Some(self.arguments.limit.unwrap_or(beside + Duration::from_secs(kill))),
            grace: self.arguments.grace,
        }
    }

    /// A digest of all that decides what a job does; its seed only if that was asked for by number.
    fn inputs(&self, one: &Selected, iterations: Option<u64>, build: u128) -> String {
        let seed = self.arguments.seed;
        let rest = format!("{seed:?} {iterations:?} {:?} {:?}", one.profile, one.options);
        let rest = XxHash3_128::oneshot_with_seed(build as u64, rest.as_bytes());
        format!("{:032x}", build ^ rest)
    }
}

/// A digest of a plan: what its jobs are called, their seeds and their command lines, without what differs between the
/// machines that carry out parts of it.
pub(super) fn digest(jobs: &[Job]) -> String {
    let mut text = String::new();
    for job in jobs {
        text.push_str(&format!("{:?} {} {} {}\n", job.name, job.repetition, job.seed, job.replay));
    }
    format!("{:032x}", XxHash3_128::oneshot(text.as_bytes()))
}

/// A digest of this build.
fn digest_of(program: &Path) -> std::io::Result<u128> {
    std::fs::read(program).map(|bytes| XxHash3_128::oneshot(&bytes))
}

/// Where sandboxes, reports and the history are: `$OUTLAST_STRESS_DIR`, else `target/stress` below `base`.
pub(super) fn root(base: &Path) -> PathBuf {
    match std::env::var_os("OUTLAST_STRESS_DIR").filter(|path| !path.is_empty()) {
        Some(path) => base.join(path),
        None => base.join("target/stress"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    fn selected() -> Vec<Selected> {
        let new = |scenario| Selected { scenario, options: Vec::new(), profile: Profile::Quick, again: None };
        scenario::ALL.iter().map(new).collect()
    }

    fn with<T>(words: &[&str], cpus: u32, check: impl FnOnce(&Setting<'_>) -> T) -> T {
        let arguments = super::super::arguments::parse(words.iter().map(Into::into));
        let arguments = arguments.unwrap_or_else(|_| panic!("{words:?}"));
        let program = std::env::current_exe().unwrap();
        let setting = Setting {
            arguments: &arguments,
            seed: 7,
            program: &program,
            base: Path::new("/"),
            cpus,
            memory_bytes: 1 << 20,
        };
        check(&setting)
    }

    #[test]
    fn repetitions_have_seeds_of_their_own() {
        let jobs = with(&["--repeat", "3"], 2, |setting| setting.jobs(&selected()[..2]).unwrap());
        let rounds: Vec<_> = jobs.iter().map(|job| (job.global_ordinal, job.repetition, job.seed)).collect();
        assert_eq!(rounds, [(0, 1, 7), (1, 2, 8), (2, 3, 9), (3, 1, 7), (4, 2, 8), (5, 3, 9)]);
        assert!(jobs.iter().all(|job| job.repetitions == 3 && job.demand.memory_bytes == 1 << 20));
    }

    #[test]
    fn a_recorded_failure_comes_first_as_it_was() {
        let again = Some(Again { seed: 99, iterations: Some(4), schedule: Some("v1".into()) });
        let one = Selected { again, ..selected().remove(0) };
        let jobs = with(&[], 2, |setting| setting.jobs(&[one]).unwrap());
        let [first, second] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!((first.seed, first.schedule.as_deref()), (99, Some("v1")));
        assert!(first.replay.contains("--seed 99 --iters 4"), "{}", first.replay);
        assert!(second.seed == 7 && !second.replay.contains("--iters"), "{}", second.replay);
    }

    #[test]
    fn the_time_is_shared_by_cores() {
        let minute = Duration::from_secs(60);
        for cpus in [1, 2, 16] {
            let share = with(&[], cpus, |setting| setting.share(minute, &selected()));
            let alive = selected().into_iter().filter(|one| one.scenario.missing().is_none());
            let busy: u32 = alive.map(|one| one.scenario.cpus.min(cpus)).sum();
            let total = share * busy;
            let all = minute * cpus;
            assert!(total.abs_diff(all) < Duration::from_secs(1) || share == minute, "{cpus}: {share:?}");
        }
    }

    #[test]
    fn what_decides_what_a_job_does_changes_its_inputs() {
        let inputs = |words: &[&str]| {
            let jobs = with(words, 2, |setting| setting.jobs(&selected()[..1]).unwrap());
            jobs[0].inputs.clone()
        };
        assert_eq!(inputs(&[]), None);
        let plain = inputs(&["--skip-unchanged"]);
        assert_eq!(plain, inputs(&["--skip-unchanged"]));
        assert_ne!(plain, inputs(&["--skip-unchanged", "--seed", "7"]));
        assert_ne!(plain, inputs(&["--skip-unchanged", "--iters", "7"]));
    }
}
