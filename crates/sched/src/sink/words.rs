//! How times, sizes, counts and text from elsewhere are written for people.
//!
//! # Invariants
//! - What comes out of [`one_line`] has no control character, what comes out of [`many_lines`] only `\n` and `\t`: a
//!   job cannot move a terminal's cursor or forge another job's line.

use std::borrow::Cow;
use std::time::Duration;

/// Minutes and seconds, `M:SS`, rounded down.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Three digits and a unit, from nanoseconds to hours.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 3600.0 {
        let minutes = time.as_secs() / 60;
        return format!("{} h {:02} min", minutes / 60, minutes % 60);
    }
    if seconds >= 60.0 {
        return format!("{} min", clock(time));
    }
    let (value, unit) = match seconds {
        s if s >= 0.9995 => (s, "s"),
        s if s >= 0.000_999_5 => (s * 1e3, "ms"),
        s if s > 0.0 => (s * 1e6, "µs"),
        _ => return "0 s".to_owned(),
    };
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// Bytes with a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// A moment as date and time in UTC; what is beyond the calendar is given in milliseconds.
pub(crate) fn moment(unix_ms: u64) -> String {
    match i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis) {
        Some(moment) => moment.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("{unix_ms} ms after 1970"),
    }
}

/// The text on one line, without control characters.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    replaced(text, |c| is_hostile(c) || c == '\n' || c == '\t')
}

/// The text without control characters but `\n` and `\t`; `\r\n` counts as `\n`.
pub(crate) fn many_lines(text: &str) -> Cow<'_, str> {
    match replaced(text, is_hostile) {
        Cow::Owned(text) if text.contains("\\r\n") => Cow::Owned(text.replace("\\r\n", "\n")),
        text => text,
    }
}

/// At most so many characters, the end replaced by `…` if there are more.
pub(crate) fn short(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let kept: String = text.chars().take(characters.saturating_sub(1)).collect();
            Cow::Owned(kept + "…")
        }
    }
}

/// At most so many bytes of the end of the text, and how many were left out.
pub(crate) fn tail(text: &str, bytes: usize) -> (&str, usize) {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    (&text[start..], start)
}

/// Some of the names, and how many more there are.
pub(crate) fn names(all: &[String], most: usize) -> String {
    let mut text = all[..all.len().min(most)].join(", ");
    if all.len() > most {
        text += &format!(" and {} more", all.len() - most);
    }
    text
}

/// Control characters, and those that reorder or hide the text around them.
fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn replaced(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if bad(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_three_digits() {
        let cases = [
            (0, "0 s"),
            (1_234, "1.23 µs"),
            (999_600, "1.00 ms"),
            (12_345_000, "12.3 ms"),
            (999_000_000, "999 ms"),
            (1_500_000_000, "1.50 s"),
            (59_900_000_000, "59.9 s"),
            (61_000_000_000, "1:01 min"),
            (7_260_000_000_000, "2 h 01 min"),
        ];
        for (nanos, text) in cases {
            assert_eq!(span(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(clock(Duration::from_secs(3_725)), "62:05");
    }

    #[test]
    fn sizes_and_moments() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert!(moment(u64::MAX).contains("ms after"));
    }

    #[test]
    fn hostile_text_cannot_act() {
        assert_eq!(one_line("a\n\u{1b}[2Jb\u{202e}"), "a\\n\\u{1b}[2Jb\\u{202e}");
        assert_eq!(many_lines("a\r\nb\t\u{7}"), "a\nb\t\\u{7}");
        assert_eq!(short("äöü", 2), "ä…");
        assert_eq!(tail("aäb", 2), ("b", 3));
        assert_eq!(names(&["a".into(), "b".into(), "c".into()], 2), "a, b and 1 more");
    }
}
