//! What is written comes back, for every style, thread count and shape of partitions.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;

use fixture::{Image, Region, file_of, fixed, read_all};
use outlast_checkpt::{Checkpoint, ChunkStyle, RestoreOptions, Style, WriteError, WriteOptions, write_to};

#[test]
fn every_style_and_thread_count_writes_the_same_bytes_and_restores_them() {
    let image = Image::random(1, 3 << 20);
    for style in Style::ALL {
        let (bytes, summary) = image.write(&fixed(style, 1));
        for threads in [2, 3, 8] {
            assert!(image.write(&fixed(style, threads)).0 == bytes, "{style} on {threads} threads");
        }
        let checkpoint = Checkpoint::from_file(file_of(&bytes)).unwrap();
        assert_eq!(checkpoint.partitions(), image.partitions);
        assert_eq!(checkpoint.meta(), &image.meta());
        assert_eq!(checkpoint.summary(), summary);
        assert_eq!(checkpoint.id(), [0x5A; 16]);
        assert_eq!(summary.file_bytes, bytes.len() as u64);
        for threads in [1, 2, 8] {
            let options = RestoreOptions::default().threads(threads);
            let report = checkpoint.verify(&options).unwrap();
            assert_eq!((report.faults.len(), report.file_bytes), (0, bytes.len() as u64));
            let region = Region::new(image.bytes.len());
            checkpoint.restore(&region, &options).unwrap();
            image.assert_restored(region);
        }
    }
}

#[test]
fn shapes_at_the_edges_of_windows() {
    const W: u64 = 64 << 10;
    let shapes: [&[(u64, u64)]; 8] = [
        &[],
        &[(0, 1)],
        &[(W - 1, 1)],
        &[(W - 1, 2)],
        &[(0, W), (W, W)],
        &[(W, 3 * W)],
        &[(5, 1), (7, 1), (9, W), (3 * W + 1, W - 1)],
        &[(10 * W + 17, 1)],
    ];
    for shape in shapes {
        let image = Image::new(shape, |at| (at % 251) as u8 + 1);
        for style in Style::ALL {
            let (bytes, summary) = image.write(&fixed(style, 2).window_bytes(W));
            let used: u64 = shape.iter().map(|(_, size)| size).sum();
            assert_eq!((summary.used_bytes, summary.partition_count), (used, shape.len() as u64));
            image.assert_restored(read_all(&bytes, image.bytes.len()).unwrap());
        }
    }
}

#[test]
fn every_window_size_of_the_format() {
    let image = Image::random(9, 5 << 20);
    for shift in 16..=22 {
        let (bytes, summary) = image.write(&fixed(Style::Auto, 2).window_bytes(1 << shift));
        assert_eq!(summary.window_bytes, 1 << shift);
        image.assert_restored(read_all(&bytes, image.bytes.len()).unwrap());
    }
    for window_bytes in [0, 1 << 15, 3 << 16, 1 << 23] {
        let options = fixed(Style::Raw, 1).window_bytes(window_bytes);
        let file = tempfile::tempfile().unwrap();
        let error = write_to(&file, &image.meta(), &image.partitions, &image, &options).unwrap_err();
        assert!(matches!(error, WriteError::WindowSize { .. }), "{error}");
    }
}

#[test]
fn chunks_have_the_style_that_fits_them() {
    let image = Image::random(3, 2 << 20);
    let counts = |style| {
        let (bytes, summary) = image.write(&fixed(style, 2));
        let checkpoint = Checkpoint::from_file(file_of(&bytes)).unwrap();
        let chunks: Vec<_> = checkpoint.chunks().collect();
        assert_eq!(chunks.len() as u64, summary.chunk_count);
        assert!(chunks.iter().all(|chunk| match chunk.style {
            ChunkStyle::Zero => chunk.stored_bytes == 0,
            ChunkStyle::Raw => chunk.stored_bytes == chunk.content_bytes,
            _ => chunk.stored_bytes < chunk.content_bytes,
        }));
        summary.style_counts
    };
    let raw = counts(Style::Raw);
    assert!(raw.raw > 0 && raw.lz4 == 0 && raw.zstd == 0);
    assert!(counts(Style::Lz4).lz4 > 0 && counts(Style::Auto).lz4 > 0 && counts(Style::Zstd).zstd > 0);
    let zeros = Image::new(&[(100, 1 << 20)], |_| 0);
    for style in Style::ALL {
        let (_, summary) = zeros.write(&fixed(style, 2));
        assert_eq!((summary.style_counts.zero, summary.stored_bytes), (summary.chunk_count, 0));
    }
}

#[test]
fn free_bytes_do_not_reach_the_file() {
    let mut image = Image::new(&[(1000, 10), (3000, 10)], |_| 1);
    let (before, _) = image.write(&fixed(Style::Raw, 1));
    image.bytes[2000..2900].fill(0x55);
    assert!(image.write(&fixed(Style::Raw, 1)).0 == before);
}

#[test]
fn a_longer_file_is_cut() {
    let image = Image::random(4, 1 << 18);
    let file = file_of(&vec![0xFF; 4 << 20]);
    let summary =
        write_to(&file, &image.meta(), &image.partitions, &image, &WriteOptions::default()).unwrap();
    assert_eq!(file.metadata().unwrap().len(), summary.file_bytes);
    Checkpoint::from_file(file).unwrap();
}

#[test]
fn identity_and_clock_are_fresh_unless_given() {
    let image = Image::new(&[(0, 10)], |_| 1);
    let (_, first) = image.write(&WriteOptions::default());
    let (_, second) = image.write(&WriteOptions::default());
    assert_ne!(first.id, second.id);
    assert_eq!((first.id[6] >> 4, first.id[8] >> 6), (4, 2), "a version 4 UUID");
    assert!(first.clock_unix_ns > 1_600_000_000_000_000_000 && first.clock_unix_ns <= second.clock_unix_ns);
}
