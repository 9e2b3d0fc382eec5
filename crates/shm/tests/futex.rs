//! Sleeping on a word of a region, and being woken through another mapping of it.

#![allow(clippy::unwrap_used, reason = "what is unwrapped here is what the test is about")]

use std::time::{Duration, Instant};

use outlast_probe::sync::Ordering;
use outlast_shm::{Region, Spec, USER_OFFSET};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_wake_through_another_mapping_ends_the_sleep() {
    let spec = Spec::new(7, 1, USER_OFFSET + 4096);
    let region = Region::anonymous(&spec).unwrap();
    let other = Region::from_fd_read_only(region.fd().try_clone_to_owned().unwrap(), &spec.expect()).unwrap();
    let range = USER_OFFSET..USER_OFFSET + 16;
    std::thread::scope(|scope| {
        let sleepers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (begin, words) = (Instant::now(), other.words(range.clone()).unwrap());
                    while words.load(1, Ordering::Acquire) == 0 {
                        words.wait(1, 0, LIMIT).unwrap();
                    }
                    begin.elapsed()
                })
            })
            .collect();
        let words = region.words(range.clone()).unwrap();
        words.store(1, 5, Ordering::Release);
        words.wake(1);
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap() < LIMIT, "woken, not timed out");
        }
    });
}

#[test]
fn a_word_that_differs_and_a_time_that_is_over_both_return() {
    let region = Region::anonymous(&Spec::new(7, 1, USER_OFFSET + 4096)).unwrap();
    let words = region.words(USER_OFFSET..USER_OFFSET + 8).unwrap();
    let begin = Instant::now();
    words.wait(0, 1, LIMIT).unwrap();
    words.wait(0, 1 << 32 | 1, LIMIT).unwrap();
    assert!(begin.elapsed() < LIMIT, "the low half differs: no sleep");
    words.wait(0, 0, Duration::from_millis(1)).unwrap();
    words.wait(0, 7 << 32, Duration::from_millis(1)).unwrap();
    words.wait(0, 0, Duration::ZERO).unwrap();
    // The time that no clock has is cut, not refused; the word differs, so it returns at once.
    words.wait(0, 1, Duration::MAX).unwrap();
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn an_index_out_of_bounds_is_a_bug_of_the_caller() {
    let region = Region::anonymous(&Spec::new(7, 1, USER_OFFSET + 4096)).unwrap();
    region.words(USER_OFFSET..USER_OFFSET + 8).unwrap().wake(1);
}
