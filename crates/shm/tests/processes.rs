//! Regions between processes: handing over, growth, guard pages, modes, limits, forks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actors;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use actors::raw::{Forked, read_byte};
use actors::{Actor, EXPECT, PAGE, Place, Stage, name, play, spec};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::WaitStatus;
use outlast_shm::{Domain, Draft, Liveness, LockError, Region, RegionError, Spec, USER_OFFSET};

#[test]
fn actor() {
    play(&[
        ("join descriptor", join_descriptor),
        ("join", join),
        ("touch guard", touch_guard),
        ("make modes", make_modes),
        ("limited", limited),
        ("small tmpfs", small_tmpfs),
        ("fork", fork_and_join),
        ("fork quietly", fork_quietly),
        ("fork with guard", fork_with_guard),
        ("leave draft", leave_draft),
    ]);
}

/// Joins the region whose descriptor it can open in the test's process.
fn join_descriptor(mut stage: Stage) {
    let file = std::fs::File::options().read(true).write(true).open(&stage.argument).unwrap();
    let region = Region::from_fd(file.into(), &EXPECT).unwrap();
    let bytes = region.bytes(USER_OFFSET..USER_OFFSET + 8).unwrap();
    assert!(bytes.is_all(0, 8, 1).unwrap());
    bytes.fill(0, 8, 2).unwrap();
    stage.line.say("done");
    stage.until_the_end();
}

#[test]
fn an_anonymous_region_is_handed_over_by_descriptor() {
    let region = Region::anonymous(&spec()).unwrap();
    let bytes = region.bytes(USER_OFFSET..USER_OFFSET + 8).unwrap();
    bytes.fill(0, 8, 1).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&region.fd()));
    let mut actor = Actor::new("join descriptor", path);
    actor.line.expect("done");
    assert!(bytes.is_all(0, 8, 2).unwrap());
    let joiners = region.joiners();
    assert_eq!(joiners.len(), 2);
    assert!(joiners.iter().any(|joiner| joiner.pid == actor.pid() && joiner.liveness == Liveness::Alive));
    assert!(region.other_joiners());
    actor.finish();
    assert!(!region.other_joiners());
}

/// Joins, tells its slot, extends when told to, leaves at the end.
fn join(mut stage: Stage) {
    let region = stage.region();
    stage.line.say(&region.slot().unwrap().to_string());
    while let Some(len) = stage.line.try_hear() {
        region.extend(len.parse().unwrap()).unwrap();
        let new = region.len_bytes() - PAGE..region.len_bytes();
        region.bytes(new).unwrap().fill(0, PAGE, 6).unwrap();
        stage.line.say("extended");
    }
}

#[test]
fn growth_is_seen_by_other_processes() {
    let place = Place::new();
    let spec = Spec { len_max_bytes: USER_OFFSET + 64 * PAGE, ..spec() };
    let region = Draft::new(&place.domain, &name("r"), &spec).unwrap().publish().unwrap();
    let mut actor = place.actor("join");
    actor.line.expect("1");
    let new = USER_OFFSET + 32 * PAGE;
    actor.line.say(&new.to_string());
    actor.line.expect("extended");
    assert!(region.bytes(new - PAGE..new).is_err());
    assert_eq!(region.refresh_len().unwrap(), new);
    assert!(region.bytes(new - PAGE..new).unwrap().is_all(0, PAGE, 6).unwrap());
    actor.finish();
    assert_eq!(region.joiners().len(), 1, "the other process has left");
}

#[test]
fn a_killed_joiner_is_found_dead_and_its_slot_given_out_again() {
    let (place, region) = Place::with_region();
    let mut first = place.actor("join");
    first.line.expect("1");
    first.kill();
    let dead = &region.joiners()[1];
    assert_eq!((dead.liveness, dead.generation), (Liveness::Dead, 1));
    assert!(!region.other_joiners(), "the dead do not count");
    let mut second = place.actor("join");
    second.line.expect("1");
    let alive = &region.joiners()[1];
    assert_eq!((alive.liveness, alive.generation, alive.pid), (Liveness::Alive, 2, second.pid()));
    second.finish();
}

