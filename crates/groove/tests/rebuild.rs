//! Rebuilding a groove from its volumes, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ground;

use std::fs::File;
use std::os::unix::fs::FileExt;

use ground::{Ground, MIB, name};
use outlast_groove::{AccessError, AllocError, CreateError, FaultKind, Groove, Joiner, ObjRef, RefError};
use outlast_shm::{Domain, USER_OFFSET};

fn volume_file(domain: &Domain, index: usize) -> File {
    let path = domain.path().join(format!("g.v{index:04}"));
    File::options().read(true).write(true).open(path).unwrap()
}

fn read(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Where the descriptor of the object with this tag is in the file.
fn descriptor_at(file: &File, tag: u64) -> u64 {
    let bytes = read(file);
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let found = (USER_OFFSET as usize..bytes.len() - 8).step_by(8).find(|at| word(*at) == tag);
    found.unwrap() as u64 - 8
}

fn poke(file: &File, at: u64, change: impl Fn(u64) -> u64) {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    file.write_all_at(&change(u64::from_le_bytes(word)).to_le_bytes(), at).unwrap();
}

fn some(joiner: &Joiner, count: u64) -> Vec<ObjRef> {
    (0..count).map(|n| joiner.alloc(n * 331 % 9000, 0, 0xfeed_0000 + n).unwrap()).collect()
}

#[test]
fn volumes_alone_are_enough() {
    let ground = Ground::new();
    let groove = ground.groove(2 * MIB, 3);
    let joiner = groove.joiner().unwrap();
    let objects = some(&joiner, 300);
    objects.iter().step_by(3).for_each(|object| joiner.free(*object).unwrap());
    joiner.write(objects[1], 0, b"still here").unwrap();
    groove.drain(2).unwrap();
    drop((joiner, groove));
    ground.domain.unlink(&name()).unwrap();
    for _ in 0..2 {
        let (groove, rebuilt) = Groove::rebuild(&ground.domain, &name()).unwrap();
        assert_eq!((rebuilt.volumes, rebuilt.objects), (3, 200));
        assert_eq!(groove.verify().unwrap().faults, vec![]);
        let joiner = groove.joiner().unwrap();
        for (n, object) in objects.iter().enumerate() {
            match joiner.info(*object) {
                Ok(info) => assert_eq!((n % 3 != 0, info.tag), (true, 0xfeed_0000 + n as u64)),
                Err(RefError::AlreadyFreed { .. }) => assert!(n % 3 == 0),
                Err(other) => panic!("{other}"),
            }
        }
        let mut text = [0; 10];
        joiner.read(objects[1], 0, &mut text).unwrap();
        assert_eq!(&text, b"still here");
    }
}

/// What a removed volume has given out stays stale over a rebuild.
#[test]
fn generations_of_removed_volumes_are_kept() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 2);
    groove.drain(0).unwrap();
    let joiner = groove.joiner().unwrap();
    let object = joiner.alloc(100, 0, 0).unwrap();
    assert_eq!(object.volume(), 1);
    joiner.free(object).unwrap();
    groove.remove_volume(1).unwrap();
    drop((joiner, groove));
    let (groove, _) = Groove::rebuild(&ground.domain, &name()).unwrap();
    assert_eq!(groove.add_volume(b"").unwrap(), 1);
    groove.drain(0).unwrap();
    let joiner = groove.joiner().unwrap();
    let next = joiner.alloc(100, 0, 0).unwrap();
    assert_eq!((next.block(), next.generation()), (object.block(), object.generation() + 1));
    assert!(matches!(joiner.free(object), Err(RefError::Stale { .. })));
}

