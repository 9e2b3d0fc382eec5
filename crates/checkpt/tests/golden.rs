//! Files written by earlier versions stay readable, also by a reader that shares no code with ours.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::golden::{Golden, all};
use fixture::{file_of, read_all};
use outlast_checkpt::{Checkpoint, ReadError};

fn path(golden: &Golden) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    directory.join(golden.name).with_extension("checkpt")
}

#[test]
fn golden_files_decode_to_what_was_saved() {
    for golden in all() {
        let bytes = fs::read(path(&golden)).unwrap();
        assert!(bytes.len() < 64 << 10, "{} is small enough to keep", golden.name);
        let checkpoint = Checkpoint::from_file(file_of(&bytes)).unwrap();
        assert_eq!(checkpoint.partitions(), golden.image.partitions, "{}", golden.name);
        assert_eq!(checkpoint.meta(), &golden.image.meta());
        let summary = checkpoint.summary();
        assert_eq!((summary.id, summary.clock_unix_ns), ([0x5A; 16], 1_700_000_000_000_000_000));
        assert_eq!(Some(summary.style), Some(golden.options.style));
        golden.image.assert_restored(read_all(&bytes, golden.image.bytes.len()).unwrap());
    }
}

#[test]
fn between_them_they_have_every_chunk_style() {
    let mut counts = [0; 4];
    for golden in all() {
        let found = Checkpoint::open(path(&golden)).unwrap().summary().style_counts;
        for (count, found) in counts.iter_mut().zip([found.zero, found.raw, found.lz4, found.zstd]) {
            *count += found;
        }
        if golden.name == "auto-mixed" {
            assert!(found.zero > 0 && found.raw > 0 && found.lz4 > 0, "{found:?}");
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn their_truncated_and_flipped_twins_are_refused() {
    for golden in all() {
        let bytes = fs::read(path(&golden)).unwrap();
        let refused = |damaged: &[u8], what: &str| match read_all(damaged, golden.image.bytes.len()) {
            Err(ReadError::Corrupt(_) | ReadError::Truncated { .. } | ReadError::NotACheckpoint { .. }) => {}
            Err(other) => panic!("{} {what}: {other}", golden.name),
            Ok(_) => panic!("{} {what}: restored", golden.name),
        };
        for part in 1..16 {
            let at = bytes.len() * part / 16;
            refused(&bytes[..at], "truncated");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (part % 8);
            refused(&flipped, "flipped");
        }
    }
}

/// Same format, so today's writer makes the same structure; only compressed payloads may differ one day.
#[test]
fn todays_writer_makes_the_same_uncompressed_files() {
    for golden in
        all().into_iter().filter(|golden| ["empty", "one-byte", "zero-window", "raw"].contains(&golden.name))
    {
        let (bytes, _) = golden.image.write(&golden.options);
        assert!(bytes == fs::read(path(&golden)).unwrap(), "{}: the writer changed", golden.name);
    }
}

#[test]
fn an_independent_reader_agrees() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent_reader.py");
    if let Err(error) = Command::new("python3").arg("--version").output() {
        return println!("skipped: python3 does not start: {error}");
    }
    for golden in all() {
        let output = Command::new("python3").arg(&script).arg(path(&golden)).output().unwrap();
        let (text, complaint) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {complaint}", golden.name);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), golden.image.partitions.len(), "{}", golden.name);
        for (line, partition) in lines.iter().zip(&golden.image.partitions) {
            let range = partition.gaddr as usize..(partition.gaddr + partition.size_bytes) as usize;
            let head = format!("{} {} {} ", partition.gaddr, partition.size_bytes, partition.tag);
            let crc = crc32fast::hash(&golden.image.bytes[range]).to_string();
            let found = line.strip_prefix(&head).unwrap_or_else(|| panic!("{}: {line}", golden.name));
            let skipped = golden.name == "zstd" && found == "-";
            assert!(skipped || found == crc, "{}: {line}, expected {crc}", golden.name);
        }
    }
}

#[test]
fn an_independent_reader_refuses_damage() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent_reader.py");
    if let Err(error) = Command::new("python3").arg("--version").output() {
        return println!("skipped: python3 does not start: {error}");
    }
    let golden = all().into_iter().find(|golden| golden.name == "lz4").unwrap();
    let mut bytes = fs::read(path(&golden)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let damaged = directory.path().join("damaged");
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    fs::write(&damaged, bytes).unwrap();
    let output = Command::new("python3").arg(&script).arg(&damaged).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("not a checkpoint"));
}

/// The page explains a whole file byte by byte: that one.
#[test]
fn the_dump_on_the_page_is_the_golden_file() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/checkpt.md");
    let Ok(page) = fs::read_to_string(page) else {
        return println!("skipped: the page is not part of a packaged crate");
    };
    let (_, rest) = page.split_once("<!-- dump:begin -->\n```text\n").unwrap();
    let (dump, _) = rest.split_once("\n```\n<!-- dump:end -->").unwrap();
    let mut bytes = Vec::new();
    for line in dump.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split("  ");
        assert_eq!(usize::from_str_radix(columns.next().unwrap(), 16), Ok(bytes.len()), "{line}");
        match columns.next().unwrap().split_once(" * ") {
            Some((byte, count)) => {
                let byte = u8::from_str_radix(byte, 16).unwrap();
                bytes.resize(bytes.len() + count.trim().parse::<usize>().unwrap(), byte);
            }
            None => {
                let found = line[5..].split("  ").next().unwrap();
                bytes.extend(found.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
            }
        }
    }
    let golden = all().into_iter().find(|golden| golden.name == "one-byte").unwrap();
    assert!(bytes == fs::read(path(&golden)).unwrap());
}
