//! Points in time: seconds since 1970, as far as an initrd can hold them.
//!
//! Specification of the text: RFC 3339, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01 UTC, up to the year 2106: what an entry of a cpio archive holds, and what rpm has for the time of
/// a build. Its own text, and its form in JSON and TOML, is the number.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Timestamp(u32);

impl Timestamp {
    /// The year 2106.
    pub const MAX: Timestamp = Timestamp(u32::MAX);

    /// Takes seconds since 1970.
    pub const fn from_seconds(seconds: u32) -> Self {
        Timestamp(seconds)
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> u64 {
        u64::from(self.0)
    }

    /// As RFC 3339 in UTC, such as `2026-01-31T23:59:59Z`.
    pub fn to_rfc3339(self) -> String {
        const DAY: u64 = 86_400;
        let (mut year, mut day) = (1970, self.seconds() / DAY);
        while day >= days_of_year(year) {
            day -= days_of_year(year);
            year += 1;
        }
        let february = days_of_year(year) - 337;
        let mut month = 1;
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if day < days {
                break;
            }
            day -= days;
            month += 1;
        }
        let second = self.seconds() % DAY;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z", day + 1, second % 60)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl From<Timestamp> for u64 {
    fn from(time: Timestamp) -> u64 {
        time.seconds()
    }
}

impl TryFrom<u64> for Timestamp {
    type Error = anyhow::Error;

    fn try_from(seconds: u64) -> Result<Self> {
        let beyond = || format!("the time {seconds} is after the year 2106, the last that an initrd can hold");
        u32::try_from(seconds).map(Timestamp).with_context(beyond)
    }
}

impl FromStr for Timestamp {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let seconds: u64 = text.parse().with_context(|| format!("{text:?} is not a number of seconds since 1970"))?;
        seconds.try_into()
    }
}

/// The nearest time that can be held, for the clocks of hosts and file systems.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u32::try_from(since.as_secs()).map_or(Timestamp::MAX, Timestamp)
    }
}

fn days_of_year(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u32::MAX, "2106-02-07T06:28:15Z"),
        ] {
            assert_eq!(Timestamp::from_seconds(seconds).to_rfc3339(), text);
        }
    }

    #[test]
    fn a_time_beyond_what_an_initrd_holds_is_refused_where_it_enters() {
        assert_eq!(serde_json::from_str::<Timestamp>("7").unwrap(), Timestamp::from_seconds(7));
        assert_eq!(serde_json::to_string(&Timestamp::from_seconds(7)).unwrap(), "7");
        for number in ["4294967296", "9223372036854775807", "18446744073709551615", "-1", "1.5"] {
            assert!(serde_json::from_str::<Timestamp>(number).is_err(), "{number}");
            assert!(number.parse::<Timestamp>().is_err(), "{number}");
        }
        let message = "4294967296".parse::<Timestamp>().unwrap_err().to_string();
        assert!(message.contains("4294967296 is after the year 2106"), "{message}");
    }

    #[test]
    fn clocks_of_hosts_are_cut_to_what_can_be_held() {
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)), Timestamp::from_seconds(0));
        assert_eq!(Timestamp::from(UNIX_EPOCH + Duration::from_secs(1 << 40)), Timestamp::MAX);
    }
}
