//! Reports of made-up runs: what the terminal says, and that all formats say the same.
#![cfg(feature = "runner")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod made_up;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use made_up::{every_outcome, many, one, tell};
use outlast_sched::{Event, Exit, Html, JUnit, JsonLines, Outcome, Record, Sink, Terminal, TerminalOptions};

/// A writer whose text can be read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn terminal(events: &[Event], options: TerminalOptions) -> String {
    let out = Shared::default();
    tell(events, &mut Terminal::new(Box::new(out.clone()), options));
    out.text()
}

#[test]
fn the_terminal_shows_every_outcome_in_plan_order() {
    insta::assert_snapshot!(terminal(&every_outcome().events(), TerminalOptions::default()));
}

#[test]
fn the_terminal_with_details_of_one_job() {
    let options = TerminalOptions { details: true, ..TerminalOptions::default() };
    insta::assert_snapshot!(terminal(&one(Outcome::Passed).events(), options));
}

#[test]
fn the_terminal_of_one_failure_in_colours() {
    let options = TerminalOptions { colours: true, ..TerminalOptions::default() };
    insta::assert_snapshot!(terminal(&one(Outcome::Crashed).events(), options).replace('\u{1b}', "ESC"));
}

#[test]
fn the_terminal_of_a_long_group() {
    insta::assert_snapshot!(terminal(&many(60, 8, |_| Outcome::Passed).events(), TerminalOptions::default()));
}

#[test]
fn the_terminal_of_an_interrupted_run() {
    let mut run = many(30, 4, |n| if n < 12 { Outcome::Passed } else { Outcome::Interrupted });
    for record in &mut run.records[14..] {
        record.slot = None;
    }
    run.summary.interrupted = true;
    run.summary.exit_code = 130;
    insta::assert_snapshot!(terminal(&run.events(), TerminalOptions::default()));
}

#[test]
fn a_failure_is_told_when_it_happens_and_everything_comes_in_whole_lines() {
    let run = every_outcome();
    let out = Shared::default();
    let mut sink = Terminal::new(Box::new(out.clone()), TerminalOptions::default());
    for event in run.events() {
        let before = out.text().len();
        sink.on(&event).unwrap();
        let text = out.text();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        if let Event::Finished(record) = &event
            && record.outcome.is_failure()
        {
            assert!(text[before..].contains(&record.name), "{} is not told at once", record.name);
        }
    }
}

#[test]
fn hostile_names_and_texts_reach_no_terminal_and_no_page() {
    let mut run = one(Outcome::Failed);
    let hostile = "\u{1b}[2J\u{202e}</script><script>alert(1)</script>&'\"]]>\u{0}\u{fffe}";
    let job = &mut run.plan.jobs[0];
    for text in [&mut run.plan.run, &mut job.name, &mut job.group, &mut run.plan.profile] {
        *text = hostile.to_owned();
    }
    let record = &mut run.records[0];
    record.reason = Some(hostile.to_owned());
    for text in [
        &mut record.name,
        &mut record.group,
        &mut record.project,
        &mut record.text,
        &mut record.stdout_tail,
        &mut record.stderr_tail,
        &mut record.replay,
    ] {
        *text = hostile.to_owned();
    }
    record.leaked = vec![hostile.to_owned()];
    let text = terminal(&run.events(), TerminalOptions::default());
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\0'), "{text:?}");
    let reports = Reports::of(&run.events());
    assert!(!reports.html.contains("<script>alert") && !reports.html.contains('\u{1b}'));
    assert_eq!(reports.html.matches("</script").count(), 2);
    assert_eq!(reports.html.matches("<script").count(), 2);
    assert_eq!(reports.junit().test_suites.len(), 1);
    assert_eq!(reports.records()[0].reason.as_deref(), Some(hostile));
}

#[test]
fn nonsense_in_events_is_no_panic() {
    let mut run = every_outcome();
    run.plan.slots = 0;
    run.plan.started_unix_ms = u64::MAX;
    run.plan.shard = Some((0, 0));
    for (record, n) in run.records.iter_mut().zip(0..) {
        record.ordinal = u32::MAX - n;
        record.slot = Some(u32::MAX);
        record.start = std::time::Duration::from_nanos(u64::MAX);
        record.duration = std::time::Duration::from_nanos(u64::MAX);
        record.expected = Some(std::time::Duration::ZERO);
        record.peak_bytes = Some(u64::MAX);
        record.exit = Some(Exit::Signal { number: i32::MIN, core: true });
    }
    terminal(&run.events(), TerminalOptions { width: 0, ..TerminalOptions::default() });
    let html = Reports::of(&run.events()).html;
    let body = between(&html, "<body>", "<script");
    assert!(!body.contains("NaN") && !body.contains("inf\""));
}

/// The three files of a run.
struct Reports {
    html: String,
    json: String,
    xml: String,
}

impl Reports {
    fn of(events: &[Event]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        tell(events, &mut JsonLines::create(&path("run.jsonl")).unwrap());
        tell(events, &mut JUnit::new(path("run.xml")));
        tell(events, &mut Html::new(path("run.html")));
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        Self { html: read("run.html"), json: read("run.jsonl"), xml: read("run.xml") }
    }

