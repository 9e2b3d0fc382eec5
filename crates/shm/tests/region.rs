//! Making, naming, opening, growing and removing regions, within one process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actors;

use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::time::Duration;

use actors::{EXPECT, PAGE, Place, WATCHDOG, name, spec};
use outlast_probe::sync::Ordering;
use outlast_shm::{
    Domain, DomainError, Draft, Expect, LockError, PageSize, RangeError, Region, RegionError, Spec,
    USER_OFFSET,
};

fn open(place: &Place) -> Result<Region, RegionError> {
    Region::open(&place.domain, &name("r"), &EXPECT)
}

/// The file of region `r`, to damage it.
fn file(place: &Place) -> std::fs::File {
    std::fs::File::options().read(true).write(true).open(place.domain.path().join("r")).unwrap()
}

#[test]
fn a_region_has_its_name_when_it_is_whole() {
    let place = Place::new();
    let draft = Draft::new(&place.domain, &name("r"), &spec()).unwrap();
    assert!(place.entries().is_empty(), "a draft has no name");
    assert!(matches!(open(&place), Err(RegionError::Missing { .. })));
    draft.region().bytes(USER_OFFSET..USER_OFFSET + 1).unwrap().write(0, &[9]).unwrap();
    let region = draft.publish().unwrap();
    assert_eq!(place.entries(), ["r"]);
    let same = open(&place).unwrap();
    assert_eq!((same.id(), same.name(), same.kind()), (region.id(), Some(name("r")), 7));
    assert!(same.bytes(USER_OFFSET..USER_OFFSET + 1).unwrap().is_all(0, 1, 9).unwrap());
    assert_eq!(same.len_bytes(), spec().len_bytes);
}

