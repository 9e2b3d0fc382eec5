//! `groove/sweep`: SIGKILL after every instruction of every call that changes a groove; the work is done by
//! [`crate::sweep::groove`], whose children are this binary as well.
//!
//! # Invariants
//! - A pass has swept every case, and adoptions of killed calls besides.

use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};

use crate::end::End;
use crate::failed;
use crate::report::Tally;
use crate::run::{Amount, Run};
use crate::scenario::Scenario;
use crate::scenario::instructions::CHILD;
use crate::sweep::{Program, groove};

/// The registry's entry.
pub const SCENARIO: Scenario = Scenario {
    name: "groove/sweep",
    about: "SIGKILL after every instruction of alloc, free, trim, removal, adoption and rebuild",
    unit: "sweeps of all cases",
    needs_probes: false,
    cpus: u32::MAX,
    memory_bytes: 64 << 20,
    sample: (1, &["--case", "alloc/current", "--case", "free/one-of-some"]),
    options: Some(<Options as CommandFactory>::command),
    run,
};

/// Options of `groove/sweep`.
#[derive(Debug, Clone, Parser)]
#[command(name = "groove/sweep", disable_version_flag = true)]
struct Options {
    /// Sweep this case only, such as `alloc/full`, or the adoption of what it leaves, if it is swept as well, such as
    /// `adopt/alloc/full` (may be given several times). Default: all of them.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
}

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let words = std::iter::once("groove/sweep".into()).chain(run.options.iter().cloned());
    let options = Options::try_parse_from(words).map_err(|error| End::Usage(error.to_string()))?;
    let program = Program::new(run.program, &[CHILD]);
    let amount = Amount { exact: None, quick: 1, quick_time: Duration::ZERO, least: 1, full: 1 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        let (program, cases) = (program.clone(), options.cases.clone());
        let pick = move |name: &str| cases.is_empty() || cases.iter().any(|case| case == name);
        let sweep = std::thread::spawn(move || groove::sweep_all(&program, pick, |_| {}));
        while !sweep.is_finished() {
            // After Ctrl-C the sweep ends with the process, and the kernel kills what is traced.
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
        tally.add("cases", summary.case_count);
        tally.add("adoptions_of_a_killed_call", summary.adoption_count);
        tally.add("instructions_stepped", summary.instruction_count);
        tally.add("images_before", summary.before_count);
        tally.add("images_after", summary.after_count);
    }
    tally.require_some(&["cases", "instructions_stepped"])?;
    if options.cases.is_empty() {
        tally.require_some(&["adoptions_of_a_killed_call"])?;
    }
    tally.require_some(&["images_before", "images_after"])
}
