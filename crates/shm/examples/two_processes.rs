//! A parent makes a region, a child joins it and is killed while it holds the lock, the parent recovers.
//!
//! ```text
//! cargo run -p outlast-shm --example two_processes
//! ```

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use outlast_probe::sync::Ordering;
use outlast_shm::{Domain, Draft, Region, RegionName, Spec, USER_OFFSET, Words};

/// Two accounts; what is taken from one is given to the other.
const SPEC: Spec = Spec::new(u64::from_le_bytes(*b"account\n"), 1, USER_OFFSET + 4096);
const TOTAL: u64 = 100;
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let domain = Domain::open_default()?;
    match std::env::args().nth(1) {
        None => parent(&domain),
        Some(name) => child(&domain, name.parse()?),
    }
}

fn accounts(region: &Region) -> Result<Words<'_>, Box<dyn Error>> {
    Ok(region.words(USER_OFFSET..USER_OFFSET + 16)?)
}

fn parent(domain: &Domain) -> Result<(), Box<dyn Error>> {
    let name: RegionName = format!("two-processes-{}", std::process::id()).parse()?;
    let draft = Draft::new(domain, &name, &SPEC)?;
    accounts(draft.region())?.store(0, TOTAL, Ordering::Relaxed);
    let region = draft.publish()?;
    let outcome = watch_a_child_die(&name, &region);
    domain.unlink(&name)?;
    outcome
}

fn watch_a_child_die(name: &RegionName, region: &Region) -> Result<(), Box<dyn Error>> {
    let mut child =
        Command::new(std::env::current_exe()?).arg(name.as_str()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("the child has a stdout")?).read_line(&mut line)?;
    println!("child: {}", line.trim());
    if let Err(busy) = region.lock(Duration::from_millis(20)) {
        println!("parent, while the child lives: {busy}");
    }
    child.kill()?;
    child.wait()?;

    let mut guard = region.lock(TIMEOUT)?;
    if let Some(dead) = guard.taken_from() {
        println!("parent: took the lock from process {}, which is {}", dead.pid, dead.liveness);
    }
    if guard.needs_recovery() {
        let accounts = accounts(region)?;
        let rest = TOTAL - accounts.load(0, Ordering::Relaxed);
        println!("parent: the child had taken {rest} and given {}", accounts.load(1, Ordering::Relaxed));
        accounts.store(1, rest, Ordering::Relaxed);
        guard.mark_recovered();
    }
    guard.unlock()?;
    println!(
        "parent: recovered; somebody else is {}",
        if region.other_joiners() { "there" } else { "not there" }
    );
    Ok(())
}

fn child(domain: &Domain, name: RegionName) -> Result<(), Box<dyn Error>> {
    let region = Region::open(domain, &name, &SPEC.expect())?;
    let _guard = region.lock(TIMEOUT)?;
    accounts(&region)?.store(0, TOTAL - 30, Ordering::Relaxed);
    println!("I have taken 30, and here I hang with the lock");
    loop {
        std::thread::park();
    }
}
