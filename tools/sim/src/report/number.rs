//! Numbers as people read them.

use std::fmt::Write;

/// What a number counts, and so how it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// A bare number: as many decimals as three digits need.
    Plain,
    /// Seconds.
    Seconds,
    /// A share from 0 to 1, in percent.
    Share,
    /// Bytes, in mebibytes.
    Bytes,
}

impl Unit {
    /// The number with its unit.
    pub(super) fn write(self, value: f64) -> String {
        format!("{}{}", self.number(value), self.name())
    }

    /// The number alone.
    pub(super) fn number(self, value: f64) -> String {
        match self {
            Self::Plain | Self::Seconds => plain(value),
            Self::Share => share(value),
            Self::Bytes => plain(value / 1_048_576.0),
        }
    }

    /// What follows it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Seconds => " s",
            Self::Share => " %",
            Self::Bytes => " MiB",
        }
    }
}

/// Three digits at least, thousands apart.
pub(super) fn plain(value: f64) -> String {
    let size = value.abs();
    let is_whole = (value - value.round()).abs() < 1e-9;
    let decimals = match () {
        () if is_whole || size >= 100.0 => 0,
        () if size >= 10.0 => 1,
        () if size >= 1.0 => 2,
        () if size >= 0.1 => 3,
        () => 4,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut written = apart(whole);
    if !rest.is_empty() {
        write!(written, ".{rest}").expect("a text can be written to");
    }
    written
}

/// `1234567` as `1,234,567`.
fn apart(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut written = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// Percent, never rounded to a perfection that was not reached.
fn share(value: f64) -> String {
    let percent = value * 100.0;
    if value < 1.0 && percent >= 99.9995 {
        return "> 99.999".to_owned();
    }
    if value > 0.0 && percent < 0.0005 {
        return "< 0.001".to_owned();
    }
    let text = format!("{percent:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count as a number to draw with.
pub(super) fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Seconds since 1970 as a date and time.
pub(super) fn date(seconds: u64) -> String {
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that a leap day is the last day of one.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", clock / 3_600, clock / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_thousands_apart() {
        assert_eq!(plain(40_000.0), "40,000");
        assert_eq!(plain(2_970.6), "2,971");
        assert_eq!(plain(57.21), "57.2");
        assert_eq!(plain(1.0), "1");
        assert_eq!(plain(-0.289), "-0.289");
    }

    #[test]
    fn a_share_short_of_all_is_not_all() {
        assert_eq!(share(1.0), "100");
        assert_eq!(share(0.999_999_9), "> 99.999");
        assert_eq!(share(0.9995), "99.95");
        assert_eq!(share(0.0), "0");
        assert_eq!(share(1e-9), "< 0.001");
        assert_eq!(Unit::Share.write(0.5), "50 %");
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_798_761_599), "2026-12-31 23:59 UTC");
    }
}
