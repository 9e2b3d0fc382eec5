//! Run directories read back and merged, whole, cut short, damaged and mixed up.
#![cfg(feature = "runner")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod made_up;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use made_up::{MadeUp, every_outcome, many};
use outlast_sched::{
    Html, JUnit, JsonLines, MergeError, Outcome, ReadError, RunRecord, Sample, Sink, Terminal,
    TerminalOptions, merge,
};
use proptest::prelude::*;

/// Directories of shards.
struct Shards {
    directory: tempfile::TempDir,
    paths: Vec<PathBuf>,
}

impl Shards {
    fn of(runs: &[MadeUp]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths = (1..=runs.len()).map(|n| directory.path().join(n.to_string())).collect::<Vec<_>>();
        for (run, path) in runs.iter().zip(&paths) {
            fs::create_dir(path).unwrap();
            run.write(path);
        }
        Self { directory, paths }
    }

    fn of_thirty(of: u32) -> Self {
        let run = many(30, 2, |n| if n % 11 == 3 { Outcome::Failed } else { Outcome::Passed });
        Self::of(&(1..=of).map(|part| run.shard(part, of)).collect::<Vec<_>>())
    }

    fn error(&self) -> String {
        let text = merge(&self.paths).unwrap_err().to_string();
        text.replace(&self.directory.path().display().to_string(), "DIR")
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn terminal(tell: impl FnOnce(&mut dyn Sink)) -> String {
    let out = Shared::default();
    tell(&mut Terminal::new(Box::new(out.clone()), TerminalOptions::default()));
    let bytes = out.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_read_back_is_what_was_written() {
    let run = every_outcome();
    let shards = Shards::of(std::slice::from_ref(&run));
    let read = RunRecord::read(&shards.paths[0]).unwrap();
    assert_eq!((&read.plan, &read.records, &read.samples), (&run.plan, &run.records, &run.samples));
    assert_eq!(read.summary.as_ref(), Some(&run.summary));
    let live = terminal(|sink| run.events().iter().for_each(|event| sink.on(event).unwrap()));
    assert_eq!(terminal(|sink| read.replay(&mut [sink]).unwrap()), live);
    // A whole run may be merged alone, to make its reports again.
    let merged = merge(&shards.paths).unwrap();
    assert_eq!(merged.run(), &read);
    assert_eq!(merged.lanes(), ["slot 1", "slot 2", "slot 3"]);
}

#[test]
fn shards_make_the_whole_whatever_their_order() {
    let mut shards = Shards::of_thirty(4);
    shards.paths.reverse();
    let merged = merge(&shards.paths).unwrap();
    let run = merged.run();
    assert_eq!(merged.notes(), [""; 0]);
    assert_eq!(run.plan.slots, 8);
    assert_eq!(merged.lanes()[2], "shard 2/4, slot 1");
    assert!(run.plan.jobs.iter().map(|job| job.global_ordinal).eq(0..30));
    assert!(run.records.iter().map(|record| record.completion).eq(0..30));
    for record in run.in_plan_order() {
        assert_eq!(record.name, run.plan.jobs[record.ordinal as usize].name);
        assert_eq!(record.slot.unwrap() / 2, record.global_ordinal % 4, "its lane is that of its shard");
    }
    assert_eq!(run.summary.as_ref().unwrap().exit_code, 100);
    insta::assert_snapshot!(terminal(|sink| merged.replay(&mut [sink]).unwrap()));
    let path = |name: &str| shards.directory.path().join(name);
    let mut html = Html::new(path("all.html")).with_lanes(merged.lanes().to_vec());
    let (mut json, mut junit) = (JsonLines::create(&path("all.jsonl")).unwrap(), JUnit::new(path("all.xml")));
    merged.replay(&mut [&mut html, &mut json, &mut junit]).unwrap();
    assert!(fs::read_to_string(path("all.html")).unwrap().contains("shard 3/4, slot 2"));
    assert_eq!(fs::read_to_string(path("all.jsonl")).unwrap().lines().count(), 30);
    assert!(fs::read_to_string(path("all.xml")).unwrap().contains("tests=\"30\""));
}

#[test]
fn a_missing_shard_is_named_and_no_pass() {
    let run = many(30, 2, |_| Outcome::Passed);
    let shards = Shards::of(&[run.shard(2, 4), run.shard(4, 4)]);
    let merged = merge(&shards.paths).unwrap();
    assert_eq!(merged.missing_shards(), [1, 3]);
    assert_eq!(merged.notes(), ["missing: shards 1, 3 of 4"]);
    assert_eq!(merged.run().summary.as_ref().unwrap().exit_code, 5);
    assert!(merged.run().plan.profile.contains("missing: shards 1, 3"));
}

#[test]
fn a_shard_that_was_cut_short_has_interrupted_jobs() {
    let shards = Shards::of_thirty(2);
    fs::remove_file(shards.paths[1].join("summary.json")).unwrap();
    let records = shards.paths[1].join("records.jsonl");
    let text = fs::read_to_string(&records).unwrap();
    let kept: Vec<_> = text.split_inclusive('\n').take(5).collect();
    // The last line is torn, as by a kill.
    fs::write(&records, kept.concat().trim_end_matches("}\n")).unwrap();
    let merged = merge(&shards.paths).unwrap();
    assert_eq!(merged.notes().len(), 1);
    assert!(merged.notes()[0].starts_with("cut short"), "{:?}", merged.notes());
    let run = merged.run();
    assert_eq!(run.records.len(), 30);
    assert_eq!(run.records.iter().filter(|record| record.outcome == Outcome::Interrupted).count(), 11);
    assert_eq!(run.summary.as_ref().unwrap().exit_code, 130);
    // Nothing at all was written yet.
    fs::remove_file(&records).unwrap();
    fs::remove_file(shards.paths[1].join("samples.jsonl")).unwrap();
    assert_eq!(merge(&shards.paths).unwrap().run().records.len(), 30);
}

#[test]
fn a_terminal_that_is_gone_costs_no_other_report() {
    let shards = Shards::of_thirty(2);
    let html = shards.directory.path().join("all.html");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut terminal = Terminal::new(Box::new(full), TerminalOptions::default());
    let mut page = Html::new(&html);
    let error = merge(&shards.paths).unwrap().replay(&mut [&mut terminal, &mut page]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(fs::read_to_string(html).unwrap().contains("</html>"));
}

#[test]
fn a_shard_that_is_over_holds_no_memory() {
    let run = many(30, 2, |_| Outcome::Passed);
    let (mut long, mut short) = (run.shard(1, 2), run.shard(2, 2));
    let second = std::time::Duration::from_secs(1);
    let sample =
        |seconds, memory_bytes| Sample { at: second * seconds, running: 1, finished: 3, memory_bytes };
    long.samples = (0..=9).map(|n| sample(n, 1 << 20)).collect();
    long.summary.elapsed = second * 10;
    // Killed when it held much: it neither ended nor took a last sample.
    short.samples = (0..=2).map(|n| sample(n, 1 << 30)).collect();
    short.records.retain(|record| record.start + record.duration < second * 2);
    let shards = Shards::of(&[long, short]);
    fs::remove_file(shards.paths[1].join("summary.json")).unwrap();
    let merged = merge(&shards.paths).unwrap();
    let at = |seconds: u32| {
        let before = merged.run().samples.iter().rev().find(|sample| sample.at <= second * seconds).unwrap();
        (before.running, before.finished, before.memory_bytes)
    };
    assert_eq!(at(1), (2, 6, (1 << 30) + (1 << 20)));
    assert_eq!(at(5), (1, 6, 1 << 20));
    assert_eq!(at(10), (0, 6, 0));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let run = many(30, 2, |_| Outcome::Passed);
    let change = |part, of, change: fn(&mut MadeUp)| {
        let mut shard = run.shard(part, of);
        change(&mut shard);
        shard
    };
    let one = || run.shard(1, 2);
    let errors = [
        Shards::of(&[]).error(),
        Shards::of(&[one(), one()]).error(),
        Shards::of(&[one(), change(2, 2, |shard| shard.plan.seed = 43)]).error(),
        Shards::of(&[one(), change(2, 2, |shard| shard.plan.commit = None)]).error(),
        Shards::of(&[one(), change(2, 2, |shard| shard.plan.profile = "full".to_owned())]).error(),
        Shards::of(&[one(), run.shard(2, 3)]).error(),
        Shards::of(&[one(), change(1, 2, |shard| shard.plan.shard = Some((2, 2)))]).error(),
        Shards::of(&[one(), run.clone()]).error(),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn damage_is_named_with_its_file_and_line() {
    let damage = |file: &str, from: &str, to: &str| {
        let shards = Shards::of_thirty(2);
        let path = shards.paths[0].join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        shards.error()
    };
    let mut errors = vec![
        damage("plan.json", "\"schema\":1", "\"schema\":2"),
        damage("plan.json", "\"slots\":2", "\"slots\":0"),
        damage("plan.json", "\"slots\":2", "\"slots\":4000000000"),
        damage("plan.json", "\"shard\":[1,2]", "\"shard\":[3,2]"),
        damage("plan.json", "\"ordinal\":3", "\"ordinal\":4"),
        damage("plan.json", "{", "["),
        damage("records.jsonl", "\"schema\":1", "\"schema\":7"),
        damage("records.jsonl", "\n", ""),
        damage("records.jsonl", "\n{", "\n"),
        damage("records.jsonl", "\"outcome\":\"passed\"", "\"outcome\":\"splendid\""),
        damage("records.jsonl", "\"slot\":1", "\"slot\":2"),
        damage("samples.jsonl", "\n{", "\nx"),
        damage("summary.json", "\"schema\":1", "\"schema\":0"),
    ];
    let shards = Shards::of_thirty(2);
    let records = shards.paths[0].join("records.jsonl");
    let text = fs::read_to_string(&records).unwrap();
    fs::write(&records, text.trim_end()).unwrap();
    errors.push(shards.error());
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    lines.push(lines[0]);
    fs::write(&records, lines.concat()).unwrap();
    errors.push(shards.error());
    lines.truncate(14);
    fs::write(&records, lines.concat()).unwrap();
    errors.push(shards.error());
    fs::remove_file(&records).unwrap();
    errors.push(shards.error());
    fs::remove_dir_all(&shards.paths[1]).unwrap();
    assert!(matches!(merge(&shards.paths[1..]), Err(MergeError::Read(ReadError::Io { .. }))));
    errors.push(merge(&[PathBuf::from("no such run")]).unwrap_err().to_string());
    insta::assert_snapshot!(errors.join("\n"));
}

proptest! {
    #[test]
    fn any_bytes_are_no_panic(
        file in 0usize..4,
        at in 0usize..1_000_000,
        bytes in proptest::collection::vec(any::<u8>(), 1..40),
        insert in any::<bool>(),
    ) {
        let shards = Shards::of(&[every_outcome().shard(1, 2), every_outcome().shard(2, 2)]);
        let name = ["plan.json", "records.jsonl", "samples.jsonl", "summary.json"][file];
        let path = shards.paths[1].join(name);
        let mut text = fs::read(&path).unwrap();
        let at = at % text.len();
        let end = if insert { at } else { (at + bytes.len()).min(text.len()) };
        text.splice(at..end, bytes);
        fs::write(&path, &text).unwrap();
        if let Ok(merged) = merge(&shards.paths) {
            let html = shards.directory.path().join("all.html");
            let mut html = Html::new(html).with_lanes(merged.lanes().to_vec());
            terminal(|sink| merged.replay(&mut [sink, &mut html]).unwrap());
        }
    }

    #[test]
    fn any_numbers_are_no_panic(numbers in proptest::collection::vec(any::<u64>(), 8)) {
        let mut run = every_outcome().shard(1, 3);
        run.plan.started_unix_ms = numbers[0];
        run.plan.shard = Some((1, numbers[1] as u32));
        for (record, number) in run.records.iter_mut().zip(numbers.iter().cycle()) {
            record.start = std::time::Duration::from_nanos(*number);
            record.duration = std::time::Duration::from_nanos(number.rotate_left(17));
            record.expected = Some(std::time::Duration::from_nanos(number.rotate_left(31)));
            record.peak_bytes = Some(*number);
        }
        for (sample, number) in run.samples.iter_mut().zip(numbers.iter().cycle()) {
            (sample.memory_bytes, sample.running) = (*number, *number as u32);
        }
        let shards = Shards::of(&[run]);
        if let Ok(merged) = merge(&shards.paths) {
            let path = shards.directory.path().join("all");
            let (mut html, mut junit) = (Html::new(path.join("h")), JUnit::new(path.join("j")));
            terminal(|sink| merged.replay(&mut [sink, &mut html, &mut junit]).unwrap());
        }
    }
}
