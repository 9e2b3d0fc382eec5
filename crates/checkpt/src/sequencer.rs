//! Gives finished chunks their file offsets in window order, whichever thread finishes first.
//!
//! A worker hands in a finished frame. If it is the next in order, the worker gets it back with its offset,
//! along with all frames parked behind it, and writes them; otherwise the frame is parked and the worker goes
//! on with another window. So no worker waits for another's compression, and none for another's write.
//!
//! **Invariants**
//! - Offsets depend on the sizes of the chunks alone: the file's bytes are the same for any thread count.
//! - There are never more frames than were counted at the start. A worker takes its frame *before* it claims
//!   a window; so the owner of the lowest unfinished window always has one, finishes, and frees the others.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::index::Chunk;
use crate::layout::record;
use crate::pool::lock;

/// A chunk record in the making: room for the header, then the payload.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(payload_bytes_max: usize) -> Self {
        Self { bytes: vec![0; record::SIZE + payload_bytes_max] }
    }

    /// Room for the payload.
    pub(crate) fn payload(&mut self) -> &mut [u8] {
        &mut self.bytes[record::SIZE..]
    }

    /// The record of `chunk`, whose payload is in place.
    pub(crate) fn record(&mut self, chunk: &Chunk) -> &[u8] {
        self.bytes[..record::SIZE].copy_from_slice(&chunk.encode_header());
        &self.bytes[..chunk.record_bytes() as usize]
    }
}

struct State {
    /// Index of the window that is placed next, and where.
    next: usize,
    offset: u64,
    parked: BTreeMap<usize, (Chunk, Frame)>,
    free: Vec<Frame>,
    frames_left: usize,
    placed: Vec<Chunk>,
    closed: bool,
}

/// See the module.
pub(crate) struct Sequencer {
    state: Mutex<State>,
    freed: Condvar,
    payload_bytes_max: usize,
}

impl Sequencer {
    /// Chunks are placed from `offset` on; at most `frame_count` frames exist.
    pub(crate) fn new(
        offset: u64,
        window_count: usize,
        frame_count: usize,
        payload_bytes_max: usize,
    ) -> Self {
        let state = State {
            next: 0,
            offset,
            parked: BTreeMap::new(),
            free: Vec::new(),
            frames_left: frame_count,
            placed: Vec::with_capacity(window_count),
            closed: false,
        };
        Self { state: Mutex::new(state), freed: Condvar::new(), payload_bytes_max }
    }

    /// A frame to fill. Blocks until one is free; `None` once closed.
    pub(crate) fn frame(&self) -> Option<Frame> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some(frame) = state.free.pop() {
                return Some(frame);
            }
            if state.frames_left > 0 {
                state.frames_left -= 1;
                drop(state);
                return Some(Frame::new(self.payload_bytes_max));
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes in the finished chunk of window `index` and moves every chunk whose place is now known to
    /// `ready`.
    pub(crate) fn place(&self, index: usize, chunk: Chunk, frame: Frame, ready: &mut Vec<(Chunk, Frame)>) {
        let mut state = lock(&self.state);
        state.parked.insert(index, (chunk, frame));
        let mut next = state.next;
        while let Some((mut chunk, frame)) = state.parked.remove(&next) {
            chunk.file_offset = state.offset;
            state.offset += chunk.record_bytes();
            state.placed.push(chunk);
            ready.push((chunk, frame));
            next += 1;
        }
        state.next = next;
    }

    /// Gives back a frame.
    pub(crate) fn free(&self, frame: Frame) {
        lock(&self.state).free.push(frame);
        self.freed.notify_one();
    }

    /// Wakes all who wait for a frame and gives out none any more.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.freed.notify_all();
    }

    /// The chunks in order and where the last one ends.
    pub(crate) fn finish(self) -> (Vec<Chunk>, u64) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.placed, state.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::partition::Window;
    use crate::style::ChunkStyle;

    fn chunk(number: u64, stored_bytes: u32) -> Chunk {
        let window = Window { number, first: 0, raw_bytes: 100, gaddr: 0, gaddr_end: 100 };
        let (style, digest) = (ChunkStyle::Lz4, Digest(0));
        Chunk { window, file_offset: 0, stored_bytes, style, stored_crc: 0, digest }
    }

    #[test]
    fn offsets_follow_the_window_order_not_the_finishing_order() {
        let sequencer = Sequencer::new(1000, 3, 3, 100);
        let mut ready = Vec::new();
        for index in [2usize, 1, 0] {
            let frame = sequencer.frame().unwrap();
            sequencer.place(index, chunk(index as u64, 10 + index as u32), frame, &mut ready);
            assert_eq!(ready.len(), if index == 0 { 3 } else { 0 }, "only the lowest releases");
        }
        let offsets: Vec<u64> = ready.iter().map(|(chunk, _)| chunk.file_offset).collect();
        assert_eq!(offsets, [1000, 1074, 1149]);
        assert_eq!(sequencer.finish().1, 1225);
    }

    #[test]
    fn close_wakes_who_waits_for_a_frame() {
        let sequencer = Sequencer::new(0, 1, 1, 1);
        let held = sequencer.frame().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sequencer.frame().is_none());
            sequencer.close();
            assert!(waiting.join().unwrap());
        });
        drop(held);
    }
}
