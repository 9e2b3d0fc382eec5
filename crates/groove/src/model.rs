//! The protocol cores under loom: every interleaving, and every value that the orderings allow a load to see.
//!
//! What a slot holds is a word that its owner changes by a relaxed load and a relaxed store, so that a slot given
//! twice, or an ordering that is missing, shows as a lost update. Each model is run a second time over memory
//! that is broken on purpose, and has to fail then: a canary for the model itself.

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use outlast_probe::sync::Ordering;
use outlast_shm::Mem;

use crate::bitset::Bitset;
use crate::slot::{self, Missing, Place};
use crate::word::{Claim, Descriptor, Slots, State};

/// What is wrong with the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Every ordering is relaxed.
    Weak,
    /// Whoever wants to hold a descriptor gets it, whatever it is.
    Unclaimed,
    /// Whoever wants to free an object is told that it did.
    Repeated,
    /// The superblock's word is another one whenever it is to be exchanged.
    Restless,
    /// A word is not looked at again once its summary is cleared.
    NoSecondLook,
}

struct Modelled {
    words: Vec<AtomicU64>,
    flaw: Flaw,
}

impl Modelled {
    fn new(words: &[u64], flaw: Flaw) -> Arc<Self> {
        Arc::new(Self { words: words.iter().map(|word| AtomicU64::new(*word)).collect(), flaw })
    }

    fn order(&self, order: Ordering) -> Ordering {
        if self.flaw == Flaw::Weak { Ordering::Relaxed } else { order }
    }

    /// What an owner does: one more, in a way that only exclusion makes right.
    fn change(&self, index: usize) {
        let before = self.load(index, Ordering::Relaxed);
        self.store(index, before + 1, Ordering::Relaxed);
    }
}

impl Mem for Modelled {
    fn len(&self) -> usize {
        self.words.len()
    }

    fn load(&self, index: usize, order: Ordering) -> u64 {
        if self.flaw == Flaw::NoSecondLook && index == WATCHED {
            return 0;
        }
        self.words[index].load(self.order(order))
    }

    fn store(&self, index: usize, value: u64, order: Ordering) {
        self.words[index].store(value, self.order(order));
    }

    fn compare_exchange(
        &self,
        index: usize,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        if self.flaw == Flaw::Unclaimed && FIRST <= index && Descriptor(new).state() == State::Held {
            return Ok(self.words[index].swap(new, self.order(success)));
        }
        if self.flaw == Flaw::Restless && index == CHILD {
            return Err(current ^ 1 << 40);
        }
        let found =
            self.words[index].compare_exchange(current, new, self.order(success), self.order(failure));
        let repeated = self.flaw == Flaw::Repeated && Descriptor(new).state() == State::Freeing;
        found.or_else(|found| if repeated { Ok(found) } else { Err(found) })
    }

    fn fetch_add(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.words[index].fetch_add(value, self.order(order))
    }

    fn fetch_or(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.words[index].fetch_or(value, self.order(order))
    }

