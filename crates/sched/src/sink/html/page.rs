//! The page as a whole.
//!
//! # Invariants
//! - The order is that of questions in the night: did it work, what is wrong, how do I repeat it; only then the rest.
//! - The element `run` holds the same as JSON, for programs.

use std::fmt::Write;
use std::time::Duration;

use super::style::sheet;
use super::{curves, escape, failures, gantt, jobs};
use crate::outcome::Outcome;
use crate::run_record::RunRecord;
use crate::sink::banner::Tally;
use crate::sink::words::{moment, size, span};

/// The whole text of the file.
pub(crate) fn page(run: &RunRecord, lanes: &[String]) -> String {
    let whole = whole(run);
    let title = escape::text(&format!("{}: {}", verdict(run).0, run.plan.run));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{}</style></head>\n<body>\n{}\n<main>\n",
        sheet(),
        header(run, whole)
    );
    html += &failures::section(run);
    let _ = write!(
        html,
        "<section id=\"outcomes\"><h2>Outcomes</h2>{}<div class=\"pair\">{}{}</div></section>\n\
         <section id=\"slots\"><h2>Slots over time</h2>{}{}</section>\n\
         <section id=\"curves\"><h2>Throughput and memory</h2>{}</section>\n\
         <section id=\"all\"><h2>All jobs ({})</h2>{}</section>\n{}",
        jobs::stack(run),
        jobs::outcomes(run),
        jobs::groups(run),
        gantt::chart(run, lanes, whole),
        legend(run),
        curves::figures(run, whole),
        run.records.len(),
        jobs::table(run),
        failures::not_run(run)
    );
    let _ = write!(
        html,
        "</main>\n<footer>Written by outlast-sched {}. Times in the charts count from the beginning of the run.</footer>\n\
         <script type=\"application/json\" id=\"run\">{}</script>\n<script>{SCRIPT}</script>\n</body></html>\n",
        env!("CARGO_PKG_VERSION"),
        escape::json(&data(run))
    );
    html
}

/// The time that the charts cover: that of the run, or of its last job.
fn whole(run: &RunRecord) -> Duration {
    let elapsed = run.summary.as_ref().map(|summary| summary.elapsed).unwrap_or_default();
    let ends = run.records.iter().map(|record| record.start.saturating_add(record.duration));
    ends.max().unwrap_or_default().max(elapsed)
}

/// The run in a word or two, and in whose colour.
fn verdict(run: &RunRecord) -> (String, Outcome) {
    let failed = run.records.iter().filter(|record| record.outcome.is_failure()).count();
    let (word, colour) = match run.summary.as_ref().map_or(130, |summary| summary.exit_code) {
        0 => ("PASSED", Outcome::Passed),
        2 => ("USAGE", Outcome::Usage),
        4 => ("NOTHING RAN", Outcome::Skipped),
        5 => ("INCONCLUSIVE", Outcome::Inconclusive),
        130 => ("INTERRUPTED", Outcome::Interrupted),
        _ => ("FAILED", Outcome::Failed),
    };
    // An interrupt must not hide that something was wrong before it.
    if colour == Outcome::Interrupted && failed > 0 {
        return (format!("{word}, {failed} FAILED"), Outcome::Failed);
    }
    (word.to_owned(), colour)
}

fn header(run: &RunRecord, whole: Duration) -> String {
    let plan = &run.plan;
    let (word, colour) = verdict(run);
    let interrupted = run.summary.as_ref().is_none_or(|summary| summary.interrupted);
    let banner = Tally::of(&run.records).banner(interrupted, whole, plan.slots, plan.jobs.len());
    let mut facts = String::new();
    let mut fact = |what: &str, value: String| {
        let _ = write!(facts, "<div><dt>{what}</dt><dd>{}</dd></div>", escape::text(&value));
    };
    fact("Run", plan.run.clone());
    fact("Began", moment(plan.started_unix_ms));
    fact("Took", span(whole));
    fact("Commit", plan.commit.clone().unwrap_or_else(|| "not known".to_owned()));
    fact("Seed", plan.seed.to_string());
    fact("Profile", plan.profile.clone());
    if let Some((part, of)) = plan.shard {
        fact("Shard", format!("{part} of {of}"));
    }
    fact("Slots", plan.slots.to_string());
    let cpus = plan.host.cpus.len();
    fact("Machine", format!("{}, {cpus} CPUs, {}", plan.host.system, size(plan.host.memory_bytes)));
    fact("Load when it began", format!("{:.2}", plan.host.load));
    fact("Directory", plan.directory.display().to_string());
    fact("Exit code", run.summary.as_ref().map_or_else(|| "none".to_owned(), |s| s.exit_code.to_string()));
    format!(
        "<header><span class=\"verdict o-{}\">{word}</span><h1>{}</h1><nav>{}</nav><dl class=\"facts small\">{facts}</dl></header>",
        colour.as_str(),
        escape::text(&banner),
        links(run)
    )
}

