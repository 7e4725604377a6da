//! Which of the libraries that programs load at run time, if they are there, are wanted.
//!
//! A feature is what an ELF note of a program calls the use of such libraries
//! (<https://systemd.io/ELF_DLOPEN_METADATA/>); for a program without notes it is the library's own name. Patterns with `-`
//! in front exclude; the last that matches decides, and what none matches is wanted.

use anyhow::{Context, Result};
use globset::{Glob, GlobMatcher};

/// Patterns of features.
#[derive(Debug)]
pub struct Features {
    rules: Vec<(GlobMatcher, bool)>,
}

impl Features {
    /// Reads patterns; none is fine.
    ///
    /// # Errors
    /// Fails on a malformed pattern and names it.
    pub fn parse(patterns: &[String]) -> Result<Self> {
        let rule = |written: &String| -> Result<(GlobMatcher, bool)> {
            let (pattern, wanted) = written.strip_prefix('-').map_or((written.as_str(), true), |rest| (rest, false));
            let glob = Glob::new(pattern).with_context(|| format!("reading the pattern {written:?}"))?;
            Ok((glob.compile_matcher(), wanted))
        };
        Ok(Features { rules: patterns.iter().map(rule).collect::<Result<_>>()? })
    }

    /// Whether the feature is wanted.
    pub fn wants(&self, feature: &str) -> bool {
        let last = self.rules.iter().rev().find(|(glob, _)| glob.is_match(feature));
        last.is_none_or(|(_, wanted)| *wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let patterns = ["-p11-kit", "-lib*.so.0", "libidn2.so.0"].map(str::to_owned);
        let features = Features::parse(&patterns).unwrap();
        let wanted = ["tpm", "p11-kit", "libidn2.so.0", "libx.so.0"].map(|feature| features.wants(feature));
        assert_eq!(wanted, [true, false, true, false]);
    }

    #[test]
    fn a_malformed_pattern_is_named() {
        let error = Features::parse(&["-a[".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "reading the pattern \"-a[\"");
    }
}
