//! What a joiner of a workspace counts, and where in its block.
//!
//! # Invariants
//! - Every counter has a place of its own in the block and only ever grows; a join sets all of them to zero.
//! - What alloc and free count lies in one cache line, together with the block's sequence word.

use outlast_shm::CounterBlock;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident $field:ident = $index:literal,)*) => {
        /// One of the counters that every joiner keeps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant = $index,)*
        }

        impl Counter {
            /// Every counter, in the order of the block.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Its name in JSON, and its field in [`Counters`].
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($field),)* }
            }
        }

        /// Counters of one joiner; see [`Wksp::counters`](crate::Wksp::counters). They count from the moment it
        /// joined, each call when it has been done and before it returns.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $field: u64,)*
        }

        impl Counters {
            pub(crate) fn from_block(block: &CounterBlock) -> Self {
                Self { $($field: block[$index],)* }
            }
        }
    };
}

counters! {
    /// Calls of alloc that succeeded.
    AllocCount alloc_count = 0,
    /// Bytes that they asked for.
    AllocBytes alloc_bytes = 1,
    /// Allocations freed.
    FreeCount free_count = 2,
    /// Bytes that they had asked for.
    FreeBytes free_bytes = 3,
    /// Allocations freed that another joiner had made, or a restore; they count among those freed too.
    RemoteFreeCount remote_free_count = 4,
    /// Bytes that they had asked for.
    RemoteFreeBytes remote_free_bytes = 5,
    /// Calls of alloc that found no room.
    NoSpaceCount no_space_count = 6,
    /// Calls of alloc and free that had the lock and failed for another reason: nothing to free there, damage.
    FailureCount failure_count = 7,
    /// Times that this joiner finished what another one left half-done.
    RecoveryCount recovery_count = 8,
}

const _: () = assert!(Counter::ALL.len() <= outlast_shm::COUNTER_MAX);
const _: () = assert!((Counter::NoSpaceCount as usize) < 7, "within the first cache line of the block");
