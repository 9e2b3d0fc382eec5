//! `wksp/sweep`: SIGKILL after every instruction of every call that changes a workspace; the work is done by
//! [`crate::sweep`], whose children are this binary as well.

use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};

use super::Scenario;
use crate::end::End;
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Profile, Run};
use crate::sweep::{self, Program};

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "wksp/sweep",
    about: "SIGKILL after every instruction of alloc, free, tag_free, reset, rebuild and recovery",
    unit: "sweeps of all cases",
    needs_probes: false,
    cpus: u32::MAX,
    memory_bytes: 64 << 20,
    sample: (1, &["--case", "alloc/exact", "--case", "free/alone"]),
    options: Some(<Options as CommandFactory>::command),
    run,
};

/// Options of `wksp/sweep`.
#[derive(Debug, Clone, Parser)]
#[command(name = "wksp/sweep", disable_version_flag = true)]
struct Options {
    /// Sweep this case only, and no recoveries (may be given several times). Default: all of them.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
}

/// The first word of the command line that makes the binary play the child.
pub const CHILD: &str = "sweep-child";

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let words = std::iter::once("wksp/sweep".into()).chain(run.options.iter().cloned());
    let options = Options::try_parse_from(words).map_err(|error| End::Usage(error.to_string()))?;
    if options.cases.is_empty() { all(run, tally) } else { some(run, &options.cases, tally) }
}

/// The named cases alone.
fn some(run: &Run<'_>, names: &[String], tally: &mut Tally) -> Result<(), End> {
    let program = Program::new(run.program, &[CHILD]);
    let known = sweep::cases::named().map_err(|what| failed!("making the cases: {what}"))?;
    let amount = Amount { exact: None, quick: 1, quick_time: Duration::ZERO, least: 1, full: 1 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        for name in names {
            run.check_stop()?;
            let case = known.iter().find(|case| case.name == *name).ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|case| case.name.as_str()).collect();
                End::Usage(format!("there is no case {name}; there are {}", names.join(", ")))
            })?;
            let report = match sweep::run(case, &program) {
                Ok(report) => report,
                Err(failure) if failure.is_skip() => return Err(End::Skipped(failure.to_string())),
                Err(failure) => return Err(failed!("{failure}")),
            };
            tally.add("cases", 1);
            tally.add("instructions_stepped", report.instruction_count);
            tally.add("images_recovered", report.image_count);
        }
        tally.iterations += 1;
    }
    tally.require_some(&["cases", "instructions_stepped", "images_recovered"])
}

/// All cases, and recoveries of killed ones.
fn all(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let profile = match run.profile {
        Profile::Quick => sweep::Profile::Quick,
        Profile::Full => sweep::Profile::Full,
    };
    let program = Program::new(run.program, &[CHILD]);
    let amount = Amount { exact: None, quick: 1, quick_time: Duration::ZERO, least: 1, full: 1 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        let (seed, program) = (run.seed.wrapping_add(tally.iterations), program.clone());
        let sweep = std::thread::spawn(move || sweep::sweep_all(seed, profile, &program));
        while !sweep.is_finished() {
            // After Ctrl-C the sweep ends with the process; its regions have no names, and the kernel kills what
            // is traced.
            run.check_stop()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        let summary = match sweep.join() {
            Ok(Ok(summary)) => summary,
            Ok(Err(failure)) if failure.is_skip() => return Err(End::Skipped(failure.to_string())),
            Ok(Err(failure)) => return Err(failed!("{failure}")),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        tally.iterations += 1;
        tally.add("cases", summary.reports.len() as u64);
        tally.add("recoveries_of_a_killed_call", summary.recovery_case_count);
        tally.add("recoveries_of_a_killed_recovery", summary.nested_case_count);
        tally.add("instructions_stepped", summary.instruction_count);
        tally.add("images_recovered", summary.image_count);
    }
    tally.require_some(&["cases", "instructions_stepped", "images_recovered"])?;
    tally.require_some(&["recoveries_of_a_killed_call", "recoveries_of_a_killed_recovery"])
}