fn links(run: &RunRecord) -> String {
    let wrong = run.records.iter().any(|r| r.outcome.is_failure() || r.outcome == Outcome::Inconclusive);
    let places = [
        (wrong, "wrong", "What went wrong"),
        (true, "outcomes", "Outcomes"),
        (true, "slots", "Slots over time"),
        (true, "curves", "Throughput and memory"),
        (true, "all", "All jobs"),
    ];
    let shown = places.into_iter().filter(|(shown, ..)| *shown);
    shown.map(|(_, place, text)| format!("<a href=\"#{place}\">{text}</a>")).collect()
}

/// The outcomes that the chart has.
fn legend(run: &RunRecord) -> String {
    let seen = |outcome| run.records.iter().any(|r| r.outcome == outcome && r.slot.is_some());
    let tags: String = Outcome::ALL.into_iter().filter(|outcome| seen(*outcome)).map(jobs::tag).collect();
    format!("<div class=\"legend\">{tags}</div>")
}

/// What programs may want, without the texts.
fn data(run: &RunRecord) -> serde_json::Value {
    let jobs: Vec<_> = run
        .in_plan_order()
        .into_iter()
        .map(|record| {
            serde_json::json!({
                "ordinal": record.ordinal,
                "completion": record.completion,
                "group": record.group,
                "name": record.name,
                "repetition": record.repetition,
                "outcome": record.outcome,
                "duration_ns": u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX),
                "seed": record.seed,
                "slot": record.slot,
            })
        })
        .collect();
    serde_json::json!({
        "schema": run.plan.schema,
        "run": run.plan.run,
        "seed": run.plan.seed,
        "summary": run.summary,
        "jobs": jobs,
    })
}

/// Niceties: copying, sorting, finding. Everything can be read without.
const SCRIPT: &str = r#"(function(){
var d=document;d.documentElement.className='js';
d.querySelectorAll('.copy').forEach(function(b){b.onclick=function(){
var p=b.previousElementSibling;
function pick(){var r=d.createRange();r.selectNodeContents(p);var s=getSelection();s.removeAllRanges();s.addRange(r)}
if(navigator.clipboard)navigator.clipboard.writeText(p.textContent).then(function(){b.textContent='Copied'},pick);
else pick()}});
var body=d.querySelector('#jobs tbody'),rows=[].slice.call(body.rows),find=d.getElementById('find'),only=d.getElementById('only'),seen={};
rows.forEach(function(r){seen[r.dataset.outcome]=1});
Object.keys(seen).sort().forEach(function(o){var e=d.createElement('option');e.value=o;e.textContent=o.replace('_',' ');only.appendChild(e)});
function show(){var t=find.value.toLowerCase();rows.forEach(function(r){
r.hidden=(only.value&&r.dataset.outcome!==only.value)||r.textContent.toLowerCase().indexOf(t)<0})}
find.oninput=only.onchange=show;
var last='',up=true;
d.querySelectorAll('#jobs th[data-key]').forEach(function(h){h.onclick=function(){
var k=h.dataset.key;up=k===last?!up:(k==='ordinal'||k==='name'||k==='outcome');last=k;
rows.sort(function(a,b){var x=a.dataset[k],y=b.dataset[k],c=(isNaN(x)||isNaN(y))?(x<y?-1:x>y?1:0):x-y;return up?c:-c});
rows.forEach(function(r){body.appendChild(r)})}});
})();"#;
