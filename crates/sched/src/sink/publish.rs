//! Files that appear whole or not at all.
//!
//! # Invariants
//! - A reader of the name finds the old file or the whole new one; a failure leaves no second file behind.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Puts a new file under a name, in place of one that may be there. Its directory is made if it is missing.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    named(path, || {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.new", std::process::id()));
        let hidden = path.with_file_name(hidden);
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&hidden)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&hidden, path));
        if written.is_err() {
            let _ = fs::remove_file(&hidden);
        }
        written
    })
}

/// Does it; an error of it names the file.
pub(crate) fn named<T>(path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    work().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/report.xml");
        publish(&path, b"one").unwrap();
        publish(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let blocked = directory.path().join("deep");
        let error = publish(&blocked, b"three").unwrap_err();
        assert!(error.to_string().contains("deep"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&blocked).unwrap().count(), 1);
    }
}
