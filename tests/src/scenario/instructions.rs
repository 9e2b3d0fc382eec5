//! `wksp/sweep`: SIGKILL after every instruction of every call that changes a workspace; the work is done by
//! [`crate::sweep`], whose children are this binary as well.

use std::time::{Duration, Instant};

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
    options: None,
    run,
};

/// The first word of the command line that makes the binary play the child.
pub const CHILD: &str = "sweep-child";

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let profile = match run.profile {
        Profile::Quick => sweep::Profile::Quick,
        Profile::Full => sweep::Profile::Full,
    };
    let program = Program::new(run.program, &[CHILD]);
    let amount = Amount { exact: None, quick: 1, quick_time: Duration::ZERO, least: 1, full: 1 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        run.progress.set(tally.iterations, "single-stepping");
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