#[test]
fn nothing_is_left_of_what_failed() {
    let (place, _region) = Place::with_region();
    drop(Draft::new(&place.domain, &name("b"), &spec()).unwrap());
    let taken = Draft::new(&place.domain, &name("r"), &spec()).unwrap().publish();
    assert!(matches!(taken, Err(RegionError::Exists { name: taken }) if taken == name("r")));
    std::fs::create_dir(place.domain.path().join("d")).unwrap();
    let replaced = Draft::new(&place.domain, &name("d"), &spec()).unwrap().publish_replacing();
    assert!(matches!(replaced, Err(RegionError::NotAFile { .. })));
    assert_eq!(place.entries(), ["d", "r"]);
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_is_made() {
    let place = Place::new();
    let refused = |spec: &Spec| {
        let error = Draft::new(&place.domain, &name("r"), spec).map(|_| ()).unwrap_err();
        assert!(Region::anonymous(spec).is_err());
        error
    };
    for page_size in [PageSize::Huge, PageSize::Gigantic] {
        assert!(matches!(refused(&Spec { page_size, ..spec() }), RegionError::Unsupported { .. }));
    }
    assert!(matches!(refused(&Spec { near_cpu: Some(0), ..spec() }), RegionError::Unsupported { .. }));
    let bad = [
        Spec { len_bytes: USER_OFFSET - PAGE, ..spec() },
        Spec { len_bytes: USER_OFFSET + 1, ..spec() },
        Spec { len_max_bytes: spec().len_bytes - PAGE, ..spec() },
        Spec { len_max_bytes: spec().len_bytes + 8, ..spec() },
        Spec { len_max_bytes: 1 << 48, ..spec() },
        Spec { guards: [USER_OFFSET + 8, 0], ..spec() },
        Spec { guards: [0, PAGE], ..spec() },
        Spec { guards: [0, spec().len_bytes], ..spec() },
        Spec { mode: 0o1600, ..spec() },
    ];
    for spec in bad {
        assert!(matches!(refused(&spec), RegionError::Spec { .. }), "{spec:?}");
    }
    assert!(place.entries().is_empty());
}

#[test]
fn joins_are_counted_and_shared() {
    let (place, region) = Place::with_region();
    let count = |region: &Region| region.joiners().iter().map(|joiner| joiner.join_count).collect::<Vec<_>>();
    let (second, clone) = (open(&place).unwrap(), region.clone());
    assert_eq!(count(&region), [3]);
    let range = USER_OFFSET..USER_OFFSET + 8;
    let address = |region: &Region| region.bytes(range.clone()).unwrap().as_ptr();
    assert_eq!(address(&second), address(&region), "one mapping");
    drop(region);
    clone.leave().unwrap();
    assert_eq!(count(&second), [1]);
    assert_eq!(place.domain.info(&name("r")).unwrap().joiners.len(), 1);
    second.leave().unwrap();
    assert!(place.domain.info(&name("r")).unwrap().joiners.is_empty());
    let again = open(&place).unwrap();
    assert_eq!(again.joiners()[0].generation, 2, "the slot was given out a second time");
}

#[test]
fn a_read_only_join_is_a_mapping_of_its_own() {
    let (place, region) = Place::with_region();
    assert!(!region.other_joiners());
    let reader = Region::open_read_only(&place.domain, &name("r"), &EXPECT).unwrap();
    assert!(region.other_joiners(), "readers are noticed");
    assert!(place.domain.info(&name("r")).unwrap().has_readers);
    assert_eq!(reader.joiners().len(), 1, "but have no slot");
    let range = USER_OFFSET..USER_OFFSET + 64;
    let (written, seen) = (region.bytes(range.clone()).unwrap(), reader.bytes(range.clone()).unwrap());
    assert_ne!(written.as_ptr(), seen.as_ptr());
    written.fill(0, 64, 3).unwrap();
    assert!(seen.is_all(0, 64, 3).unwrap());
    assert!(matches!(seen.write(0, &[1]), Err(RangeError::ReadOnly { .. })));
    assert!(matches!(seen.fill(0, 1, 1), Err(RangeError::ReadOnly { .. })));
    let words = reader.words(range).unwrap();
    assert_eq!(words.load(0, Ordering::Acquire), 0x0303_0303_0303_0303);
    let store = || words.store(0, 1, Ordering::Relaxed);
    assert!(std::panic::catch_unwind(store).is_err(), "a bug of the caller, not a fault of the process");
    drop(reader);
    assert!(!region.other_joiners());
}

#[test]
fn views_keep_to_the_user_area() {
    let guard = USER_OFFSET + 2 * PAGE;
    let spec = Spec { guards: [guard, 0], len_max_bytes: USER_OFFSET + 8 * PAGE, ..spec() };
    let region = Region::anonymous(&spec).unwrap();
    let end = region.len_bytes();
    let words = |start, end| region.words(start..end).map(|words| words.len());
    assert_eq!(words(USER_OFFSET, guard), Ok(1024));
    assert_eq!(words(guard + PAGE, end), Ok(512));
    assert_eq!(words(end, end), Ok(0));
    assert!(matches!(words(USER_OFFSET - 8, guard), Err(RangeError::Outside { .. })));
    assert!(matches!(words(0, 8), Err(RangeError::Outside { .. })));
    assert!(matches!(words(end, end + 8), Err(RangeError::Outside { max, .. }) if max == end));
    assert!(matches!(words(u64::MAX - 7, u64::MAX), Err(RangeError::Outside { .. })));
    assert!(matches!(words(guard, USER_OFFSET), Err(RangeError::Outside { .. })));
    assert!(matches!(words(USER_OFFSET + 4, USER_OFFSET + 12), Err(RangeError::Misaligned { .. })));
    for (start, end) in
        [(guard - 8, guard + 8), (guard, guard + PAGE), (guard + 8, guard + 16), (guard - 8, end)]
    {
        assert_eq!(words(start, end), Err(RangeError::Guard { start, end, guard }));
    }
    let bytes = region.bytes(USER_OFFSET..guard).unwrap();
    assert!(bytes.read(2 * PAGE, &mut [0]).is_err() && bytes.read(u64::MAX, &mut [0]).is_err());
    assert!(bytes.sub(0..2 * PAGE + 1).is_err());
    assert_eq!(bytes.sub(1..3).unwrap().len(), 2);
}

#[test]
fn a_region_grows_to_its_limit_and_never_shrinks() {
    let place = Place::new();
    let spec = Spec { len_max_bytes: USER_OFFSET + 16 * PAGE, ..spec() };
    let region = Draft::new(&place.domain, &name("r"), &spec).unwrap().publish().unwrap();
    let reader = Region::open_read_only(&place.domain, &name("r"), &EXPECT).unwrap();
    let (old, new) = (spec.len_bytes, USER_OFFSET + 9 * PAGE);
    assert_eq!(region.extend(old).unwrap(), old);
    assert_eq!(region.extend(1).unwrap(), old);
    assert_eq!(region.extend(new).unwrap(), new);
    assert_eq!(region.extend(old).unwrap(), new);
    assert!(matches!(region.extend(new + 1), Err(RegionError::Extend { .. })));
    assert!(matches!(region.extend(spec.len_max_bytes + PAGE), Err(RegionError::Extend { .. })));
    region.bytes(old..new).unwrap().fill(0, new - old, 5).unwrap();
    assert!(reader.bytes(old..new).is_err(), "not known to the other join yet");
    assert_eq!(reader.refresh_len().unwrap(), new);
    assert!(reader.bytes(old..new).unwrap().is_all(0, new - old, 5).unwrap());
    let blocks = file(&place).metadata().unwrap().blocks();
    assert!(new <= blocks * 512, "every page is there");
}

#[test]
fn replacing_leaves_the_old_region_to_its_joiners() {
    let (place, old) = Place::with_region();
    let new = Draft::new(&place.domain, &name("r"), &spec()).unwrap().publish_replacing().unwrap();
    assert_ne!(old.id(), new.id());
    assert_eq!(place.entries(), ["r"]);
    assert_eq!(open(&place).unwrap().id(), new.id());
    old.bytes(USER_OFFSET..USER_OFFSET + 8).unwrap().fill(0, 8, 1).unwrap();
    assert!(new.bytes(USER_OFFSET..USER_OFFSET + 8).unwrap().is_all(0, 8, 0).unwrap());
    let fresh = Draft::new(&place.domain, &name("s"), &spec()).unwrap().publish_replacing();
    assert_eq!(fresh.unwrap().name(), Some(name("s")), "as good as publish if there is nothing to replace");
}

#[test]
fn unlinking_takes_the_name_and_leaves_the_memory() {
    let (place, region) = Place::with_region();
    place.domain.unlink(&name("r")).unwrap();
    assert!(matches!(place.domain.unlink(&name("r")), Err(RegionError::Missing { .. })));
    assert!(matches!(open(&place), Err(RegionError::Missing { .. })));
    region.lock(WATCHDOG).unwrap().unlock().unwrap();
    let next = Draft::new(&place.domain, &name("r"), &spec()).unwrap().publish().unwrap();
    assert_ne!(next.id(), region.id());
}

#[test]
fn every_flipped_byte_of_the_header_is_refused() {
    let (place, region) = Place::with_region();
    drop(region);
    let file = file(&place);
    for offset in 0..256 {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        for flip in [1, 0x20, 0x80, 0xff] {
            file.write_all_at(&[byte[0] ^ flip], offset).unwrap();
            let error = open(&place).map(|_| ()).unwrap_err();
            let expected = match offset {
                0..8 => matches!(error, RegionError::Magic { .. }),
                8..12 => matches!(error, RegionError::Version { expected: 1, .. }),
                _ => matches!(error, RegionError::Checksum { .. }),
            };
            assert!(expected, "byte {offset} flipped by {flip:#x}: {error}");
            assert!(place.domain.info(&name("r")).is_err());
        }
        file.write_all_at(&byte, offset).unwrap();
    }
    open(&place).unwrap();
}

#[test]
fn what_is_not_the_expected_region_is_refused() {
    let (place, region) = Place::with_region();
    drop(region);
    let other_kind = Region::open(&place.domain, &name("r"), &Expect { kind: 6, ..EXPECT });
    assert!(matches!(other_kind, Err(RegionError::Kind { expected: 6, found: 7 })));
    let other_print = Region::open(&place.domain, &name("r"), &Expect { fingerprint: 9, ..EXPECT });
    assert!(matches!(other_print, Err(RegionError::Fingerprint { expected: 9, found: 8 })));
    let path = |entry: &str| place.domain.path().join(entry);
    std::fs::copy(path("r"), path("copy")).unwrap();
    let copied = Region::open(&place.domain, &name("copy"), &EXPECT).map(|_| ()).unwrap_err();
    assert!(matches!(copied, RegionError::HeaderName { found: Some(found), .. } if found == name("r")));
    symlink(path("r"), path("link")).unwrap();
    let linked = Region::open(&place.domain, &name("link"), &EXPECT);
    assert!(matches!(linked, Err(RegionError::Symlink)));
    assert!(matches!(place.domain.unlink(&name("link")), Err(RegionError::Symlink)));
    let len = spec().len_bytes;
    for len in [0, 100, 4096, len - PAGE, len - 1, len + 1, len + PAGE] {
        file(&place).set_len(len).unwrap();
        let cut = open(&place).map(|_| ()).unwrap_err();
        match len {
            0 => assert!(matches!(cut, RegionError::Magic { .. })),
            100 => assert!(matches!(cut, RegionError::Checksum { .. })),
            _ => assert!(matches!(cut, RegionError::Size { found, .. } if found == len)),
        }
        if len <= 100 {
            // What was cut off is gone; begin anew.
            place.domain.unlink(&name("r")).unwrap();
            drop(Draft::new(&place.domain, &name("r"), &spec()).unwrap().publish().unwrap());
        }
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can give a file to somebody else");
        return;
    }
    file(&place).set_len(len).unwrap();
    std::os::unix::fs::chown(path("r"), Some(12345), None).unwrap();
    assert!(matches!(open(&place), Err(RegionError::Owner { found: 12345, .. })));
    assert!(matches!(place.domain.unlink(&name("r")), Err(RegionError::Owner { .. })));
}

#[test]
fn odd_entries_are_listed_with_the_reason() {
    let (place, _region) = Place::with_region();
    let path = |entry: &str| place.domain.path().join(entry);
    std::fs::create_dir(path("directory")).unwrap();
    std::fs::write(path("text"), "not a region, but longer than a header has to be ".repeat(9)).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("-odd name"), "").unwrap();
    symlink("r", path("symlink")).unwrap();
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let listings = place.domain.list().unwrap();
    let text: Vec<_> = listings
        .iter()
        .map(|listing| {
            let info = match &listing.info {
                Ok(info) => format!("kind {}, {} bytes", info.kind, info.len_bytes),
                Err(error) => error.to_string(),
            };
            format!("{}: {info}", listing.file_name.to_str().unwrap())
        })
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn domain_refuses_what_others_could_reach() {
    let dir = tempfile::tempdir().unwrap();
    let path = |entry: &str| dir.path().join(entry);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(Domain::open(&path("new")).unwrap().path()), 0o700);
    Domain::open(&path("new/")).unwrap();
    std::fs::create_dir(path("open")).unwrap();
    for bits in [0o755, 0o750, 0o701, 0o770] {
        std::fs::set_permissions(path("open"), std::os::unix::fs::PermissionsExt::from_mode(bits)).unwrap();
        let refused = Domain::open(&path("open"));
        assert!(matches!(refused, Err(DomainError::Mode { found, .. }) if found == bits));
    }
    symlink(path("new"), path("link")).unwrap();
    for link in ["link", "link/", "link/."] {
        assert!(matches!(Domain::open(&path(link)), Err(DomainError::Symlink { .. })), "{link}");
    }
    std::fs::write(path("file"), "").unwrap();
    assert!(matches!(Domain::open(&path("file")), Err(DomainError::NotADirectory { .. })));
    assert!(matches!(Domain::open(&path("none/deep")), Err(DomainError::Io { .. })));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(path("new"), Some(12345), None).unwrap();
        assert!(matches!(Domain::open(&path("new")), Err(DomainError::Owner { found: 12345, .. })));
    } else {
        println!("skipped in part: only root can give a directory to somebody else");
    }
}

