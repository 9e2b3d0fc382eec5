//! Every flipped bit and every truncation of a file is found, by `verify` and by `restore`, and located.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use fixture::{Image, Region, UNTOUCHED, file_of, fixed};
use outlast_checkpt::{Checkpoint, Fault, ReadError, RestoreOptions, Style, What};

/// Preamble, records and footer of a sound file.
fn structures(bytes: &[u8]) -> Vec<Range<u64>> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let footer = bytes.len() - 160;
    let (mut ranges, mut at): (Vec<_>, _) = (std::iter::once(0..64).collect(), 64);
    while at < footer {
        let end = at + 64 + word(at + 8) as usize;
        ranges.push(at as u64..end as u64);
        at = end;
    }
    assert_eq!(at, footer);
    ranges.push(footer as u64..bytes.len() as u64);
    ranges
}

/// A small file with a chunk of the style and one of zeros.
fn small(style: Style) -> Vec<u8> {
    const W: u64 = 64 << 10;
    let image = Image::new(&[(10, 90), (130, 50), (W + 7, 200)], |at| match at < W {
        true => (at / 20) as u8,
        false => 0,
    });
    let (bytes, summary) = image.write(&fixed(style, 1).window_bytes(W));
    assert_eq!(summary.style_counts.zero, 1);
    let counts = summary.style_counts;
    let expected = match style {
        Style::Zstd => counts.zstd,
        Style::Lz4 | Style::Auto => counts.lz4,
        _ => counts.raw,
    };
    assert_eq!(expected, 1, "{style}: the other chunk has the style that is meant");
    bytes
}

/// The fault with which a damaged file is refused by a reader that verifies, and by one that restores.
fn faults(file: &File) -> [Result<(), ReadError>; 2] {
    let options = RestoreOptions::default().threads(1);
    let open = || Checkpoint::from_file(file.try_clone().unwrap());
    let verify = open().and_then(|checkpoint| match checkpoint.verify(&options)?.faults.first() {
        Some(fault) => Err(fault.clone().into()),
        None => Ok(()),
    });
    let restore = open().and_then(|checkpoint| checkpoint.restore(&Region::new(1 << 17), &options));
    [verify, restore]
}