#[test]
fn what_cannot_be_rebuilt_is_refused() {
    let ground = Ground::new();
    let rebuild = || Groove::rebuild(&ground.domain, &name()).map(|_| ());
    assert!(matches!(rebuild(), Err(CreateError::NoVolume { .. })));
    let groove = ground.groove(MIB, 2);
    assert!(matches!(rebuild(), Err(CreateError::Busy { .. })));
    let joiner = groove.joiner().unwrap();
    let objects: Vec<_> = (0..20).map(|n| joiner.alloc(5000, 0, 0xfeed_0000 + n).unwrap()).collect();
    drop((joiner, groove));

    // Another groove's volume under the name of one of this.
    let other = Ground::new();
    drop(other.groove(MIB, 2));
    let (own, foreign) = (ground.domain.path().join("g.v0001"), other.domain.path().join("g.v0001"));
    let kept = std::fs::read(&own).unwrap();
    std::fs::copy(foreign, &own).unwrap();
    assert!(matches!(rebuild(), Err(CreateError::Mixed { .. })));
    std::fs::write(&own, kept).unwrap();

    // Objects that cannot be: nothing is changed, and what is wrong is said.
    let file = volume_file(&ground.domain, 0);
    let at = descriptor_at(&file, 0xfeed_0007);
    let refused = |change: &dyn Fn(u64) -> u64, expected: FaultKind| {
        let before = read(&file);
        poke(&file, at, change);
        let damaged = read(&file)[USER_OFFSET as usize..].to_vec();
        match rebuild() {
            Err(CreateError::Access(AccessError::Corrupt(fault))) => {
                assert_eq!(fault.what, expected, "{fault}");
            }
            other => panic!("{other:?}"),
        }
        assert!(read(&file)[USER_OFFSET as usize..] == damaged, "a refused rebuild has changed something");
        file.write_all_at(&before, 0).unwrap();
    };
    refused(&|word| word | 0xf, FaultKind::State);
    refused(&|word| word | 0xff_ffff << 8, FaultKind::Extent);
    refused(&|word| word | 0xf0, FaultKind::Extent);
    let smaller = |word: u64| word & !(0xff_ffff << 8) | 512 << 8;
    refused(&smaller, FaultKind::Overlap);
    let (groove, rebuilt) = Groove::rebuild(&ground.domain, &name()).unwrap();
    assert_eq!(rebuilt.objects as usize, objects.len());
    drop(groove);
}

/// A block gives out its last generation and is then out of use, which is in nobody's way.
#[test]
fn a_block_without_generations_is_retired() {
    let ground = Ground::new();
    let groove = ground.groove(MIB, 1);
    let joiner = groove.joiner().unwrap();
    let object = joiner.alloc(100, 0, 0xfeed).unwrap();
    let file = volume_file(&ground.domain, 0);
    let at = descriptor_at(&file, 0xfeed);
    joiner.free(object).unwrap();
    poke(&file, at, |_| u64::from(u32::MAX - 1) << 32);
    let last = joiner.alloc(100, 0, 1).unwrap();
    assert_eq!((last.block(), last.generation()), (object.block(), u32::MAX));
    joiner.free(last).unwrap();
    assert!(matches!(joiner.free(last), Err(RefError::AlreadyFreed { .. })));
    assert_eq!(groove.verify().unwrap().retired_blocks, 1);
    for _ in 0..2 {
        let mut count = 0;
        loop {
            match joiner.alloc(100, 0, 2) {
                Ok(found) => assert_ne!(found.block(), last.block()),
                Err(AllocError::Full { .. }) => break,
                Err(other) => panic!("{other}"),
            }
            count += 1;
        }
        assert_eq!(count, 51 * 40 - 1);
        joiner.objects(Some(2)).unwrap().iter().for_each(|found| joiner.free(found.reference).unwrap());
        joiner.trim().unwrap();
        let report = groove.verify().unwrap();
        assert_eq!((report.objects, report.superblocks, report.faults), (0, 0, vec![]));
    }
    drop(joiner);
    drop(groove);
    let (groove, rebuilt) = Groove::rebuild(&ground.domain, &name()).unwrap();
    assert_eq!(rebuilt.retired_blocks, 1);
    groove.remove_volume(0).unwrap();
}
