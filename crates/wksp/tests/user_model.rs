//! The classic user test: random calls against a model that knows every byte, at most 256 live allocations of
//! 1 to 128 bytes under four tags. 200,000 steps here; the stress scenario `wksp/user_model` runs 20,000,000.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use outlast_wksp::{AllocError, CreateOptions, FreeError, Gaddr, QueryError, Wksp};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

struct Live {
    block: outlast_wksp::Block,
    fill: u8,
}

/// Runs `steps` steps; panics at the first answer that the model does not give.
fn run(seed: u64, steps: u64) {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let wksp = Wksp::anonymous(&CreateOptions::with_size(64 << 10)).unwrap();
    let tags: [u64; 4] = core::array::from_fn(|_| random.next_u64() | 1);
    let mut live: Vec<Live> = Vec::new();
    for step in 0..steps {
        if random.next_u64() & 0xfffff == 0 || step == steps / 2 {
            match random.next_u32() % 3 {
                0 => {
                    let count = (random.next_u32() % 4) as usize + 1;
                    wksp.tag_free(&tags[..count]).unwrap();
                    live.retain(|live| !tags[..count].contains(&live.block.tag()));
                }
                1 => {
                    wksp.reset(random.next_u32()).unwrap();
                    live.clear();
                }
                _ => wksp.rebuild(random.next_u32()).unwrap(),
            }
        }
        let gaddr = random.next_u64() % wksp.data_bytes();
        let holder = live.iter().find(|live| {
            (live.block.gaddr().get()..live.block.gaddr().get() + live.block.size_bytes()).contains(&gaddr)
        });
        if let Some(gaddr) = Gaddr::new(gaddr) {
            assert_eq!(wksp.tag(gaddr).unwrap(), holder.map(|live| live.block.tag()), "step {step}");
        }
        match random.next_u32() % 4 {
            0 | 1 if live.len() < 256 => {
                let size = u64::from(random.next_u32() % 128) + 1;
                let (align, tag) = (1 << (random.next_u32() % 4), tags[random.next_u32() as usize % 4]);
                let block = wksp.alloc(size, align, tag).unwrap();
                let (start, end) = (block.gaddr().get(), block.gaddr().get() + size);
                assert!(
                    start.is_multiple_of(align) && end <= wksp.data_bytes() && block.size_bytes() == size
                );
                for other in &live {
                    let (low, high) =
                        (other.block.gaddr().get(), other.block.gaddr().get() + other.block.size_bytes());
                    assert!(
                        end <= low || high <= start,
                        "step {step}: {start}..{end} overlaps {low}..{high}"
                    );
                }
                let fill = random.next_u32() as u8;
                wksp.memset(block.gaddr(), fill).unwrap();
                live.push(Live { block, fill });
            }
            2 if !live.is_empty() => {
                let victim = live.swap_remove(random.next_u32() as usize % live.len());
                check(&wksp, &victim);
                if random.random_bool(0.5) {
                    let inside = random.next_u64() % victim.block.size_bytes();
                    wksp.free_at(victim.block.gaddr().checked_add(inside).unwrap()).unwrap();
                } else {
                    wksp.free(victim.block).unwrap();
                }
                assert!(matches!(wksp.free(victim.block), Err(FreeError::Stale { .. })));
            }
            3 if !live.is_empty() => {
                let at = random.next_u32() as usize % live.len();
                check(&wksp, &live[at]);
                live[at].fill = random.next_u32() as u8;
                let inside = random.next_u64() % live[at].block.size_bytes();
                wksp.memset(live[at].block.gaddr().checked_add(inside).unwrap(), live[at].fill).unwrap();
            }
            _ => {}
        }
        if step % 65_536 == 65_535 || step + 1 == steps {
            sound(&wksp, &live, &tags);
        }
    }
}

fn check(wksp: &Wksp, live: &Live) {
    let mut bytes = vec![0; live.block.size_bytes() as usize];
    wksp.read(live.block.gaddr().get(), &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == live.fill), "{:?}", live.block);
}

fn sound(wksp: &Wksp, live: &[Live], tags: &[u64]) {
    assert_eq!(wksp.verify().unwrap().faults, []);
    let usage = wksp.usage(tags).unwrap();
    assert_eq!(usage.used_count, live.len() as u64);
    assert_eq!(usage.matched_count, usage.used_count);
    assert_eq!(usage.used_bytes, live.iter().map(|live| live.block.size_bytes()).sum::<u64>());
    let listed: Vec<(u64, u64)> =
        wksp.partitions().unwrap().iter().map(|found| (found.gaddr.get(), found.tag)).collect();
    let mut known: Vec<(u64, u64)> =
        live.iter().map(|live| (live.block.gaddr().get(), live.block.tag())).collect();
    known.sort_unstable();
    assert_eq!(listed, known);
}

#[test]
fn two_hundred_thousand_steps_agree_with_the_model() {
    run(1, 200_000);
}

#[test]
fn bad_arguments_are_typed_errors() {
    let wksp = Wksp::anonymous(&CreateOptions::with_size(8192)).unwrap();
    assert!(matches!(wksp.alloc(0, 1, 1), Err(AllocError::ZeroSize)));
    assert!(matches!(wksp.alloc(1, 1, 0), Err(AllocError::ZeroTag)));
    for align in [0, 3, 96, u64::MAX] {
        assert!(matches!(wksp.alloc(1, align, 1), Err(AllocError::Align { .. })), "{align}");
    }
    for (size, align) in [(8192, 1), (u64::MAX, 1), (u64::MAX - 63, 1 << 63), (1, 1 << 63), (1, 8192)] {
        let refused = wksp.alloc(size, align, 1);
        assert!(
            matches!(refused, Err(AllocError::NoSpace { largest_bytes: 8128, .. })),
            "{size} {refused:?}"
        );
    }
    assert!(matches!(wksp.alloc_at_least(u64::MAX, 1, 1), Err(AllocError::NoSpace { .. })));
    let gaddr = |gaddr| Gaddr::new(gaddr).unwrap();
    assert!(matches!(wksp.free_at(gaddr(64)), Err(FreeError::NotAllocated { .. })));
    assert!(matches!(wksp.free_at(gaddr(8192)), Err(FreeError::OutOfRange { last: 8191, .. })));
    assert!(matches!(wksp.memset(gaddr(u64::MAX), 0), Err(QueryError::NotAllocated { .. })));
    assert_eq!(wksp.tag(gaddr(u64::MAX)).unwrap(), None);
    for (at, len) in [(0, 1), (8192, 1), (8191, 2), (u64::MAX, 1), (1, u64::MAX)] {
        assert!(matches!(wksp.bytes(at, len), Err(QueryError::OutOfRange { .. })), "{at} {len}");
    }
    let whole = wksp.alloc_at_least(8065, 1, 1).unwrap();
    assert_eq!((whole.gaddr().get(), whole.size_bytes()), (64, 8128));
    assert_eq!(wksp.usage(&[]).unwrap().free_count, 0);
    assert!(wksp.verify().unwrap().is_sound());
}