#[test]
fn space_is_told() {
    let place = Place::new();
    let space = place.domain.space().unwrap();
    assert!(0 < space.total_bytes && space.available_bytes <= space.total_bytes);
}

#[test]
fn a_descriptor_is_joined_anew_and_must_be_a_region() {
    let region = Region::anonymous(&spec()).unwrap();
    assert_eq!(region.name(), None);
    let fd = region.fd().try_clone_to_owned().unwrap();
    let same = Region::from_fd(fd, &EXPECT).unwrap();
    assert_eq!(same.joiners()[0].join_count, 2);
    let seals = nix::fcntl::fcntl(region.fd(), nix::fcntl::FcntlArg::F_GET_SEALS).unwrap();
    assert_ne!(seals & nix::libc::F_SEAL_SHRINK, 0, "nobody can cut it");
    let reader =
        Region::from_fd_read_only(region.fd().as_fd().try_clone_to_owned().unwrap(), &EXPECT).unwrap();
    assert_eq!(reader.id(), region.id());
    let (pipe, _other) = nix::unistd::pipe().unwrap();
    assert!(matches!(Region::from_fd(pipe, &EXPECT), Err(RegionError::NotAFile { .. })));
    let text = tempfile::tempfile().unwrap();
    assert!(matches!(Region::from_fd(text.into(), &EXPECT), Err(RegionError::Magic { .. })));
}

