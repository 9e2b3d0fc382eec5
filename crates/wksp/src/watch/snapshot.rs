//! What one look at a workspace found.
//!
//! # Invariants
//! - A counter that is missing from a stored snapshot reads as absent, never as 0.

use outlast_shm::{JoinerInfo, Liveness};

use crate::counter::Counter;

/// Version of the form in which snapshots are stored. Fields may be added without a new one.
pub const SNAPSHOT_SCHEMA: u32 = 1;

/// A number that was read, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Value {
    /// What it was at the moment of the look.
    Measured(u64),
    /// There is nothing to read: no such joiner or counter, or the workspace is not in a state to tell.
    #[default]
    Absent,
    /// It never held still within a bounded number of looks: its owner writes all the time, is stopped while
    /// it writes, or was killed there; or the record is damaged.
    Torn,
    /// The last value that an owner wrote which has died or left since.
    Dead(u64),
}

impl Value {
    /// The number, if there is one.
    pub fn known(self) -> Option<u64> {
        match self {
            Self::Measured(value) | Self::Dead(value) => Some(value),
            Self::Absent | Self::Torn => None,
        }
    }
}

/// The values of one joiner, each by its [`Counter`]. Stored as a map from the counters' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Values([Value; Counter::ALL.len()]);

impl Values {
    /// The value of `counter`.
    pub fn get(&self, counter: Counter) -> Value {
        self.0[counter as usize]
    }

    pub(crate) fn of(value: impl Fn(Counter) -> Value) -> Self {
        Self(Counter::ALL.map(value))
    }
}

/// What tells a joiner from every other one of its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct JoinerKey {
    /// Its slot in the joiner table.
    pub slot: u32,
    /// How many joiners the slot had held, this one included.
    pub generation: u64,
    /// Process id, in the joiner's own pid namespace.
    pub pid: u32,
    /// When the process started, in clock ticks since boot; 0 if not known.
    pub start_time: u64,
}

/// What is known about a joiner's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum JoinerState {
    /// It is alive, or was a moment ago.
    Alive,
    /// It is proved dead and has not left: nobody has taken its slot yet.
    Dead,
    /// It cannot be judged from here, or its record is damaged.
    Unknown,
    /// It has left, and nobody has taken its slot yet.
    Left,
}

impl JoinerState {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Unknown => "perhaps alive",
            Self::Left => "left",
        }
    }
}

/// One joiner and its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct JoinerCounters {
    /// Who it is.
    pub key: JoinerKey,
    /// The thread that joined.
    pub tid: u32,
    /// Whether it is alive.
    pub state: JoinerState,
    /// What it has counted.
    pub values: Values,
}

impl JoinerCounters {
    pub(crate) fn of(joiner: &JoinerInfo) -> Self {
        let state = match joiner.liveness {
            _ if !joiner.intact => JoinerState::Unknown,
            _ if joiner.has_left => JoinerState::Left,
            Liveness::Alive => JoinerState::Alive,
            Liveness::Dead => JoinerState::Dead,
            Liveness::Unknown => JoinerState::Unknown,
        };
        let is_over = matches!(state, JoinerState::Dead | JoinerState::Left);
        // The counters of a damaged record may be anybody's.
        let block = joiner.counters.filter(|_| joiner.intact);
        let values = Values::of(|counter| match block {
            None => Value::Torn,
            Some(block) if is_over => Value::Dead(block[counter as usize]),
            Some(block) => Value::Measured(block[counter as usize]),
        });
        let (slot, generation) = (joiner.slot.index() as u32, joiner.generation);
        let key = JoinerKey { slot, generation, pid: joiner.pid, start_time: joiner.start_time };
        Self { key, tid: joiner.tid, state, values }
    }

    /// Bytes that it has allocated less those that it has freed, negative if it frees what others allocate;
    /// `None` if one of the two is not known.
    pub fn live_bytes(&self) -> Option<i64> {
        let [allocated, freed] =
            [Counter::AllocBytes, Counter::FreeBytes].map(|it| self.values.get(it).known());
        i64::try_from(i128::from(allocated?) - i128::from(freed?)).ok()
    }
}

/// What one look at a workspace found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// [`SNAPSHOT_SCHEMA`].
    pub schema_version: u32,
    /// When, in nanoseconds of the monotonic clock of this boot.
    pub at_monotonic_ns: u64,
    /// When, in nanoseconds since 1970-01-01 UTC.
    pub at_unix_ns: u64,
    /// The kernel's boot id: another one is another host, or another boot. Empty if not known.
    pub boot_id: String,
    /// Name of the workspace.
    pub name: String,
    /// Id of its region.
    #[cfg_attr(feature = "serde", serde(with = "hexadecimal"))]
    pub region_id: u128,
    /// Bytes of its data region.
    pub data_bytes: u64,
    /// How often it was reset, modulo 2^32.
    #[cfg_attr(feature = "serde", serde(default))]
    pub epoch: Value,
    /// Bytes that all allocations asked for; absent during a restore and where the tables are damaged.
    #[cfg_attr(feature = "serde", serde(default))]
    pub used_bytes: Value,
    /// Allocations.
    #[cfg_attr(feature = "serde", serde(default))]
    pub used_count: Value,
    /// Its joiners, those included that are dead or have left and whose slots nobody has taken since.
    pub joiners: Vec<JoinerCounters>,
}

impl Snapshot {
    /// A joiner's counter; absent if there is no such joiner.
    pub fn value(&self, joiner: &JoinerKey, counter: Counter) -> Value {
        let found = self.joiners.iter().find(|found| found.key == *joiner);
        found.map_or(Value::Absent, |found| found.values.get(counter))
    }

    /// A counter's sum over all joiners; `None` if one of them is not known, or none is there, or it overflows.
    pub fn sum(&self, counter: Counter) -> Option<u64> {
        let mut values = self.joiners.iter().map(|joiner| joiner.values.get(counter).known());
        let first = values.next()??;
        values.try_fold(first, |sum, value| sum.checked_add(value?))
    }

    /// Bytes that all joiners have allocated less those that they have freed; `None` if anything of it is not
    /// known. Equal to `used_bytes` as long as no slot was given out again and nothing was reset or restored.
    pub fn live_bytes(&self) -> Option<i64> {
        let live = i128::from(self.sum(Counter::AllocBytes)?) - i128::from(self.sum(Counter::FreeBytes)?);
        i64::try_from(live).ok()
    }
}

#[cfg(feature = "serde")]
mod stored {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Counter, Value, Values};

    impl Serialize for Values {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(Counter::ALL.map(|counter| (counter.name(), self.get(counter))))
        }
    }

    impl<'de> Deserialize<'de> for Values {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let found = BTreeMap::<String, Value>::deserialize(deserializer)?;
            Ok(Self::of(|counter| found.get(counter.name()).copied().unwrap_or_default()))
        }
    }
}

/// A region's id is 32 hexadecimal digits.
#[cfg(feature = "serde")]
mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(|_| D::Error::custom("a region id is 32 hexadecimal digits"))
    }
}
