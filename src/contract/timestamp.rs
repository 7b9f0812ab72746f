//! A moment on the wire and in the ledger.
//!
//! Owns: the one representation of time (microseconds since the Unix epoch, UTC) and its RFC 3339
//! form.
//! Never: reads a clock; `now` is always handed in.
//! Holds: every value lies in the years 0000 to 9999 UTC, which RFC 3339 can write; `parse` ∘
//! `to_string` is the identity for each of them. What is computed beyond them stops at their end.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0000-01-01T00:00:00Z: RFC 3339 has no earlier year.
    pub const MIN: Self = Self(-62_167_219_200_000_000);
    /// The last microsecond of 9999-12-31 UTC: RFC 3339 has no later year.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// From microseconds since the Unix epoch; what RFC 3339 cannot write becomes the nearest
    /// moment that it can.
    pub const fn from_micros(micros: i64) -> Self {
        if micros < Self::MIN.0 {
            Self::MIN
        } else if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 date-time with an offset; `None` for anything else, and for what lies
    /// outside the years 0000 to 9999 in UTC: an offset can take a year that is written well beyond
    /// them.
    pub fn parse(text: &str) -> Option<Self> {
        let micros = DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros();
        (Self::MIN.0..=Self::MAX.0).contains(&micros).then_some(Self(micros))
    }

    /// Reads a moment of the ledger. Releases before format 2 wrote years outside 0000 to 9999 with
    /// a sign, and could not read them again; such a moment is the nearest one that can be written.
    fn parse_written(text: &str) -> Option<Self> {
        let bound = match text.as_bytes().first()? {
            b'-' => Self::MIN,
            b'+' => Self::MAX,
            _ => return Self::parse(text),
        };
        let (year, rest) = text.get(1..)?.split_once('-')?;
        let is_year = (4..=6).contains(&year.len()) && year.bytes().all(|digit| digit.is_ascii_digit());
        // Any leap year will do to see that the rest is a date.
        DateTime::parse_from_rfc3339(&format!("2000-{rest}")).ok().filter(|_| is_year)?;
        Some(bound)
    }

    /// This moment plus `ms` milliseconds, at most [`Timestamp::MAX`].
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        let micros = if ms > (i64::MAX / 1000) as u64 { i64::MAX } else { ms as i64 * 1000 };
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// Milliseconds from `earlier` to this moment; negative when `earlier` is the later one.
    pub const fn ms_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / 1000
    }

    /// The whole second this moment falls in, since the epoch.
    pub const fn second(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = DateTime::from_timestamp_micros(self.0).unwrap_or_default();
        out.write_str(&moment.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_written(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not an RFC 3339 date-time")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_are_one() {
        for text in ["2025-01-01T00:00:00Z", "2026-03-04T10:15:00.250Z", "1969-12-31T23:59:59.999999Z"] {
            assert_eq!(Timestamp::parse(text).map(|moment| moment.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Timestamp::parse("2025-01-01T02:00:00+02:00"), Timestamp::parse("2025-01-01T00:00:00Z"));
        assert_eq!(Timestamp::parse("2025-01-01T00:00:00"), None);
    }

    #[test]
    fn what_cannot_be_written_is_not_read_and_not_made() {
        for (text, micros) in [
            ("0000-01-01T00:00:00Z", Some(Timestamp::MIN)),
            ("9999-12-31T23:59:59.999999Z", Some(Timestamp::MAX)),
            ("9999-12-31T23:59:60Z", None),
            ("0000-01-01T00:00:00+00:01", None),
            ("0000-01-01T00:00:00+23:59", None),
            ("9999-12-31T23:59:59-00:01", None),
        ] {
            assert_eq!(Timestamp::parse(text), micros, "{text}");
        }
        for micros in [i64::MIN, i64::MAX, Timestamp::MIN.0 - 1, Timestamp::MAX.0 + 1] {
            let made = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::parse(&made.to_string()), Some(made), "{micros}");
        }
        assert_eq!(Timestamp::MAX.plus_ms(1), Timestamp::MAX);
        assert_eq!(Timestamp::from_micros(0).plus_ms(u64::MAX), Timestamp::MAX);
    }

    #[test]
    fn what_an_older_release_wrote_is_read_as_the_nearest_moment() {
        let read = |text: &str| serde_json::from_value::<Timestamp>(text.into()).ok();
        assert_eq!(read("-0001-12-31T00:01:00Z"), Some(Timestamp::MIN));
        assert_eq!(read("-0004-02-29T00:01:00Z"), Some(Timestamp::MIN));
        assert_eq!(read("+10000-01-01T00:00:00.000001Z"), Some(Timestamp::MAX));
        assert_eq!(read("+262142-12-31T23:59:59Z"), Some(Timestamp::MAX));
        for wrong in [
            "-1-01-01T00:00:00Z",
            "+x-01-01T00:00:00Z",
            "-0001-13-01T00:00:00Z",
            "-0001",
            "-",
            "",
            "+1000000-01-01T00:00:00Z",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
