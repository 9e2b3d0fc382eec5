//! What charts have in common: a time axis and a value axis with round numbers.
//!
//! # Invariants
//! - No number in an SVG is NaN or infinite: every divisor is at least a small positive number.

use std::fmt::Write;
use std::time::Duration;

use super::escape;
use crate::sink::words::span;

/// A step of 1, 2 or 5 times a power of ten, so that there are at most so many of them.
pub(crate) fn step(range: f64, most: f64) -> f64 {
    let raw = (range / most).max(1e-12);
    let power = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= raw * 0.999_999);
    factor.unwrap_or(10.0) * power
}

/// A time axis: seconds to places from left to right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    pub(crate) seconds: f64,
    pub(crate) left: f64,
    pub(crate) width: f64,
}

impl Time {
    pub(crate) fn new(whole: Duration, left: f64, width: f64) -> Self {
        Self { seconds: whole.as_secs_f64().max(1e-6), left, width }
    }

    pub(crate) fn x(&self, seconds: f64) -> f64 {
        self.left + (seconds / self.seconds).clamp(0.0, 1.0) * self.width
    }

    /// Lines from `top` to `bottom` with their times below.
    pub(crate) fn axis(&self, svg: &mut String, top: f64, bottom: f64, most: f64) {
        let step = match self.seconds {
            long if long > 90.0 => minutes(long, most),
            short => step(short, most),
        };
        let ticks = (self.seconds / step * 1.000_001).floor() as u32;
        for tick in 0..=ticks.min(100) {
            let seconds = f64::from(tick) * step;
            let x = self.x(seconds);
            let label = if tick == 0 { "0".to_owned() } else { tick_label(seconds, step) };
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 15.0
            );
        }
    }
}

/// For long runs: steps of round minutes or hours.
fn minutes(seconds: f64, most: f64) -> f64 {
    let steps = [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0];
    steps.into_iter().find(|step| seconds / step <= most).unwrap_or_else(|| step(seconds, most))
}

fn tick_label(seconds: f64, step: f64) -> String {
    if step >= 15.0 && seconds >= 60.0 {
        let whole = seconds as u64;
        return match whole / 3600 {
            0 => format!("{}:{:02}", whole / 60, whole % 60),
            hours => format!("{hours}:{:02}:{:02}", whole / 60 % 60, whole % 60),
        };
    }
    let (value, unit) = match seconds {
        s if s >= 1.0 || step >= 0.1 => (s, "s"),
        s if step >= 1e-4 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    let text = format!("{value:.3}");
    format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 144.0;

/// A curve of steps: from each moment on the value holds until the next.
pub(crate) struct Curve<'a> {
    pub(crate) title: &'a str,
    pub(crate) note: String,
    pub(crate) whole: Duration,
    /// Seconds and values.
    pub(crate) points: Vec<(f64, f64)>,
    /// The distance of the lines of the value axis.
    pub(crate) step: f64,
    pub(crate) label: fn(f64) -> String,
}

impl Curve<'_> {
    pub(crate) fn figure(&self) -> String {
        let time = Time::new(self.whole, LEFT, WIDTH - LEFT - RIGHT);
        let highest = self.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let top_value = (highest / self.step * 0.999_999).ceil().clamp(1.0, 1e6) * self.step;
        let y = |value: f64| BOTTOM - (value / top_value).clamp(0.0, 1.0) * (BOTTOM - TOP);
        let mut svg = String::new();
        time.axis(&mut svg, TOP, BOTTOM, 5.0);
        let lines = (top_value / self.step).round() as u32;
        for line in 0..=lines.min(12) {
            let value = f64::from(line) * self.step;
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\"/>\
                 <text x=\"{1:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y(value),
                y(value) + 4.0,
                (self.label)(value)
            );
        }
        let path = self.path(&time, y);
        let start = self.points.first().map_or(LEFT, |(at, _)| time.x(*at));
        let title = escape::text(self.title);
        format!(
            "<figure><figcaption>{title} <span>{note}</span></figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {note}\">{svg}\
             <path class=\"area\" d=\"{path}V{BOTTOM}H{start:.1}Z\"/><path class=\"curve\" d=\"{path}\">\
             <title>{title}: {note}, over {}</title></path></svg></figure>",
            span(self.whole),
            note = escape::text(&self.note),
        )
    }

    fn path(&self, time: &Time, y: impl Fn(f64) -> f64) -> String {
        let mut path = String::new();
        for (place, (at, value)) in self.points.iter().enumerate() {
            let _ = match place {
                0 => write!(path, "M{:.1} {:.1}", time.x(*at), y(*value)),
                _ => write!(path, "H{:.1}V{:.1}", time.x(*at), y(*value)),
            };
        }
        if path.is_empty() {
            format!("M{LEFT} {BOTTOM}")
        } else {
            path + &format!("H{:.1}", time.x(self.whole.as_secs_f64()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(step(10.0, 5.0), 2.0);
        assert_eq!(step(11.0, 5.0), 5.0);
        assert!((step(0.3, 6.0) - 0.05).abs() < 1e-12);
        assert!(step(0.0, 5.0) > 0.0);
        assert_eq!(minutes(600.0, 10.0), 60.0);
        assert!(minutes(1e18, 10.0).is_finite());
    }

    #[test]
    fn labels_of_times() {
        assert_eq!(tick_label(0.05, 0.05), "50 ms");
        assert_eq!(tick_label(1.5, 0.5), "1.5 s");
        assert_eq!(tick_label(90.0, 30.0), "1:30");
        assert_eq!(tick_label(7260.0, 60.0), "2:01:00");
    }
}
