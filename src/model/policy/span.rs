//! Times as the configuration writes them: a span, and a threshold that is a span or a share of a life.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time, written `"30d"`, `"1h 30m"`, `"90s"` in configuration and output.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span(pub Duration);

impl Span {
    pub const fn days(n: u64) -> Self {
        Self(Duration::from_secs(n * 86_400))
    }
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
    /// Whole seconds, for arithmetic with timestamps.
    pub fn seconds(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }
}

impl std::fmt::Display for Span {
    /// One unit where one will do (`30d`), because `humantime` would say `1month 2days`, which nobody configures.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = self.0.as_secs();
        let text = match s {
            0 => "0s".to_owned(),
            s if s % 86_400 == 0 => format!("{}d", s / 86_400),
            s if s % 3_600 == 0 => format!("{}h", s / 3_600),
            s if s % 60 == 0 => format!("{}m", s / 60),
            s => format!("{s}s"),
        };
        f.pad(&text)
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        // A century: beyond it arithmetic on dates would have to be checked everywhere.
        const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
        let d = humantime::parse_duration(s)
            .map_err(|e| format!("`{s}` is not a length of time like `30d` or `1h 30m`: {e}"))?;
        if d > LONGEST { Err(format!("`{s}` is longer than a century")) } else { Ok(Self(d)) }
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Text {
            expected: "a length of time in quotes, like \"30d\" or \"1h 30m\"",
            parse: str::parse,
        })
    }
}

/// Reads a value that is written as text, and says what it should look like when it is something else.
pub(super) struct Text<T> {
    pub(super) expected: &'static str,
    pub(super) parse: fn(&str) -> Result<T, String>,
}

impl<T> serde::de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<T, E> {
        (self.parse)(s).map_err(E::custom)
    }
}

/// Time left, absolute (`"9d"`) or as a share of the certificate's whole life (`"10%"`).
/// Only for the kubelet's own certificates: a kubeadm leaf's notBefore can be its CA's, so a share of its life means nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Threshold {
    Time(Span),
    Percent(u8),
}

impl Threshold {
    /// The threshold in seconds for a certificate that lives `life` seconds in all.
    pub fn seconds(self, life: i64) -> i64 {
        match self {
            Self::Time(t) => t.seconds(),
            Self::Percent(p) => life / 100 * i64::from(p),
        }
    }
}

impl std::str::FromStr for Threshold {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.strip_suffix('%') {
            Some(n) => match n.trim().parse() {
                Ok(p @ 1..=99) => Ok(Self::Percent(p)),
                _ => Err(format!("`{s}` is not between `1%` and `99%`")),
            },
            None => s.parse().map(Self::Time),
        }
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(t) => t.fmt(f),
            Self::Percent(p) => write!(f, "{p}%"),
        }
    }
}

impl Serialize for Threshold {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Text {
            expected: "a length of time or a share in quotes, like \"9d\" or \"10%\"",
            parse: str::parse,
        })
    }
}