    fn records(&self) -> Vec<Record> {
        self.json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn junit(&self) -> quick_junit::Report {
        quick_junit::Report::deserialize_from_str(&self.xml).unwrap()
    }

    /// The JSON block of the page.
    fn page_data(&self) -> serde_json::Value {
        let start = "<script type=\"application/json\" id=\"run\">";
        let from = self.html.find(start).unwrap() + start.len();
        let to = from + self.html[from..].find("</script>").unwrap();
        serde_json::from_str(&self.html[from..to]).unwrap()
    }

    /// Of each row of the page's table: ordinal, name, outcome, and the cell's text of the outcome.
    fn page_rows(&self) -> Vec<(u32, String, String, String)> {
        let row = |row: &str| {
            let attribute = |name: &str| between(row, &format!("data-{name}=\""), "\"").to_owned();
            let shown = between(between(row, "<span class=\"tag", "/span>"), "</i>", "<").to_owned();
            (attribute("ordinal").parse().unwrap(), attribute("name"), attribute("outcome"), shown)
        };
        self.html.split("<tr data-ordinal").skip(1).map(|text| row(&format!("data-ordinal{text}"))).collect()
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.find(start).unwrap() + start.len();
    &text[from..from + text[from..].find(end).unwrap()]
}

#[test]
fn json_lines_junit_and_html_agree() {
    let run = every_outcome();
    let reports = Reports::of(&run.events());
    let mut records = reports.records();
    assert_eq!(records, run.records);
    assert!(records.iter().map(|record| record.completion).eq(0..records.len() as u32));
    records.sort_by_key(|record| record.ordinal);

    let junit = reports.junit();
    let cases: Vec<_> = junit.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    let data = reports.page_data();
    let jobs = data["jobs"].as_array().unwrap();
    let rows = reports.page_rows();
    assert_eq!([cases.len(), jobs.len(), rows.len()], [records.len(); 3]);
    for (((record, case), job), (ordinal, name, outcome, shown)) in
        records.iter().zip(cases).zip(jobs).zip(rows)
    {
        let property = |name: &str| {
            let found = case.properties.iter().find(|property| property.name.as_str() == name);
            found.unwrap().value.as_str().to_owned()
        };
        assert!(case.name.as_str().starts_with(&record.name));
        assert_eq!(property("ordinal"), record.ordinal.to_string());
        assert_eq!(property("outcome"), record.outcome.as_str());
        assert_eq!(property("seed"), record.seed.to_string());
        assert_eq!(property("replay"), record.replay);
        assert!(case.time.unwrap().abs_diff(record.duration) < std::time::Duration::from_millis(1));
        assert_eq!(job["ordinal"], record.ordinal);
        assert_eq!(job["name"], record.name.as_str());
        assert_eq!(job["outcome"], record.outcome.as_str());
        assert_eq!(job["duration_ns"], record.duration.as_nanos() as u64);
        assert_eq!((ordinal, name.as_str()), (record.ordinal, record.name.as_str()));
        assert_eq!(outcome, record.outcome.as_str());
        assert_eq!(shown, record.outcome.as_str().replace('_', " "));
    }
    let sum =
        |count: fn(&quick_junit::TestSuite) -> usize| junit.test_suites.iter().map(count).sum::<usize>();
    let count = |outcomes: &[Outcome]| records.iter().filter(|r| outcomes.contains(&r.outcome)).count();
    let never_began =
        records.iter().filter(|r| r.outcome == Outcome::Interrupted && r.slot.is_none()).count();
    assert_eq!(sum(|suite| suite.failures), count(&[Outcome::Failed, Outcome::Leaked]));
    assert_eq!(sum(|suite| suite.skipped), count(&[Outcome::Skipped, Outcome::Cached]) + never_began);
    let good = count(&[Outcome::Passed, Outcome::Unblessed]);
    let bad = records.len() - good - sum(|suite| suite.failures) - sum(|suite| suite.skipped);
    assert_eq!(sum(|suite| suite.errors), bad);
    for outcome in Outcome::ALL {
        let row = format!("data-count-of=\"{}\"", outcome.as_str());
        let shown = between(between(&reports.html, &row, "</tr>"), "<td class=\"n\">", "<").parse();
        assert_eq!(shown, Ok(count(&[outcome])), "{outcome}");
    }
}

#[test]
fn junit_text() {
    insta::assert_snapshot!(Reports::of(&every_outcome().events()).xml);
}

#[test]
fn a_page_of_two_thousand_jobs_is_of_sane_size() {
    let run = many(2000, 16, |n| if n % 97 == 0 { Outcome::Failed } else { Outcome::Passed });
    let html = Reports::of(&run.events()).html;
    assert!(html.len() < 6 << 20, "{} bytes", html.len());
    assert!(!html.contains("http://") && !html.contains("https://"));
}

/// Writes the pages that one should look at, into the directory that `OUTLAST_PAGES` names.
#[test]
#[ignore = "makes pages for eyes: set OUTLAST_PAGES to a directory"]
fn pages_to_look_at() {
    let directory =
        std::path::PathBuf::from(std::env::var_os("OUTLAST_PAGES").expect("OUTLAST_PAGES is not set"));
    let seven = many(7, 3, |_| Outcome::Passed);
    let pages = [
        ("1-passed", one(Outcome::Passed)),
        ("1-crashed", one(Outcome::Crashed)),
        ("7", seven),
        ("every", every_outcome()),
        ("400", many(400, 16, |n| if n % 61 == 5 { Outcome::Failed } else { Outcome::Passed })),
        ("2000", many(2000, 128, |n| if n % 331 == 5 { Outcome::TimedOut } else { Outcome::Passed })),
    ];
    for (name, run) in pages {
        tell(&run.events(), &mut Html::new(directory.join(format!("{name}.html"))));
    }
}