fn touch_guard(mut stage: Stage) {
    let guard = USER_OFFSET + 2 * PAGE;
    let spec = Spec { guards: [guard, 0], ..spec() };
    let region = Region::anonymous(&spec).unwrap();
    let before = region.bytes(guard - PAGE..guard).unwrap();
    let address = before.as_ptr().cast_const();
    assert_eq!(read_byte(address.wrapping_add(PAGE as usize - 1)), 0);
    assert_eq!(read_byte(address.wrapping_add(2 * PAGE as usize)), 0);
    stage.line.say("about to fault");
    read_byte(address.wrapping_add(PAGE as usize));
    stage.line.say("did not fault");
}

#[test]
fn a_guard_page_ends_who_touches_it() {
    let mut actor = Actor::new("touch guard", "");
    actor.line.expect("about to fault");
    assert_eq!(actor.line.try_hear(), None);
    assert_eq!(actor.end(), Some(Signal::SIGSEGV as i32));
}

fn make_modes(mut stage: Stage) {
    for mask in [0o000, 0o022, 0o077, 0o777] {
        umask(Mode::from_bits_truncate(mask));
        let path = format!("{}/{mask:o}", stage.argument);
        let domain = Domain::open(path.as_ref()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        for mode in [0o600, 0o640, 0o666, 0o777, 0o400] {
            let name = name(&format!("r{mode:o}"));
            let region = Draft::new(&domain, &name, &Spec { mode, ..spec() }).unwrap().publish().unwrap();
            let found = std::fs::metadata(format!("{path}/{name}")).unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode, "umask {mask:o}");
            assert_eq!(domain.info(&name).unwrap().mode, mode);
            drop(region);
        }
        let anonymous = Region::anonymous(&Spec { mode: 0o640, ..spec() }).unwrap();
        let stat = nix::sys::stat::fstat(anonymous.fd()).unwrap();
        assert_eq!(stat.st_mode & 0o7777, 0o640);
    }
    stage.line.say("done");
}

#[test]
fn modes_are_exact_whatever_the_umask() {
    let directory = tempfile::tempdir().unwrap();
    Actor::new("make modes", directory.path()).line.expect("done");
}

fn limited(mut stage: Stage) {
    let domain = stage.domain();
    let limit = spec().len_bytes - 1;
    setrlimit(Resource::RLIMIT_FSIZE, limit, limit).unwrap();
    let error = Draft::new(&domain, &name("r"), &spec()).map(|_| ()).unwrap_err();
    let RegionError::FileSizeLimit { needed, limit: found } = error else { panic!("{error}") };
    assert_eq!((needed, found), (spec().len_bytes, limit));
    assert!(Region::anonymous(&spec()).is_err());
    stage.line.say("refused");
}

#[test]
fn the_file_size_limit_is_an_error_and_not_a_signal() {
    let place = Place::new();
    place.actor("limited").line.expect("refused");
    assert!(place.entries().is_empty());
}

