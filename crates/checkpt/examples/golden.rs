//! Writes the golden files that are missing and refuses to overwrite any.
//!
//! `cargo run -p outlast-checkpt --example golden -- DIRECTORY`
//!
//! Golden files pin decoding: they are written once per format version and never again, since codecs may
//! change their bytes between versions.

use std::path::PathBuf;

use outlast_checkpt::{WriteError, write_file};

#[path = "../tests/fixture/mod.rs"]
mod fixture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("expected the directory to write to")?);
    for golden in fixture::golden::all() {
        let path = directory.join(golden.name).with_extension("checkpt");
        let options = golden.options.mode(0o644);
        let image = &golden.image;
        match write_file(&path, &image.meta(), &image.partitions, image, &options) {
            Ok(summary) => println!("{}: {} bytes", path.display(), summary.file_bytes),
            Err(WriteError::AlreadyExists { .. }) => println!("{}: kept", path.display()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
