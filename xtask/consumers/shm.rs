//! What a crate that depends on `outlast-shm` alone can do: a region of its own, and a block in it.

use std::time::Duration;

use outlast_shm::{Domain, Draft, Region, RegionName, Spec, USER_OFFSET};

const BLOCK: [u8; 13] = *b"it is no toy.";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let domain = Domain::open_default()?;
    let name: RegionName = "consumer".parse()?;
    let spec = Spec::new(1, 1, USER_OFFSET + 4096);
    let region = Draft::new(&domain, &name, &spec)?.publish()?;

    let guard = region.lock(Duration::from_secs(1))?;
    let block = USER_OFFSET..USER_OFFSET + 13;
    region.bytes(block.clone())?.write(0, &BLOCK)?;
    guard.unlock()?;

    let peer = Region::open(&domain, &name, &spec.expect())?;
    let mut found = [0; 13];
    peer.bytes(block)?.read(0, &mut found)?;
    assert_eq!(found, BLOCK);
    domain.unlink(&name)?;
    assert!(domain.list()?.is_empty());
    Ok(())
}