/// In a mount namespace of its own.
fn small_tmpfs(mut stage: Stage) {
    use nix::mount::{MsFlags, mount};
    let options = Some("size=1m,mode=700");
    mount(Some("tmpfs"), stage.argument.as_str(), Some("tmpfs"), MsFlags::empty(), options).unwrap();
    let domain = stage.domain();
    let entries = || std::fs::read_dir(domain.path()).unwrap().count();
    let refuse = |len_bytes| {
        let spec = Spec { len_bytes, len_max_bytes: 8 << 20, ..spec() };
        let error = Draft::new(&domain, &name("r"), &spec).map(|_| ()).unwrap_err();
        let RegionError::NoSpace { needed, available, .. } = error else { panic!("{error}") };
        assert!(needed == len_bytes && available < needed, "{needed} {available}");
        assert_eq!(entries(), 0, "nothing is left");
        error.to_string()
    };
    let text = refuse(2 << 20);
    assert!(text.starts_with("needs 2 MiB, the file system at") && text.contains("has 1 MiB free"), "{text}");
    let before = domain.space().unwrap();
    assert_eq!(before.total_bytes, 1 << 20);
    let most = Spec { len_bytes: 1 << 19, len_max_bytes: 8 << 20, ..spec() };
    let region = Draft::new(&domain, &name("r"), &most).unwrap().publish().unwrap();
    assert!(matches!(region.extend(2 << 20), Err(RegionError::NoSpace { .. })));
    assert_eq!(region.refresh_len().unwrap(), 1 << 19, "what failed has changed nothing");
    region.lock(actors::WATCHDOG).unwrap().unlock().unwrap();
    domain.unlink(&name("r")).unwrap();
    drop(region);
    assert_eq!(domain.space().unwrap().available_bytes, before.available_bytes, "all of it is given back");
    stage.line.say("done");
}

/// Whether `unshare` with these flags can be had here; says so if not.
fn can_unshare(flags: &[&str]) -> bool {
    let outcome = Command::new("unshare").args(flags).arg("true").output();
    let reason = match outcome {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    println!("skipped: unshare {} is not to be had here: {reason}", flags.join(" "));
    false
}

#[test]
fn a_full_file_system_is_an_error_and_leaves_nothing() {
    let flags: &[_] = match nix::unistd::geteuid().is_root() {
        true => &["--mount"],
        false => &["--user", "--map-root-user", "--mount"],
    };
    if !can_unshare(flags) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let launcher = [&["unshare"], flags].concat();
    let mut actor = Actor::with_launcher(&launcher, "small tmpfs", directory.path());
    actor.line.expect("done");
}

/// A forked child uses the join that it inherits: it gets a slot of its own, and its death is its own.
fn fork_and_join(mut stage: Stage) {
    let region = stage.region();
    let own = region.joiners();
    assert_eq!(own[1].pid, std::process::id());
    region.lock(actors::WATCHDOG).unwrap().count([(0, 5)]);
    let child = Forked::new(|| {
        let slot = region.slot().unwrap();
        assert_eq!(slot.index(), 2, "a slot of its own");
        let mine = region.joiners().into_iter().find(|joiner| joiner.slot == slot).unwrap();
        assert_eq!((mine.pid, mine.liveness), (std::process::id(), Liveness::Alive));
        let parent = &region.joiners()[1];
        assert_eq!((parent.pid, parent.liveness), (own[1].pid, Liveness::Alive));
        let guard = region.lock(actors::WATCHDOG).unwrap();
        guard.count([(0, 1)]);
        assert_eq!(region.lock_state().holder.unwrap().tid, std::process::id(), "not the parent's thread");
        // Ends with the lock.
        std::mem::forget(guard);
    });
    assert_eq!(child.wait(), WaitStatus::Exited(last_child(&region), 0));
    assert_eq!(region.joiners()[1], own_with_counter(&own[1], 5), "the parent's slot is untouched");
    assert_eq!(region.joiners()[2].liveness, Liveness::Dead);
    let guard = region.lock(actors::WATCHDOG).unwrap();
    assert!(guard.needs_recovery());
    assert_eq!(guard.taken_from().unwrap().slot.index(), 2);
    drop(guard);
    stage.line.say("done");
}

fn last_child(region: &Region) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(region.joiners()[2].pid.cast_signed())
}

fn own_with_counter(joiner: &outlast_shm::JoinerInfo, count: u64) -> outlast_shm::JoinerInfo {
    let mut joiner = joiner.clone();
    joiner.counters.as_mut().unwrap()[0] = count;
    joiner
}

#[test]
fn a_forked_child_is_entered_anew() {
    let (place, _region) = Place::with_region();
    place.actor("fork").line.expect("done");
}