    fn fetch_and(&self, index: usize, value: u64, order: Ordering) -> u64 {
        self.words[index].fetch_and(value, self.order(order))
    }
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn must_fail(model: impl Fn() + Send + Sync + 'static) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| explore(model)));
    assert!(outcome.is_err(), "the model passes over broken memory: it shows nothing");
}

/// The word of a superblock, of its parent, and the first descriptor: two slots of two words each.
const CHILD: usize = 0;
const PARENT: usize = 1;
const FIRST: usize = 2;
/// What the slots hold, one word for each.
const DATA: usize = 6;
const CLASS: usize = 3;
const PARENT_CLASS: usize = 5;

const CHILD_PLACE: Place = Place { word: CHILD, class: CLASS, first: FIRST, stride: 2, mask: 3 };
/// One slot, which is the child.
const PARENT_PLACE: Place = Place { word: PARENT, class: PARENT_CLASS, first: FIRST, stride: 2, mask: 1 };

fn claim(seat: u32, class: usize) -> Claim {
    Claim::new(seat, 1, class)
}

/// Takes a slot, uses it, frees it. Whether it got one.
fn use_slot(mem: &Modelled, place: Place, seat: u32, data: impl Fn(u32) -> Vec<usize>) -> bool {
    let claim = claim(seat, place.class);
    let held = match slot::take(mem, place, claim, |_| {}) {
        Ok(held) => held,
        Err(Missing::Gone | Missing::Full | Missing::Busy(_)) => return false,
    };
    let live = Descriptor::live(held.before.generation() + 1, 0, 0);
    slot::commit(mem, held, live, seat.into());
    data(held.slot).into_iter().for_each(|word| mem.change(word));
    slot::begin_free(mem, held.at, live, claim).expect("the object is this thread's");
    slot::give_back(mem, place, held.slot, Descriptor::free(live.generation())).expect("the bit is clear");
    true
}

/// Two threads use one superblock of `slots` slots.
fn exclusion(flaw: Flaw, slots: u64) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mem = Modelled::new(&[Slots::new(CLASS, slots).0, 0, 0, 0, 0, 0, 0, 0], flaw);
        let work = |seat: u32| {
            let mem = Arc::clone(&mem);
            move || u64::from(use_slot(&mem, CHILD_PLACE, seat, |slot| vec![DATA + slot as usize]))
        };
        let other = thread::spawn(work(1));
        let done = work(2)() + other.join().expect("no panic");
        assert!(0 < done, "somebody gets a slot that nobody keeps");
        // The joins above order everything, so these are the last values.
        let load = |index| mem.load(index, Ordering::Relaxed);
        assert_eq!(load(DATA) + load(DATA + 1), done, "an update was lost");
        assert_eq!(Slots(load(CHILD)), Slots::new(CLASS, slots), "a slot was lost");
    }
}

/// One thread uses a slot of a superblock while another gives the superblock back and uses its place whole.
fn release(flaw: Flaw) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mem =
            Modelled::new(&[Slots::new(CLASS, 3).0, Slots::new(PARENT_CLASS, 0).0, 0, 0, 0, 0, 0, 0], flaw);
        let user = thread::spawn({
            let mem = Arc::clone(&mem);
            move || u64::from(use_slot(&mem, CHILD_PLACE, 1, |slot| vec![DATA + slot as usize]))
        });
        let parent_claim = claim(2, PARENT_CLASS);
        let released = slot::release(&*mem, CHILD_PLACE, 2, PARENT_PLACE, 0, parent_claim, |_| {});
        let whole = u64::from(use_slot(&mem, PARENT_PLACE, 2, |_| vec![DATA, DATA + 1]));
        let part = user.join().expect("no panic");
        let load = |index| mem.load(index, Ordering::Relaxed);
        assert_eq!(load(DATA) + load(DATA + 1), 2 * whole + part, "an update was lost");
        let expected = match released {
            true => (Slots::NONE, Slots::new(PARENT_CLASS, 1)),
            false => (Slots::new(CLASS, 3), Slots::new(PARENT_CLASS, 0)),
        };
        assert_eq!((Slots(load(CHILD)), Slots(load(PARENT))), expected, "a slot was lost");
        assert!(released || part == 1, "nobody was in the way");
    }
}

/// Two threads free the same object.
fn double_free(flaw: Flaw) -> impl Fn() + Send + Sync + 'static {
    move || {
        let live = Descriptor::live(7, 0, 0);
        let mem = Modelled::new(&[Slots::new(CLASS, 2).0, 0, live.0, 0, 0, 0, 0, 0], flaw);
        let free = |seat: u32| {
            let mem = Arc::clone(&mem);
            move || {
                let ended = slot::begin_free(&*mem, FIRST, live, claim(seat, CLASS)).is_ok();
                let given = || slot::give_back(&*mem, CHILD_PLACE, 0, Descriptor::free(7)).is_ok();
                ended && given()
            }
        };
        let other = thread::spawn(free(1));
        let here = free(2)();
        assert!(here ^ other.join().expect("no panic"), "exactly one of the two frees it");
    }
}

