//! Bit rates as people write them, and the few conversions the tables need.
//!
//! Decides what `10Mbit` means: decimal prefixes, bits per second.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Bytes of a gigabyte, as in "CPU-seconds per GB": decimal.
const GIGABYTE: f64 = 1e9;

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bitrate(pub(crate) u64);

impl Bitrate {
    /// Bytes in `duration`.
    pub(crate) fn bytes_in(self, duration: Duration) -> usize {
        whole(as_f64(self.0) / 8.0 * duration.as_secs_f64())
    }

    /// `factor` times as much.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self(whole(as_f64(self.0) * factor) as u64)
    }
}

impl FromStr for Bitrate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let scale = match unit {
            "bit" | "" => 1.0,
            "kbit" => 1e3,
            "Mbit" => 1e6,
            "Gbit" => 1e9,
            _ => return Err(format!("`{unit}` is none of bit, kbit, Mbit, Gbit")),
        };
        let number: f64 = number.parse().map_err(|_| format!("`{text}` is no bit rate"))?;
        let rate = whole(number * scale) as u64;
        if rate == 0 { Err("a bit rate of 0".to_owned()) } else { Ok(Self(rate)) }
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            rate if rate >= 1_000_000 => write!(f, "{:.4} Mbit/s", as_f64(rate) / 1e6),
            rate => write!(f, "{:.3} kbit/s", as_f64(rate) / 1e3),
        }
    }
}

/// `spent` for each gigabyte of `bytes`; not a number where there are none.
pub(crate) fn per_gigabyte(spent: Duration, bytes: u64) -> f64 {
    spent.as_secs_f64() / (as_f64(bytes) / GIGABYTE)
}

/// `part` ÷ `whole`.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    as_f64(part) / as_f64(whole)
}

/// Bytes as megabytes (decimal).
pub(crate) fn megabytes(bytes: u64) -> f64 {
    as_f64(bytes) / 1e6
}

pub(crate) const fn as_f64(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounds and saturates")]
fn whole(value: f64) -> usize {
    value.round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        assert_eq!("10Mbit".parse(), Ok(Bitrate(10_000_000)));
        assert_eq!("1.5Mbit".parse(), Ok(Bitrate(1_500_000)));
        assert_eq!("500kbit".parse(), Ok(Bitrate(500_000)));
        assert_eq!("2Gbit".parse(), Ok(Bitrate(2_000_000_000)));
        for bad in ["", "0", "10MB", "fast", "1.2.3Mbit"] {
            assert!(bad.parse::<Bitrate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tick_of_ten_megabits_is_625_kilobytes() {
        assert_eq!(Bitrate(10_000_000).bytes_in(Duration::from_millis(500)), 625_000);
    }
}