#[test]
fn every_flipped_bit_is_found_and_located() {
    for style in Style::ALL {
        let bytes = small(style);
        let structures = structures(&bytes);
        let file = file_of(&bytes);
        assert!(faults(&file).iter().all(Result::is_ok), "sound at first");
        for bit in 0..bytes.len() * 8 {
            let (at, mask) = (bit / 8, 1 << (bit % 8));
            file.write_all_at(&[bytes[at] ^ mask], at as u64).unwrap();
            let around = structures.iter().find(|range| range.contains(&(at as u64))).unwrap();
            for found in faults(&file) {
                match found {
                    Err(ReadError::Corrupt(fault)) => assert!(
                        around.contains(&fault.file_offset),
                        "{style}, bit {bit}: damage in {around:?} was located as {fault}"
                    ),
                    Err(ReadError::NotACheckpoint { .. }) if at < 8 => {}
                    other => panic!("{style}, bit {bit} in {around:?}: {other:?}"),
                }
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
        assert!(faults(&file).iter().all(Result::is_ok), "sound at last");
    }
}

#[test]
fn every_truncation_is_found_and_located() {
    for style in Style::ALL {
        let bytes = small(style);
        let structures = structures(&bytes);
        for size in 0..bytes.len() as u64 {
            let complete = structures.iter().filter(|range| range.end <= size).map(|range| range.end).max();
            for found in faults(&file_of(&bytes[..size as usize])) {
                match found {
                    Err(ReadError::Truncated { file_bytes, complete_bytes }) => {
                        assert_eq!((file_bytes, complete_bytes), (size, complete.unwrap_or(0)), "{style}");
                    }
                    other => panic!("{style}, {size} of {} bytes: {other:?}", bytes.len()),
                }
            }
        }
    }
}

#[test]
fn appended_bytes_are_found() {
    let bytes = small(Style::Lz4);
    let end = bytes.len() as u64;
    for more in [1, 63, 64, 160, 5000] {
        for fill in [0, 0xD7] {
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + more, fill);
            let file_bytes = longer.len() as u64;
            let error = Checkpoint::from_file(file_of(&longer)).unwrap_err();
            assert!(
                matches!(error, ReadError::TrailingBytes { end: e, file_bytes: f } if (e, f) == (end, file_bytes)),
                "{more} bytes: {error}"
            );
        }
    }
    let twice = [bytes.as_slice(), bytes.as_slice()].concat();
    let error = Checkpoint::from_file(file_of(&twice)).unwrap_err();
    assert!(matches!(error, ReadError::Corrupt(Fault { what: What::FileSize, .. })), "{error}");
}

#[test]
fn removed_and_inserted_ranges_are_found() {
    let bytes = small(Style::Raw);
    for at in (0..bytes.len()).step_by(7) {
        for size in [1, 24, 64, 200] {
            let end = (at + size).min(bytes.len());
            let removed = [&bytes[..at], &bytes[end..]].concat();
            assert!(faults(&file_of(&removed)).iter().all(Result::is_err), "{at}..{end} removed");
            let inserted = [&bytes[..at], &vec![0; size], &bytes[at..]].concat();
            assert!(faults(&file_of(&inserted)).iter().all(Result::is_err), "{size} inserted at {at}");
        }
    }
}

#[test]
fn verify_lists_all_faults_and_restore_hands_over_no_damaged_window() {
    const W: u64 = 64 << 10;
    for style in Style::ALL {
        let image = Image::new(&[(0, 8 * W)], |at| (at / 777) as u8 | 1);
        let (bytes, _) = image.write(&fixed(style, 2).window_bytes(W));
        let file = file_of(&bytes);
        let checkpoint = Checkpoint::from_file(file.try_clone().unwrap()).unwrap();
        let chunks: Vec<_> = checkpoint.chunks().collect();
        let damaged = [1, 4, 7];
        for window in damaged {
            // The last byte of the payload, and the window number in the header of one of them.
            let at = chunks[window].file_offset + 63 + chunks[window].stored_bytes;
            file.write_all_at(&[bytes[at as usize] ^ 0x10], at).unwrap();
        }
        file.write_all_at(&[0xFF], chunks[4].file_offset + 24).unwrap();
        for threads in [1, 3] {
            let options = RestoreOptions::default().threads(threads);
            let found = checkpoint.verify(&options).unwrap().faults;
            let what: Vec<_> = found.iter().map(|fault| (fault.what, fault.gaddr.clone().unwrap())).collect();
            let stored = |window: u64| (What::StoredChecksum, window * W..(window + 1) * W);
            assert_eq!(what, [stored(1), (What::ChunkHeader, 4 * W..5 * W), stored(4), stored(7)]);
            assert_eq!(
                (found[1].file_offset, found[1].expected, found[1].found),
                (chunks[4].file_offset + 24, 4, 0xFF)
            );

            let region = Region::new(image.bytes.len());
            let error = checkpoint.restore(&region, &options).unwrap_err();
            assert!(matches!(&error, ReadError::Corrupt(fault) if fault.gaddr == Some(W..2 * W)), "{error}");
            let restored = region.0.into_inner().unwrap();
            for window in damaged {
                let bytes = &restored[window * W as usize..(window + 1) * W as usize];
                assert!(bytes.iter().all(|byte| *byte == UNTOUCHED), "window {window} reached the sink");
            }
        }
    }
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_an_error() {
    let image = Image::new(&[(0, 1 << 20)], |at| (at % 253) as u8);
    let file = file_of(&image.write(&fixed(Style::Raw, 1)).0);
    let checkpoint = Checkpoint::from_file(file.try_clone().unwrap()).unwrap();
    file.set_len(100_000).unwrap();
    let options = RestoreOptions::default().threads(2);
    assert!(checkpoint.restore(&Region::new(image.bytes.len()), &options).is_err());
    assert!(matches!(checkpoint.verify(&options), Err(ReadError::Truncated { file_bytes: 100_000, .. })));
}
