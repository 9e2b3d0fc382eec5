//! Colours, marks and the style sheet.
//!
//! # Invariants
//! - Every outcome has a colour for light and for dark, and a mark that differs in shape.

use std::fmt::Write;

use crate::outcome::Outcome;

/// A sign for an outcome, beside its word.
pub(crate) fn sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "✓",
        Outcome::Unblessed => "◇",
        Outcome::Cached => "=",
        Outcome::Skipped => "–",
        Outcome::Inconclusive => "?",
        Outcome::NotStarted => "∅",
        Outcome::Leaked => "≈",
        Outcome::Failed => "✗",
        Outcome::TimedOut => "∞",
        Outcome::Crashed => "†",
        Outcome::Usage => "!",
        Outcome::Interrupted => "■",
    }
}

/// Colours on a light and on a dark ground.
fn colours(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Passed => ("#1a7f37", "#3fb950"),
        Outcome::Unblessed => ("#0f766e", "#2dd4bf"),
        Outcome::Cached => ("#4d7c0f", "#a3e635"),
        Outcome::Skipped => ("#6b7280", "#9aa4b2"),
        Outcome::Inconclusive => ("#8a6100", "#e3b341"),
        Outcome::NotStarted => ("#7c2d12", "#fdba74"),
        Outcome::Leaked => ("#b45309", "#f59e0b"),
        Outcome::Failed => ("#c81e2b", "#ff6b63"),
        Outcome::TimedOut => ("#7c3aed", "#b392f0"),
        Outcome::Crashed => ("#b01763", "#f778ba"),
        Outcome::Usage => ("#92400e", "#fb923c"),
        Outcome::Interrupted => ("#1d5fbf", "#79b8ff"),
    }
}

/// The whole style sheet.
pub(crate) fn sheet() -> String {
    let (mut light, mut dark, mut classes) = (String::new(), String::new(), String::new());
    for outcome in Outcome::ALL {
        let name = outcome.as_str();
        let (on_light, on_dark) = colours(outcome);
        let _ = write!(light, "--{name}:{on_light};");
        let _ = write!(dark, "--{name}:{on_dark};");
        let _ = writeln!(classes, ".o-{name}{{--c:var(--{name})}}");
    }
    format!(
        ":root{{color-scheme:light dark;{light}{LIGHT}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}{DARK}}}}}\n\
         {classes}{RULES}"
    )
}

const LIGHT: &str = "--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--dim:#57606a;--line:#d7dce2;--track:#eceff3;\
                     --code:#f1f3f6;--on:#fff;--accent:#1d5fbf;";
const DARK: &str = "--bg:#0e1217;--card:#161b22;--ink:#e3e8ee;--dim:#9aa4b2;--line:#30363d;--track:#20262e;\
                    --code:#0b0f14;--on:#0b0f14;--accent:#79b8ff;";

const RULES: &str = r#"*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main,header,footer{max-width:1280px;margin:0 auto;padding:0 20px}
header{padding-top:24px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 20px;margin:16px 0}
h1{font-size:25px;line-height:1.25;margin:8px 0 4px}
h2{font-size:17px;margin:0 0 10px}
h3{font-size:15px;margin:0;overflow-wrap:anywhere}
a{color:var(--accent)}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:10px 0}
.verdict{display:inline-block;background:var(--c);color:var(--on);font-weight:700;letter-spacing:.04em;border-radius:6px;padding:3px 12px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:10px 20px;margin:14px 0 0}
.facts div{min-width:0}
dt{color:var(--dim);font-size:12.5px}
dd{margin:0;overflow-wrap:anywhere}
.dim{color:var(--dim)}
.small{font-size:13px}
.tag{display:inline-block;white-space:nowrap;color:var(--c);font-weight:600}
.tag i{display:inline-block;width:1.35em;height:1.35em;line-height:1.35em;margin-right:.4em;border-radius:4px;background:var(--c);color:var(--on);text-align:center;font-style:normal;font-size:.88em}
article{border:1px solid var(--line);border-left:5px solid var(--c);border-radius:6px;padding:12px 16px;margin:12px 0}
article .head{display:flex;flex-wrap:wrap;gap:4px 12px;align-items:baseline}
.reason{margin:6px 0;overflow-wrap:anywhere;font-weight:500}
pre,code{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:13px}
pre{background:var(--code);border:1px solid var(--line);border-radius:6px;margin:6px 0;padding:8px 12px;overflow:auto;max-height:420px;white-space:pre-wrap;overflow-wrap:anywhere}
.replay{display:flex;gap:8px;align-items:stretch;margin:8px 0}
.replay pre{flex:1;margin:0;border-color:var(--accent)}
button,input,select{font:inherit;font-size:13.5px;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:4px 10px}
summary{cursor:pointer;color:var(--accent)}
.scroll{overflow-x:auto}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--dim);font-size:11.5px}
svg .bar{fill:var(--c);stroke:var(--card);stroke-width:.6}
svg .in{fill:var(--on);font-size:11px;pointer-events:none}
svg .o-passed .bar,svg .o-cached .bar{fill-opacity:.38;stroke:var(--c)}
svg .o-passed .in,svg .o-cached .in{fill:var(--ink)}
svg .track{fill:var(--track)}
svg .grid{stroke:var(--line);stroke-width:1}
svg .area{fill:var(--accent);fill-opacity:.2}
svg .curve{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}
svg .mark{stroke:var(--ink);stroke-width:1.6}
svg .past{fill:var(--dim);fill-opacity:.75}
.gantt{min-width:760px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(330px,100%),1fr));gap:18px}
figure{margin:0}
figcaption{font-weight:600}
figcaption span{font-weight:400;color:var(--dim)}
.stack{display:flex;height:16px;border-radius:5px;overflow:hidden;margin:4px 0 12px}
.stack i{background:var(--c);min-width:3px}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:5px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--dim);font-weight:600;font-size:13px}
tbody tr:hover{background:var(--track)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.job{overflow-wrap:anywhere;min-width:200px}
td.history{width:190px}
td.history svg{width:170px;height:18px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(380px,100%),1fr));gap:12px 40px;align-items:start}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:8px 0 0;font-size:13px}
.tools{display:none;gap:8px;margin:0 0 10px;flex-wrap:wrap}
.js .tools{display:flex}
.js th[data-key]{cursor:pointer}
.replay button{display:none}
.js .replay button{display:block}
ul{margin:6px 0;padding-left:22px}
li{overflow-wrap:anywhere}
footer{color:var(--dim);font-size:13px;padding-bottom:32px}
@media print{.tools{display:none!important}pre{max-height:none}}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_is_wider_than_a_narrow_window() {
        let sheet = sheet();
        let columns: Vec<_> = sheet.split("minmax(").skip(1).collect();
        assert_eq!(columns.len(), 3);
        for column in columns {
            let pixels = column.split("px").next().and_then(|number| number.parse::<u32>().ok());
            assert!(column.starts_with("min(") || pixels.is_some_and(|pixels| pixels < 250), "{column:.30}");
        }
    }
}
