//! Files that appear whole or not at all.
//!
//! # Invariants
//! - A reader of the name finds the old file or the whole new one; a failure leaves no second file behind.
//! - What is no file (a device, a pipe) is written to and never replaced.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts a new file under a name, in place of one that may be there. Its directory is made if it is missing. A device or
/// a pipe, such as `/dev/stdout`, gets the bytes as they are.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    named(path, || {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return pass(path, bytes);
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

/// Writes to a device or a pipe. A pipe that nobody reads is an error, not a wait.
fn pass(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().write(true).custom_flags(nonblock).open(path)?;
    rustix::io::ioctl_fionbio(&file, false)?;
    file.write_all(bytes)
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

    #[test]
    fn a_pipe_is_written_to_and_stays() {
        use std::os::unix::fs::FileTypeExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(publish(&path, b"nobody reads it").is_err());
        // Open for both, so that opening waits for nobody.
        let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        publish(&path, b"whole").unwrap();
        let mut bytes = [0; 5];
        io::Read::read_exact(&mut reader, &mut bytes).unwrap();
        assert_eq!(&bytes, b"whole");
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
