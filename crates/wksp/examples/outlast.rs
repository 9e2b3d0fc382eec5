//! A process allocates in a loop and is killed; what it had committed is still there for the next one.
//!
//! ```sh
//! cargo run --release -p outlast-wksp --example outlast
//! ```

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use outlast_wksp::{CreateOptions, Domain, RegionName, Wksp};

fn main() -> Result<(), Box<dyn Error>> {
    let domain = Domain::open_default()?;
    if let Some(name) = std::env::args().nth(1) {
        return work(&domain, &name.parse()?);
    }
    let name: RegionName = format!("example-{}", std::process::id()).parse()?;
    let wksp = Wksp::create(&domain, &name, &CreateOptions::with_size(1 << 20))?;
    let shown = show(&wksp, &name);
    Wksp::delete(&domain, &name)?;
    shown
}

/// Lets a child work until it has told of 1000 allocations, kills it, and looks.
fn show(wksp: &Wksp, name: &RegionName) -> Result<(), Box<dyn Error>> {
    let mut child =
        Command::new(std::env::current_exe()?).arg(name.as_str()).stdout(Stdio::piped()).spawn()?;
    let told = child.stdout.take().ok_or("no pipe")?;
    let last: u64 = BufReader::new(told).lines().nth(999).ok_or("the child ended early")??.parse()?;
    // SIGKILL: it gets no chance to clean up, and may be in the middle of a call.
    child.kill()?;
    child.wait()?;

    let found = wksp.tag_query(&(1..=last).collect::<Vec<_>>())?;
    println!("the child told of tag {last} before it was killed; {} of {last} tags are there", found.len());
    for partition in &found {
        let mut bytes = [0; 8];
        wksp.read(partition.gaddr.get(), &mut bytes)?;
        assert_eq!(u64::from_le_bytes(bytes), partition.tag, "what was committed is whole");
    }
    assert_eq!(found.len() as u64, last);
    assert!(wksp.verify()?.is_sound());
    wksp.alloc(64, 64, 1_000_000)?;
    println!("the workspace is sound and goes on");
    Ok(())
}

/// Allocates, writes, tells; until it is killed or the workspace is full.
fn work(domain: &Domain, name: &RegionName) -> Result<(), Box<dyn Error>> {
    let wksp = Wksp::attach(domain, name)?;
    for tag in 1_u64.. {
        let block = wksp.alloc(8, 8, tag)?;
        wksp.write(block.gaddr().get(), &tag.to_le_bytes())?;
        // Told only after the call has returned: from here on it is committed.
        writeln!(std::io::stdout(), "{tag}")?;
    }
    Ok(())
}
