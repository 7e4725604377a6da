//! How fast a server has to be: one that sends just enough to seem alive is left for the next.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// The least rate of a body, over a window of time, as curl's `--speed-limit` and `--speed-time` have it.
#[derive(Clone, Copy, Debug)]
pub struct MinimumRate {
    /// In bytes a second.
    pub bytes_per_second: u32,
    /// Over which time.
    pub window: Duration,
}

/// What has come of a body in the current window.
pub(super) struct Pace {
    minimum: MinimumRate,
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(minimum: MinimumRate, now: Instant) -> Self {
        Pace { minimum, since: now, bytes: 0 }
    }

    /// Counts bytes that have come.
    ///
    /// # Errors
    /// Fails when a window has passed in which too few came.
    pub(super) fn received(&mut self, bytes: usize, now: Instant) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < self.minimum.window {
            return Ok(());
        }
        let least = f64::from(self.minimum.bytes_per_second) * elapsed.as_secs_f64();
        ensure!(
            self.bytes as f64 >= least,
            "the server sent {} bytes in {:.1} s, less than {} bytes a second",
            self.bytes,
            elapsed.as_secs_f64(),
            self.minimum.bytes_per_second
        );
        (self.since, self.bytes) = (now, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_has_to_have_its_bytes() {
        let start = Instant::now();
        let minimum = MinimumRate { bytes_per_second: 1000, window: Duration::from_secs(30) };
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(minimum, start);
        // Slow at first, and made up for.
        pace.received(1, at(29)).unwrap();
        pace.received(30_000, at(30)).unwrap();
        // What came before does not count for the next window.
        pace.received(29_000, at(59)).unwrap();
        let message = pace.received(999, at(60)).unwrap_err().to_string();
        assert_eq!(message, "the server sent 29999 bytes in 30.0 s, less than 1000 bytes a second");
    }

    #[test]
    fn a_byte_a_second_ends_after_one_window() {
        let start = Instant::now();
        let minimum = MinimumRate { bytes_per_second: 1000, window: Duration::from_secs(30) };
        let mut pace = Pace::new(minimum, start);
        let first = (1..1000).find(|second| pace.received(1, start + Duration::from_secs(*second)).is_err());
        assert_eq!(first, Some(30));
    }
}
