//! Ctrl-C: a flag that scenarios look at between steps and that long operations are given as their cancel flag.
//!
//! # Invariants
//! - Nothing is cleaned up in the handler: scenarios end early and their guards clean up.

use outlast_wksp::Cancel;

/// The flag, set by SIGINT, SIGTERM and SIGHUP from now on.
///
/// # Errors
/// The reason why the handler could not be installed.
pub fn install() -> Result<Cancel, String> {
    let stop = Cancel::new();
    let flag = stop.clone();
    ctrlc::set_handler(move || flag.cancel()).map_err(|error| format!("cannot take over Ctrl-C: {error}"))?;
    Ok(stop)
}
