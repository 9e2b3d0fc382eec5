//! A workspace to a file and back: fresh and in place, into other sizes, from damaged files, interrupted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "checkpoint")]

use std::path::{Path, PathBuf};

use outlast_wksp::{
    AccessError, AllocError, Block, CheckpointOptions, CreateOptions, Domain, Reader, RegionName,
    RestoreError, RestoreMode, RestoreOptions, Style, Wksp,
};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

struct Home {
    directory: tempfile::TempDir,
    domain: Domain,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain = Domain::open(&directory.path().join("domain")).unwrap();
        Self { directory, domain }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn create(&self, name: &str, size_bytes: u64) -> Wksp {
        Wksp::create(&self.domain, &name.parse().unwrap(), &CreateOptions::with_size(size_bytes)).unwrap()
    }
}

fn restore_into(mode: RestoreMode) -> RestoreOptions {
    let mut options = RestoreOptions::default();
    options.mode = mode;
    options
}

fn fill(wksp: &Wksp, seed: u64) -> Vec<Block> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut blocks = Vec::new();
    for tag in 1..=300 {
        let size = u64::from(random.next_u32() & ((1 << (random.next_u32() % 13)) - 1)) + 1;
        match wksp.alloc(size, 1 << (random.next_u32() % 8), tag) {
            Ok(block) => blocks.push(block),
            Err(AllocError::NoSpace { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    blocks.retain(|block| block.tag() % 5 != 0 || wksp.free(*block).is_err());
    for block in &blocks {
        wksp.memset(block.gaddr(), block.tag() as u8 | 1).unwrap();
    }
    blocks
}

fn holds_exactly(wksp: &Wksp, blocks: &[Block]) {
    let found = wksp.partitions().unwrap();
    assert_eq!(found.len(), blocks.len());
    for block in blocks {
        let at = found.binary_search_by_key(&block.gaddr(), |found| found.gaddr).unwrap();
        assert_eq!((found[at].size_bytes, found[at].tag), (block.size_bytes(), block.tag()));
        let mut bytes = vec![0; block.size_bytes() as usize];
        wksp.read(block.gaddr().get(), &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == block.tag() as u8 | 1));
    }
    assert_eq!(wksp.verify().unwrap().faults, []);
}

#[test]
fn every_style_comes_back_fresh_and_in_place_and_in_other_sizes() {
    let home = Home::new();
    let wksp = home.create("source", 1 << 20);
    let blocks = fill(&wksp, 1);
    for (index, style) in [Style::Raw, Style::Lz4, Style::Zstd, Style::Auto].into_iter().enumerate() {
        let path = home.path(&format!("{style}"));
        wksp.checkpoint(&path, &CheckpointOptions::default().style(style).threads(index + 1)).unwrap();
        for (mode, size) in
            [(RestoreMode::Fresh, 1 << 20), (RestoreMode::InPlace, 2 << 20), (RestoreMode::Auto, 5 << 20)]
        {
            let name = format!("target-{style}-{size}");
            let mut target = home.create(&name, size);
            target.alloc(9999, 64, 9999).unwrap();
            let restored = target.restore(&path, &restore_into(mode)).unwrap();
            assert_eq!(
                (restored.partition_count, restored.fresh),
                (blocks.len() as u64, mode != RestoreMode::InPlace)
            );
            holds_exactly(&target, &blocks);
            let other = Wksp::attach(&home.domain, &name.parse().unwrap()).unwrap();
            holds_exactly(&other, &blocks);
            assert!(target.alloc(100, 64, 1).is_ok());
        }
    }
    let mut anonymous = Wksp::anonymous(&CreateOptions::with_size(3 << 20)).unwrap();
    assert!(!anonymous.restore(&home.path("raw"), &RestoreOptions::default()).unwrap().fresh);
    holds_exactly(&anonymous, &blocks);
}

#[test]
fn a_fresh_restore_may_ask_for_another_size() {
    let home = Home::new();
    let mut wksp = home.create("grows", 256 << 10);
    let blocks = fill(&wksp, 2);
    wksp.checkpoint(&home.path("saved"), &CheckpointOptions::default()).unwrap();
    let mut options = restore_into(RestoreMode::Fresh);
    options.size_bytes = Some(4 << 20);
    wksp.restore(&home.path("saved"), &options).unwrap();
    assert_eq!(wksp.data_bytes(), 4 << 20);
    holds_exactly(&wksp, &blocks);
    options.size_bytes = Some(4096);
    assert!(matches!(wksp.restore(&home.path("saved"), &options), Err(RestoreError::DoesNotFit { .. })));
    holds_exactly(&wksp, &blocks);
    assert!(home.domain.list().unwrap().len() == 1, "nothing is left beside the workspace");
}

#[test]
fn a_checkpoint_that_does_not_fit_changes_nothing() {
    let home = Home::new();
    let wksp = home.create("large", 1 << 20);
    fill(&wksp, 3);
    wksp.checkpoint(&home.path("saved"), &CheckpointOptions::default()).unwrap();
    for mode in [RestoreMode::Auto, RestoreMode::Fresh, RestoreMode::InPlace] {
        let mut small = home.create(&format!("small-{mode:?}"), 64 << 10);
        let blocks = fill(&small, 4);
        let refused = small.restore(&home.path("saved"), &restore_into(mode));
        assert!(matches!(refused, Err(RestoreError::DoesNotFit { data_bytes: 65536, .. })), "{refused:?}");
        holds_exactly(&small, &blocks);
    }
}

fn damage(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_file_leaves_the_workspace_as_it_was() {
    let home = Home::new();
    let wksp = home.create("source", 1 << 20);
    fill(&wksp, 5);
    wksp.checkpoint(&home.path("saved"), &CheckpointOptions::default().style(Style::Lz4)).unwrap();
    let len = std::fs::metadata(home.path("saved")).unwrap().len() as usize;
    for mode in [RestoreMode::Fresh, RestoreMode::InPlace] {
        let mut target = home.create(&format!("target-{mode:?}"), 1 << 20);
        let blocks = fill(&target, 6);
        for at in (0..len).step_by(len / 97) {
            std::fs::copy(home.path("saved"), home.path("bad")).unwrap();
            damage(&home.path("bad"), at);
            let refused = target.restore(&home.path("bad"), &restore_into(mode));
            assert!(matches!(refused, Err(RestoreError::Read(_))), "byte {at}: {refused:?}");
        }
        holds_exactly(&target, &blocks);
    }
}

#[test]
fn others_who_have_joined_are_not_left_behind() {
    let home = Home::new();
    let mut wksp = home.create("shared", 1 << 20);
    let blocks = fill(&wksp, 7);
    wksp.checkpoint(&home.path("saved"), &CheckpointOptions::default()).unwrap();
    let second = wksp.clone();
    assert!(matches!(
        wksp.restore(&home.path("saved"), &restore_into(RestoreMode::Fresh)),
        Err(RestoreError::Shared)
    ));
    second.reset(0).unwrap();
    assert!(!wksp.restore(&home.path("saved"), &RestoreOptions::default()).unwrap().fresh);
    holds_exactly(&second, &blocks);
    drop(second);
    let reader = Reader::attach(&home.domain, &"shared".parse::<RegionName>().unwrap()).unwrap();
    assert!(
        !wksp.restore(&home.path("saved"), &RestoreOptions::default()).unwrap().fresh,
        "a reader counts too"
    );
    assert_eq!(reader.partitions().unwrap().len(), blocks.len());
    drop(reader);
    assert!(wksp.restore(&home.path("saved"), &RestoreOptions::default()).unwrap().fresh);
    holds_exactly(&wksp, &blocks);
}

#[test]
fn blocks_from_before_a_restore_are_stale_afterwards() {
    let home = Home::new();
    for mode in [RestoreMode::Fresh, RestoreMode::InPlace] {
        let mut wksp = home.create(&format!("{mode:?}").to_lowercase(), 64 << 10);
        let block = wksp.alloc(100, 64, 1).unwrap();
        wksp.checkpoint(&home.path(&format!("{mode:?}")), &CheckpointOptions::default()).unwrap();
        wksp.restore(&home.path(&format!("{mode:?}")), &restore_into(mode)).unwrap();
        assert!(wksp.free(block).is_err());
        let again = wksp.block_at(block.gaddr()).unwrap().unwrap();
        wksp.free(again).unwrap();
    }
}

#[test]
fn an_interrupted_restore_is_a_typed_state_that_restore_and_reset_mend() {
    let home = Home::new();
    let mut wksp = home.create("torn", 64 << 10);
    let blocks = fill(&wksp, 8);
    wksp.checkpoint(&home.path("saved"), &CheckpointOptions::default()).unwrap();
    let other = wksp.clone();
    let path = home.path("saved");
    // The second pass finds the file changed: what a kill in the middle leaves, by an honest way.
    let mut options = restore_into(RestoreMode::InPlace);
    let rewrite = path.clone();
    options.decode = options.decode.progress(move |progress| {
        if progress.done_bytes == progress.total_bytes {
            let len = std::fs::metadata(&rewrite).unwrap().len();
            let file = std::fs::OpenOptions::new().write(true).open(&rewrite).unwrap();
            file.set_len(len / 2).unwrap();
        }
    });
    let bytes = std::fs::read(&path).unwrap();
    let torn = wksp.restore(&path, &options);
    assert!(matches!(torn, Err(RestoreError::Interrupted(_))), "{torn:?}");
    assert!(matches!(other.alloc(1, 1, 1), Err(AllocError::Access(AccessError::Restoring { .. }))));
    assert!(matches!(other.verify(), Err(AccessError::Restoring { .. })));
    // The same if it was cut short while it entered the allocations.
    let counter = outlast_shm::USER_OFFSET + 16 * 8;
    let counter = other.region().words(counter..counter + 8).unwrap();
    counter.fetch_or(0, 1, outlast_probe::sync::Ordering::Relaxed);
    assert!(matches!(other.alloc(1, 1, 1), Err(AllocError::Access(AccessError::Restoring { .. }))));
    std::fs::write(&path, &bytes).unwrap();
    wksp.restore(&path, &restore_into(RestoreMode::InPlace)).unwrap();
    holds_exactly(&other, &blocks);
    let torn = wksp.restore(&path, &options);
    assert!(matches!(torn, Err(RestoreError::Interrupted(_))), "{torn:?}");
    other.reset(1).unwrap();
    assert_eq!(wksp.partitions().unwrap(), []);
}

#[test]
fn a_workspace_is_made_from_a_checkpoint() {
    let home = Home::new();
    let blocks = fill(&home.create("source", 1 << 20), 9);
    let source = Wksp::attach(&home.domain, &"source".parse().unwrap()).unwrap();
    source.checkpoint(&home.path("saved"), &CheckpointOptions::default()).unwrap();
    let name: RegionName = "made".parse().unwrap();
    let (made, restored) =
        Wksp::create_from(&home.domain, &name, &home.path("saved"), &RestoreOptions::default()).unwrap();
    assert!(restored.fresh && restored.partition_count == blocks.len() as u64);
    assert_eq!((made.data_bytes(), made.name()), (1 << 20, Some(name)));
    holds_exactly(&made, &blocks);
    let taken = Wksp::create_from(&home.domain, &name, &home.path("saved"), &RestoreOptions::default());
    assert!(matches!(taken, Err(RestoreError::Region(_))), "{taken:?}");
    damage(&home.path("saved"), 5000);
    let other: RegionName = "other".parse().unwrap();
    let refused = Wksp::create_from(&home.domain, &other, &home.path("saved"), &RestoreOptions::default());
    assert!(matches!(refused, Err(RestoreError::Read(_))), "{refused:?}");
    assert_eq!(home.domain.list().unwrap().len(), 2);
}

#[test]
fn a_restore_killed_after_the_exchange_is_noticed_by_who_maps_the_old_region() {
    let home = Home::new();
    let old = home.create("exchanged", 64 << 10);
    // Another region takes the name, and whoever did it ends with the lock of the old one.
    let spec = outlast_shm::Spec::new(1, 1, outlast_shm::USER_OFFSET + 4096);
    outlast_shm::Draft::new(&home.domain, &old.name().unwrap(), &spec).unwrap().publish_replacing().unwrap();
    let region = old.region().clone();
    let killed = std::thread::spawn(move || {
        std::mem::forget(region.lock(std::time::Duration::from_secs(1)).unwrap());
    });
    killed.join().unwrap();
    assert!(matches!(old.alloc(1, 1, 1), Err(AllocError::Access(AccessError::Replaced))));
    assert!(matches!(old.reset(0), Err(AccessError::Replaced)));
}
