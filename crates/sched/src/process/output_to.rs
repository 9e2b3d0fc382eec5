//! A copy of what each job prints, under a name of the caller's choice.
//!
//! # Invariants
//! - No two jobs of a run are copied to the same path.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::job::Job;
use crate::run::RunError;
use crate::sandbox::{file_name, open_file};

/// A path in which `[NAME]` stands for the job's name and `[NUMBER]` for its place in the plan, from 1.
#[derive(Debug, Clone)]
pub(crate) struct OutputTo {
    template: PathBuf,
}

impl OutputTo {
    pub(crate) fn new(template: &Path) -> Self {
        Self { template: template.to_owned() }
    }

    /// Looks whether every job has a path of its own.
    pub(crate) fn check(&self, jobs: &[Job]) -> Result<(), RunError> {
        let mut seen = BTreeMap::new();
        for (ordinal, job) in (0..).zip(jobs) {
            let path = self.path(job, ordinal);
            if let Some(first) = seen.insert(path.clone(), ordinal) {
                return Err(RunError::OutputTo { path, first: first + 1, second: ordinal + 1 });
            }
        }
        Ok(())
    }

    /// Copies the standard output and then the standard error of a sandbox.
    pub(crate) fn copy(&self, job: &Job, ordinal: u32, sandbox: &Path) -> Result<(), String> {
        let path = self.path(job, ordinal);
        let copy = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut target = File::create(&path)?;
            for name in ["stdout", "stderr"] {
                match open_file(&sandbox.join(name)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    source => drop(io::copy(&mut source?, &mut target)?),
                }
            }
            Ok(())
        };
        copy().map_err(|error| format!("its output could not be copied to {}: {error}", path.display()))
    }

    fn path(&self, job: &Job, ordinal: u32) -> PathBuf {
        let number = (u64::from(ordinal) + 1).to_string();
        self.template
            .iter()
            .map(|part| match part.to_str() {
                Some(part) => {
                    part.replace("[NUMBER]", &number).replace("[NAME]", &file_name(&job.name)).into()
                }
                None => part.to_owned(),
            })
            .collect()
    }
}