/// One thread looks at an object as `Joiner::info` and `Joiner::read` do, while another frees it and allocates and
/// writes the next one in its place.
fn second_look(flaw: Flaw) -> impl Fn() + Send + Sync + 'static {
    move || {
        let live = Descriptor::live(7, 0, 0);
        let mem = Modelled::new(&[Slots::new(CLASS, 0).0, 0, live.0, 1, 0, 0, 1, 0], flaw);
        let writer = thread::spawn({
            let mem = Arc::clone(&mem);
            move || {
                let claim = claim(1, CLASS);
                slot::begin_free(&*mem, FIRST, live, claim).expect("the object is this thread's");
                slot::give_back(&*mem, CHILD_PLACE, 0, Descriptor::free(7)).expect("the bit is clear");
                let held = slot::take(&*mem, CHILD_PLACE, claim, |_| {}).expect("nobody else takes any");
                slot::commit(&*mem, held, Descriptor::live(8, 0, 0), 2);
                if flaw != Flaw::Weak {
                    loom::sync::atomic::fence(Ordering::Release);
                }
                mem.store(DATA, 2, Ordering::Relaxed);
            }
        });
        let (tag, data) = (mem.load(FIRST + 1, Ordering::Relaxed), mem.load(DATA, Ordering::Relaxed));
        loom::sync::atomic::fence(Ordering::Acquire);
        if mem.load(FIRST, Ordering::Acquire) == live.0 {
            assert_eq!((tag, data), (1, 1), "the next object's");
        }
        writer.join().expect("no panic");
    }
}

/// The word that `Flaw::NoSecondLook` hides when it is looked at with a load: bits are at 0, their summary at 1.
const WATCHED: usize = 0;
const BITS: Bitset = Bitset { first: 0, words: 1 };

/// One thread sets a bit while another takes some.
fn hints(flaw: Flaw) -> impl Fn() + Send + Sync + 'static {
    move || {
        let mem = Modelled::new(&[1, 1], flaw);
        let setter = thread::spawn({
            let mem = Arc::clone(&mem);
            move || BITS.set(&*mem, 5)
        });
        let mut taken = vec![BITS.take(&*mem, 4)];
        setter.join().expect("no panic");
        taken.extend([BITS.take(&*mem, 4), BITS.take(&*mem, 4)]);
        let mut bits: Vec<u32> = taken.into_iter().flatten().collect();
        bits.sort_unstable();
        assert_eq!(bits, [0, 5], "each bit is taken once");
    }
}

#[test]
fn no_slot_is_given_twice() {
    explore(exclusion(Flaw::None, 1));
    explore(exclusion(Flaw::None, 3));
}

#[test]
fn no_slot_is_given_twice_canaries() {
    must_fail(exclusion(Flaw::Weak, 1));
    must_fail(exclusion(Flaw::Unclaimed, 3));
}

#[test]
fn nobody_is_inside_what_is_released() {
    explore(release(Flaw::None));
}

#[test]
fn nobody_is_inside_what_is_released_canary() {
    must_fail(release(Flaw::Weak));
    must_fail(release(Flaw::Unclaimed));
}

#[test]
fn an_object_is_freed_once() {
    explore(double_free(Flaw::None));
}

#[test]
fn an_object_is_freed_once_canary() {
    must_fail(double_free(Flaw::Repeated));
}

#[test]
fn a_take_ends_though_somebody_hostile_writes() {
    explore(|| {
        let mem = Modelled::new(&[Slots::new(CLASS, 3).0, 0, 0, 0, 0, 0, 0, 0], Flaw::Restless);
        let taken = slot::take(&*mem, CHILD_PLACE, claim(1, CLASS), |_| {});
        assert!(taken.is_err());
        assert_eq!(Descriptor(mem.load(FIRST, Ordering::Relaxed)).state(), State::Free, "let go");
    });
}

#[test]
fn a_second_look_sees_that_the_object_is_gone() {
    explore(second_look(Flaw::None));
}

#[test]
fn a_second_look_sees_that_the_object_is_gone_canary() {
    must_fail(second_look(Flaw::Weak));
}

#[test]
fn no_hint_is_lost() {
    explore(hints(Flaw::None));
}

#[test]
fn no_hint_is_lost_canary() {
    must_fail(hints(Flaw::NoSecondLook));
}
