//! What happened between two snapshots.
//!
//! # Invariants
//! - What is not known on either side has no difference: absent, torn, another joiner and another region never
//!   count as 0.
//! - A counter that went back was reset and has no difference.

use core::time::Duration;

use crate::counter::Counter;
use crate::watch::snapshot::{JoinerCounters, JoinerKey, JoinerState, Snapshot, Value};

/// How far apart two values are.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Change {
    /// The earlier value.
    pub before: Value,
    /// The later value.
    pub after: Value,
    /// The later less the earlier; `None` if they cannot be compared.
    pub delta: Option<i64>,
    /// `delta` in parts of the earlier value; `None` if that is 0.
    pub relative: Option<f64>,
    /// `delta` for each second; `None` if the time between the two is not known or 0.
    pub per_second: Option<f64>,
}

/// How large a change has to be to count: in itself **and** in parts of what was there before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// At least so much, up or down.
    pub absolute: u64,
    /// At least this part of the earlier value, up or down; any change of what was 0 reaches it.
    pub relative: f64,
}

impl Change {
    fn new(before: Value, after: Value, delta: Option<i64>, elapsed: Option<Duration>) -> Self {
        let ratio = |by: f64| delta.filter(|_| 0.0 < by).map(|delta| delta as f64 / by);
        let relative = before.known().and_then(|before| ratio(before as f64));
        let per_second = elapsed.and_then(|elapsed| ratio(elapsed.as_secs_f64()));
        Self { before, after, delta, relative, per_second }
    }

    /// Of a value that goes up and down.
    fn of_level(before: Value, after: Value, comparable: bool, elapsed: Option<Duration>) -> Self {
        let difference = |before: Value, after: Value| {
            i64::try_from(i128::from(after.known()?) - i128::from(before.known()?)).ok()
        };
        Self::new(before, after, difference(before, after).filter(|_| comparable), elapsed)
    }

    /// Of a counter, which only grows.
    fn of_counter(before: Value, after: Value, comparable: bool, elapsed: Option<Duration>) -> Self {
        let change = Self::of_level(before, after, comparable, elapsed);
        match change.delta {
            Some(delta) if delta < 0 => Self::new(before, after, None, None),
            _ => change,
        }
    }

    /// Whether it reaches both parts of the gate. What cannot be compared does not; ask `delta` for that.
    pub fn reaches(&self, gate: &Gate) -> bool {
        let Some(delta) = self.delta.filter(|delta| *delta != 0) else { return false };
        gate.absolute <= delta.unsigned_abs() && self.relative.is_none_or(|part| gate.relative <= part.abs())
    }
}

/// One joiner in both snapshots, or in one of them.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct JoinerChange {
    /// Who it is.
    pub key: JoinerKey,
    /// What is known of its life in the later snapshot; `None` if it is not in there.
    pub state: Option<JoinerState>,
    /// For each counter, in the order of [`Counter::ALL`].
    #[cfg_attr(feature = "serde", serde(serialize_with = "named"))]
    pub changes: [Change; Counter::ALL.len()],
}

/// What happened between two snapshots.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Comparison {
    /// Time between them; `None` if they are of two boots or hosts, or the second is not the later one.
    #[cfg_attr(feature = "serde", serde(rename = "elapsed_ns", serialize_with = "nanos"))]
    pub elapsed: Option<Duration>,
    /// Whether both were taken in the same boot of the same host, as far as is known.
    pub same_host: bool,
    /// Whether both are of the same region; else nothing of them can be compared.
    pub same_region: bool,
    /// Whether the workspace was reset in between; `None` if that is not known.
    pub was_reset: Option<bool>,
    /// Bytes of all allocations.
    pub used_bytes: Change,
    /// Allocations.
    pub used_count: Change,
    /// Joiners of either, by slot and generation.
    pub joiners: Vec<JoinerChange>,
    /// For each counter, in the order of [`Counter::ALL`], the sum of its known differences; `None` if there is
    /// none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "named"))]
    pub sums: [Option<i64>; Counter::ALL.len()],
    /// How many joiners are in `sums` with every counter.
    pub compared: u64,
    /// How many are not, because one of the two values is not known or the counter was reset.
    pub not_compared: u64,
}

impl Comparison {
    /// Compares an earlier snapshot with a later one.
    pub fn of(before: &Snapshot, after: &Snapshot) -> Self {
        let same_host = !before.boot_id.is_empty() && before.boot_id == after.boot_id;
        let same_region = before.region_id == after.region_id;
        let nanos = after.at_monotonic_ns.checked_sub(before.at_monotonic_ns);
        let elapsed = nanos.filter(|_| same_host).map(Duration::from_nanos);
        let is_reset = |before: u64| after.epoch.known().map(|after| before != after);
        let joiners = joiners(before, after, same_region, elapsed);
        let is_whole = |joiner: &&JoinerChange| joiner.changes.iter().all(|change| change.delta.is_some());
        let compared = joiners.iter().filter(is_whole).count() as u64;
        let level = |before, after| Change::of_level(before, after, same_region, elapsed);
        Self {
            elapsed,
            same_host,
            same_region,
            was_reset: before.epoch.known().filter(|_| same_region).and_then(is_reset),
            used_bytes: level(before.used_bytes, after.used_bytes),
            used_count: level(before.used_count, after.used_count),
            sums: Counter::ALL.map(|counter| sum(&joiners, counter)),
            compared,
            not_compared: joiners.len() as u64 - compared,
            joiners,
        }
    }

    /// Bytes allocated less bytes freed in between, by the joiners that can be compared; negative if more was
    /// freed. Of a single joiner this means little where others free its blocks.
    pub fn live_bytes(&self) -> Option<i64> {
        let [allocated, freed] = [Counter::AllocBytes, Counter::FreeBytes].map(|it| self.sums[it as usize]);
        allocated?.checked_sub(freed?)
    }
}

fn sum(joiners: &[JoinerChange], counter: Counter) -> Option<i64> {
    let mut deltas = joiners.iter().filter_map(|joiner| joiner.changes[counter as usize].delta);
    let first = deltas.next()?;
    deltas.try_fold(first, i64::checked_add)
}

fn joiners(
    before: &Snapshot,
    after: &Snapshot,
    comparable: bool,
    elapsed: Option<Duration>,
) -> Vec<JoinerChange> {
    use std::collections::BTreeMap;
    let by_key = |of: &Snapshot| of.joiners.iter().map(|it| (it.key, *it)).collect::<BTreeMap<_, _>>();
    let (earlier, later) = (by_key(before), by_key(after));
    let mut keys: Vec<JoinerKey> = earlier.keys().chain(later.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let value = |found: Option<&JoinerCounters>, counter| {
        found.map_or(Value::Absent, |found| found.values.get(counter))
    };
    let change = |key: JoinerKey| {
        let (earlier, later) = (earlier.get(&key), later.get(&key));
        let changes = Counter::ALL.map(|counter| {
            Change::of_counter(value(earlier, counter), value(later, counter), comparable, elapsed)
        });
        JoinerChange { key, state: later.map(|later| later.state), changes }
    };
    keys.into_iter().map(change).collect()
}

#[cfg(feature = "serde")]
fn named<S: serde::Serializer, T: serde::Serialize>(
    values: &[T; Counter::ALL.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(Counter::ALL.map(|counter| (counter.name(), &values[counter as usize])))
}

#[cfg(feature = "serde")]
fn nanos<S: serde::Serializer>(elapsed: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let nanos = elapsed.and_then(|elapsed| u64::try_from(elapsed.as_nanos()).ok());
    serde::Serialize::serialize(&nanos, serializer)
}
