//! What an image of a groove may hold, and whether it does.
//!
//! # Invariants
//! - An image is judged through public calls: no table is read directly.

use outlast_groove::{AllocError, Groove, Joiner, ObjRef};

use super::case::{Case, Objects, Operation, Outcome, domain, objects};
use super::image::Image;
use super::name;

/// Objects of the largest size that a volume holds.
const LARGEST_COUNT: usize = 102;

/// The judge of a case's images, in order.
#[derive(Debug)]
pub struct Oracle {
    before: Objects,
    after: Objects,
    operation: Operation,
    before_count: u64,
    after_count: u64,
}

type Verdict<T> = Result<T, String>;

impl Oracle {
    /// For a call that returned `outcome`.
    ///
    /// # Errors
    /// A text: the outcome cannot be right.
    pub fn new(case: &Case, outcome: &Outcome) -> Verdict<Self> {
        let after = case.operation.model(&case.before, *outcome);
        Ok(Self {
            before: case.before.clone(),
            after,
            operation: case.operation,
            before_count: 0,
            after_count: 0,
        })
    }

    /// How many images were *before* and how many *after*; *before* if the two are the same.
    pub fn counts(&self) -> (u64, u64) {
        (self.before_count, self.after_count)
    }

    /// Judges the next image.
    ///
    /// # Errors
    /// A text: what is wrong.
    pub fn judge(&mut self, image: &Image) -> Verdict<()> {
        let found = rebuilt(image)?;
        if found == self.before && (self.after_count == 0 || self.after == self.before) {
            self.before_count += 1;
        } else if found == self.after {
            self.after_count += 1;
        } else {
            return Err(format!("a rebuild finds {}", difference(&found, &self.before, &self.after)));
        }
        // In the middle of a rebuild there is nobody to go on.
        if self.operation != Operation::Rebuild {
            let seen = survived(image)?;
            if seen != found {
                return Err(format!(
                    "a survivor finds other objects than a rebuild: {}",
                    difference(&seen, &found, &found)
                ));
            }
        }
        Ok(())
    }

    /// Whether the last image was the one that it had to be.
    ///
    /// # Errors
    /// A text.
    pub fn finish(&self) -> Verdict<()> {
        if self.after != self.before && self.after_count == 0 {
            return Err("the call has returned and has not happened".to_owned());
        }
        Ok(())
    }
}

fn difference(found: &Objects, before: &Objects, after: &Objects) -> String {
    let strange = |(object, what): &(&ObjRef, &(u64, u64))| {
        before.get(object) != Some(what) && after.get(object) != Some(what)
    };
    let missing =
        |(object, _): &(&ObjRef, &(u64, u64))| !found.contains_key(object) && after.contains_key(object);
    let strange: Vec<_> = found.iter().filter(strange).take(3).collect();
    let missing: Vec<_> = before.iter().filter(missing).take(3).collect();
    format!("{} objects; strange: {strange:?}, missing: {missing:?}", found.len())
}

/// Any error as a text.
fn text(what: &str) -> impl Fn(&dyn core::fmt::Display) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// What a rebuild from the volumes alone finds; nothing of them may be lost to it.
pub(super) fn rebuilt(image: &Image) -> Verdict<Objects> {
    let (_directory, domain) = domain()?;
    image.write(&domain, true).map_err(|error| error.to_string())?;
    let (groove, _) = Groove::rebuild(&domain, &name()).map_err(|error| text("rebuild")(&error))?;
    let report = groove.verify().map_err(|error| text("verify")(&error))?;
    if let Some(fault) = report.faults.first() {
        return Err(format!("after a rebuild: {fault}"));
    }
    let joiner = groove.joiner().map_err(|error| text("join")(&error))?;
    let found = objects(&joiner)?;
    exercise(&groove, &joiner, &found, &[5000])?;
    Ok(found)
}

/// What a process finds that goes on where the dead one was, and adopts what that had in hand.
fn survived(image: &Image) -> Verdict<Objects> {
    let (_directory, domain) = domain()?;
    image.write(&domain, false).map_err(|error| error.to_string())?;
    let groove = Groove::open(&domain, &name()).map_err(|error| text("open")(&error))?;
    let report = groove.verify_softly().map_err(|error| text("soft verify")(&error))?;
    if let Some(fault) = report.faults.first() {
        return Err(format!("a survivor finds: {fault}"));
    }
    groove.adopt().map_err(|error| text("adopt")(&error))?;
    let report = groove.verify().map_err(|error| text("verify")(&error))?;
    if let Some(fault) = report.faults.first() {
        return Err(format!("after an adoption: {fault}"));
    }
    for volume in groove.volumes().map_err(|error| text("volumes")(&error))? {
        if volume.is_draining {
            groove.end_drain(volume.index).map_err(|error| text("end of the drain")(&error))?;
        }
    }
    let joiner = groove.joiner().map_err(|error| text("join")(&error))?;
    let found = objects(&joiner)?;
    exercise(&groove, &joiner, &found, &[0, 5000])?;
    Ok(found)
}

/// Fills what is free without touching what is there, frees everything, and sees that the whole groove can be had.
fn exercise(groove: &Groove, joiner: &Joiner, found: &Objects, sizes: &[u64]) -> Verdict<()> {
    let mut ranges = Vec::new();
    let mut enter = |object: ObjRef| -> Verdict<()> {
        let info = joiner.info(object).map_err(|error| text("info")(&error))?;
        ranges.push((object.volume(), info.start, info.stop));
        Ok(())
    };
    found.keys().try_for_each(|object| enter(*object))?;
    let mut filled = Vec::new();
    for size in sizes {
        for object in fill(joiner, *size)? {
            enter(object)?;
            filled.push(object);
        }
    }
    ranges.sort_unstable();
    if let Some(pair) = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[1].1 < pair[0].2) {
        return Err(format!("two objects share bytes: {pair:?}"));
    }
    for object in filled.iter().chain(found.keys()) {
        joiner.free(*object).map_err(|error| text("free")(&error))?;
    }
    let volume_count = groove.volumes().map_err(|error| text("volumes")(&error))?.len();
    let largest = fill(joiner, groove.object_bytes_max())?.len();
    if largest < LARGEST_COUNT * volume_count {
        return Err(format!("{largest} objects of the largest size fit {volume_count} volumes"));
    }
    Ok(())
}

fn fill(joiner: &Joiner, size: u64) -> Verdict<Vec<ObjRef>> {
    let mut objects = Vec::new();
    loop {
        match joiner.alloc(size, 0, u64::MAX) {
            Ok(object) => objects.push(object),
            Err(AllocError::Full { .. }) => return Ok(objects),
            Err(other) => return Err(format!("alloc: {other}")),
        }
    }
}
