//! `groove/sweep`: SIGKILL after every instruction of every call that changes a groove; the work is done by
//! [`crate::sweep::groove`], whose children are this binary as well.
//!
//! # Invariants
//! - A pass has swept every case, and adoptions of killed calls besides.

use std::time::{Duration, Instant};

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
    cpus: 1,
    memory_bytes: 64 << 20,
    sample: (1, &[]),
    options: None,
    run,
};

fn run(run: &Run<'_>, tally: &mut Tally) -> Result<(), End> {
    let program = Program::new(run.program, &[CHILD]);
    let amount = Amount { exact: None, quick: 1, quick_time: Duration::ZERO, least: 1, full: 1 };
    let begin = Instant::now();
    while run.goes_on(tally.iterations, begin, &amount)? {
        run.progress.set(tally.iterations, "single-stepping");
        let program = program.clone();
        let sweep = std::thread::spawn(move || groove::sweep_all(&program, |_| true, |_| {}));
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
    tally.require_some(&["cases", "adoptions_of_a_killed_call", "instructions_stepped"])?;
    tally.require_some(&["images_before", "images_after"])
}