/// A forked child drops what it inherits, and lives on with the parent's file description.
fn fork_quietly(mut stage: Stage) {
    let region = stage.region();
    let before = region.joiners();
    let mut clone = Some(region.clone());
    let child = Forked::new(|| drop(clone.take()));
    assert!(matches!(child.wait(), WaitStatus::Exited(_, 0)));
    assert_eq!(
        region.joiners()[1].join_count,
        before[1].join_count + 1,
        "nothing happened to the parent's joins"
    );
    let stays = Forked::new(|| {
        stage.line.say("child is there");
        stage.line.expect("end");
    });
    stage.line.say(&stays.pid().to_string());
    let guard = region.lock(actors::WATCHDOG).unwrap();
    stage.line.say("locked");
    stage.until_the_end();
    drop(guard);
}

#[test]
fn a_child_that_keeps_the_description_does_not_keep_its_parent_alive() {
    let (place, region) = Place::with_region();
    let mut actor = place.actor("fork quietly");
    let mut heard = [actor.line.hear(), actor.line.hear(), actor.line.hear()];
    heard.sort();
    assert_eq!(heard[1..], ["child is there", "locked"]);
    let parent = actor.pid();
    actor.signal(Signal::SIGKILL);
    let guard = region.lock(actors::WATCHDOG);
    // Ends the child, whichever way the rest goes.
    actor.line.say("end");
    let guard = guard.unwrap();
    assert!(guard.needs_recovery());
    assert_eq!(guard.taken_from().unwrap().pid, parent);
}

/// A forked child drops a guard that it inherits: the lock stays with the parent.
fn fork_with_guard(mut stage: Stage) {
    let region = stage.region();
    let guard = region.lock(actors::WATCHDOG).unwrap();
    let mut guard = Some(guard);
    let child = Forked::new(|| {
        let inherited = guard.take().unwrap();
        assert!(!inherited.is_held());
        region.slot().unwrap();
        assert!(matches!(inherited.unlock(), Err(LockError::Stolen { .. })));
    });
    assert!(matches!(child.wait(), WaitStatus::Exited(_, 0)));
    let guard = guard.unwrap();
    assert!(guard.is_held());
    guard.unlock().unwrap();
    stage.line.say("done");
}

#[test]
fn a_forked_child_cannot_release_its_parents_lock() {
    let (place, _region) = Place::with_region();
    place.actor("fork with guard").line.expect("done");
}

/// Dies between the two names of an exchange, or as good as: with a copy of its region under a temporary name.
fn leave_draft(mut stage: Stage) {
    let domain = stage.domain();
    let draft = Draft::new(&domain, &name("d"), &spec()).unwrap();
    let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&draft.region().fd()));
    let to = domain.path().join(".draft-left");
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
    nix::unistd::linkat(nix::fcntl::AT_FDCWD, from.as_str(), nix::fcntl::AT_FDCWD, &to, flags).unwrap();
    stage.line.say("left");
    stage.until_the_end();
}

#[test]
fn a_dead_process_draft_is_swept_and_a_live_one_is_not() {
    let (place, region) = Place::with_region();
    std::fs::write(place.domain.path().join(".draft-else"), "not ours").unwrap();
    let mut actor = place.actor("leave draft");
    actor.line.expect("left");
    assert!(place.domain.sweep().unwrap().is_empty(), "its maker lives");
    actor.kill();
    assert_eq!(place.domain.sweep().unwrap(), [".draft-left"]);
    assert_eq!(place.entries(), [".draft-else", "r"]);
    // A replaced region that its joiners still use.
    std::fs::rename(place.domain.path().join("r"), place.domain.path().join(".draft-old")).unwrap();
    assert!(place.domain.sweep().unwrap().is_empty());
    drop(region);
    assert_eq!(place.domain.sweep().unwrap(), [".draft-old"]);
}