#[test]
fn the_lock_excludes_and_is_not_reentrant() {
    let region = Region::anonymous(&spec()).unwrap();
    let guard = region.lock(WATCHDOG).unwrap();
    assert!(guard.is_held() && !guard.needs_recovery() && guard.taken_from().is_none());
    assert!(matches!(region.lock(WATCHDOG), Err(LockError::Reentrant { .. })));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| region.lock(Duration::from_millis(20)).map(drop));
        let busy = other.join().unwrap().unwrap_err();
        let LockError::Busy { owner: Some(owner), tid, .. } = busy else { panic!("{busy}") };
        assert_eq!((owner.pid, tid), (std::process::id(), nix::unistd::gettid().as_raw().cast_unsigned()));
    });
    let holder = region.lock_state().holder.unwrap();
    assert_eq!(holder.slot, Some(region.slot().unwrap()));
    guard.unlock().unwrap();
    region.lock(Duration::ZERO).unwrap().unlock().unwrap();
    assert_eq!(region.lock_state().holder, None);
}

#[test]
fn counters_are_kept_for_each_joiner() {
    let region = Region::anonymous(&spec()).unwrap();
    let guard = region.lock(Duration::ZERO).unwrap();
    guard.count([(0, 3), (14, 1)]);
    guard.count([(0, u64::MAX)]);
    let mut expected = [0; 15];
    (expected[0], expected[14]) = (2, 1);
    assert_eq!(region.counters(region.slot().unwrap()), Some(expected));
    assert_eq!(region.joiners()[0].counters, Some(expected));
    assert_eq!(guard.joiner_number(), 256 + region.slot().unwrap().index() as u64, "the first generation");
    drop(guard);
    let out_of_range = || region.lock(Duration::ZERO).unwrap().count([(15, 1)]);
    assert!(std::panic::catch_unwind(core::panic::AssertUnwindSafe(out_of_range)).is_err());
    // That left the block half-written: no answer, until the slot's next change.
    assert_eq!(region.counters(region.slot().unwrap()), None);
    region.lock(Duration::ZERO).unwrap().count([]);
    assert_eq!(region.counters(region.slot().unwrap()), Some(expected));
}

#[test]
fn a_discarded_region_is_zeros_under_views_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let domain = Domain::open(&dir.path().join("domain")).unwrap();
    let name = "gone".parse().unwrap();
    let spec = Spec::new(1, 2, USER_OFFSET + 4096);
    let region = Draft::new(&domain, &name, &spec).unwrap().publish().unwrap();
    let range = USER_OFFSET..USER_OFFSET + 4096;
    let (words, bytes) = (region.words(range.clone()).unwrap(), region.bytes(range.clone()).unwrap());
    bytes.fill(0, 4096, 0xab).unwrap();
    region.discard().unwrap();
    assert!(bytes.is_all(0, 4096, 0).unwrap());
    words.store(0, 7, Ordering::Relaxed);
    let again = Region::open(&domain, &name, &spec.expect()).unwrap();
    assert!(again.bytes(range).unwrap().is_all(0, 4096, 0xab).unwrap(), "the file is as it was");
    region.leave().unwrap();
    assert_eq!(Region::open(&domain, &name, &spec.expect()).unwrap().handle_count(), 2, "one join");
    again.leave().unwrap();
}
