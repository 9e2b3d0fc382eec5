//! Quantities as they are written on the command line: numbers, sizes, modes, times.
//!
//! # Invariants
//! - Strict: no sign, no spaces, no fraction, no empty part; what does not fit is refused, never cut.
//! - Every unit of a size is binary: `K` and `KiB` are both 1024 bytes.

use core::fmt;
use core::time::Duration;

/// Names of the units of a size, each with the power of two that it stands for.
const UNITS: [(&str, u32); 9] =
    [("", 0), ("K", 10), ("M", 20), ("G", 30), ("T", 40), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// Parses a number: decimal digits, or `0x` and hexadecimal ones.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    // `from_str_radix` alone would take a leading `+`.
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parsed = if plain { u64::from_str_radix(digits, radix).ok() } else { None };
    parsed.ok_or_else(|| "expected decimal digits, or 0x and hexadecimal ones, within 64 bits".to_owned())
}

/// Parses a tag: a number that is not 0.
pub(crate) fn tag(text: &str) -> Result<u64, String> {
    match number(text)? {
        0 => Err("expected a tag of at least 1: 0 marks free space".to_owned()),
        tag => Ok(tag),
    }
}

/// Parses a seed: a number within 32 bits.
pub(crate) fn seed(text: &str) -> Result<u32, String> {
    u32::try_from(number(text)?).map_err(|_| "expected a seed within 32 bits".to_owned())
}

/// Parses a byte: a number from 0 to 255.
pub(crate) fn byte(text: &str) -> Result<u8, String> {
    u8::try_from(number(text)?).map_err(|_| "expected a byte, 0 to 255 or 0x00 to 0xff".to_owned())
}

/// Parses an alignment: a number that is a power of two.
pub(crate) fn align(text: &str) -> Result<u64, String> {
    let align = number(text)?;
    if align.is_power_of_two() { Ok(align) } else { Err("expected a power of two".to_owned()) }
}

/// Parses a count of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match number(text)? {
        count @ 1..=1024 => Ok(count as usize),
        _ => Err("expected 1 to 1024 threads".to_owned()),
    }
}

/// Parses the time between two looks: at least a millisecond.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let interval = time(text)?;
    if interval.is_zero() { Err("expected at least 1ms".to_owned()) } else { Ok(interval) }
}

/// Parses a percentage: digits, perhaps with a fraction.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let parsed = text.parse().ok().filter(|percent: &f64| plain && percent.is_finite());
    parsed.ok_or_else(|| "expected a percentage such as 5 or 2.5".to_owned())
}

/// Parses permission bits: octal digits, at most 0777.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let parsed = if plain { u32::from_str_radix(text, 8).ok() } else { None };
    parsed.filter(|mode| *mode <= 0o777).ok_or_else(|| "expected octal digits, at most 0777".to_owned())
}

/// Parses a size in bytes, at least 1: digits and one of the [`UNITS`].
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a size such as 4096, 64K, 16MiB, 2GiB or 1TiB, all binary";
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, shift)| *shift);
    let (Some(shift), false) = (shift, digits.is_empty()) else { return Err(EXPECTED.to_owned()) };
    let size = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(1 << shift));
    match size {
        None => Err("expected a size within 64 bits".to_owned()),
        Some(0) => Err("expected a size of at least 1 byte".to_owned()),
        Some(size) => Ok(size),
    }
}

/// Parses a time: digits and `ms`, `s` or `min`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let scale_ms = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "min" => Some(60_000),
        _ => None,
    };
    let count = digits.parse::<u32>().ok();
    let time = count.zip(scale_ms).map(|(count, scale)| Duration::from_millis(u64::from(count) * scale));
    time.ok_or_else(|| "expected a time such as 500ms, 10s or 2min".to_owned())
}

/// A number of bytes, and the same for people where that says more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            few @ ..1024 => write!(f, "{few} bytes"),
            many => write!(f, "{many} bytes ({})", Human(many)),
        }
    }
}

/// A size for people: exact where a unit divides it, else with one digit after the point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Human(pub(crate) u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = UNITS.iter().rev().find(|(_, shift)| 1 << shift <= self.0);
        let text = match largest {
            None | Some(("", _)) => format!("{} B", self.0),
            Some((unit, shift)) if self.0.is_multiple_of(1 << shift) => format!("{} {unit}", self.0 >> shift),
            Some((unit, shift)) => {
                let tenths = (u128::from(self.0) * 10) >> shift;
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            }
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_strict_and_binary() {
        for (text, size) in [
            ("1", 1),
            ("4096", 4096),
            ("007", 7),
            ("1K", 1024),
            ("64KiB", 65536),
            ("16MiB", 16 << 20),
            ("3M", 3 << 20),
            ("2G", 2 << 30),
            ("2GiB", 2 << 30),
            ("1T", 1 << 40),
            ("1TiB", 1 << 40),
            ("18446744073709551615", u64::MAX),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "0",
            "0K",
            "K",
            "MiB",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1 K",
            "1.5M",
            "1k",
            "1kB",
            "1KB",
            "1mib",
            "1B",
            "1Ki",
            "1KiBx",
            "0x10",
            "1e3",
            "1_000",
            "٣",
            "18446744073709551616",
            "16777216TiB",
            "99999999999999999999K",
        ] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_strict() {
        assert_eq!((number("0"), number("0x1F"), number("255")), (Ok(0), Ok(31), Ok(255)));
        for text in ["", "+1", "-1", " 1", "1 ", "0x", "0X1", "1f", "0x+1", "0b1", "18446744073709551616"] {
            assert!(number(text).is_err(), "{text:?}");
        }
        assert_eq!((byte("0xff"), byte("255"), byte("0")), (Ok(255), Ok(255), Ok(0)));
        assert!(byte("256").is_err() && byte("0x100").is_err());
        assert_eq!((tag("1"), tag("0").is_err()), (Ok(1), true));
        assert_eq!((align("64"), align("0").is_err(), align("48").is_err()), (Ok(64), true, true));
        assert_eq!((seed("4294967295"), seed("4294967296").is_err()), (Ok(u32::MAX), true));
        assert_eq!((threads("8"), threads("0").is_err(), threads("1025").is_err()), (Ok(8), true, true));
        assert_eq!((mode("0640"), mode("777")), (Ok(0o640), Ok(0o777)));
        assert!(["", "8", "1000", "0o600", "+600"].into_iter().all(|text| mode(text).is_err()));
        assert_eq!(
            (time("500ms"), time("2min")),
            (Ok(Duration::from_millis(500)), Ok(Duration::from_secs(120)))
        );
        assert!(
            ["", "5", "s", "1.5s", "-1s", "1 s", "4294967296ms"].into_iter().all(|text| time(text).is_err())
        );
    }

    #[test]
    fn people_read_sizes() {
        let text = |size| Human(size).to_string();
        assert_eq!((text(0), text(1023), text(1024)), ("0 B".into(), "1023 B".into(), "1 KiB".into()));
        assert_eq!((text(1536), text(16 << 20)), ("1.5 KiB".into(), "16 MiB".into()));
        assert_eq!(text(u64::MAX), "16777215.9 TiB");
        assert_eq!(format!("{:>8}", Human(1)), "     1 B");
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!((text(1), text(1023)), ("1 byte".into(), "1023 bytes".into()));
        assert_eq!(text(1536), "1536 bytes (1.5 KiB)");
    }
}
