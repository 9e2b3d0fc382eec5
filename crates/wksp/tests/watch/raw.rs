//! The one thing a watcher must not be able to do: a store through its mapping.
//!
//! # Invariants
//! - Called by a process of its own only, which does not outlive the call.
#![allow(unsafe_code, reason = "a store that the library does not offer")]

/// Stores a byte at an address of this process.
///
/// # Safety
/// 1. Nothing of this process is lost or changed that anybody relies on if the byte is stored.
pub(crate) unsafe fn store(address: usize, byte: u8) {
    // SAFETY: by duty 1 a store that succeeds harms nobody; one that does not ends the process.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(byte) }
}

/// Stores a byte into the mapping of a file that this process has mapped.
pub(crate) fn store_into_mapping_of(path: &str) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with(path)).expect("it is mapped");
    let start = usize::from_str_radix(line.split_once('-').unwrap().0, 16).unwrap();
    // SAFETY: duty 1: the caller is an actor that ends, and the region belongs to the test that started it.
    unsafe { store(start + 4096, 1) };
}
