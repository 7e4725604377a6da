//! Ordered globs over paths, as mkosi's `KernelModules=` and `FirmwareFiles=` read them: the last match wins.
//!
//! The globs are those of `fnmatch(3)` without flags: `*` and `?` also match slashes, `[!...]` is a negated class, and
//! nothing else is special. globset knows more than that; what it would take for syntax is escaped here.
//! See `KernelModules=` in mkosi(1).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Each is matched with every file.
const RULES_MAX: usize = 10_000;
/// As long as the longest path.
const GLOB_MAX_BYTES: usize = 4096;

/// One pattern: whether it excludes, and its glob.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub exclude: bool,
    pub glob: String,
}

impl Rule {
    /// Reads a pattern; `-` in front excludes.
    pub(super) fn parse(pattern: &str) -> Self {
        match pattern.strip_prefix('-') {
            Some(glob) => Rule { exclude: true, glob: glob.to_owned() },
            None => Rule { exclude: false, glob: pattern.to_owned() },
        }
    }
}

/// A list of globs in order, compiled.
#[derive(Clone, Debug)]
pub(super) struct GlobRules {
    excludes: Vec<bool>,
    /// Globs over the whole path, which begins with a slash, and the rule of each.
    paths: GlobSet,
    path_rules: Vec<usize>,
    /// Globs over the part after the last slash, and the rule of each.
    names: GlobSet,
    name_rules: Vec<usize>,
}

impl GlobRules {
    /// Compiles `rules`. A leading slash anchors a glob at each of `anchors` (such as `/kernel`, or nothing).
    pub(super) fn compile(rules: &[Rule], anchors: &[&str]) -> Result<Self> {
        if rules.len() > RULES_MAX {
            bail!("{} patterns are given, and at most {RULES_MAX} are read", rules.len());
        }
        let (mut paths, mut path_rules) = (GlobSetBuilder::new(), Vec::new());
        let (mut names, mut name_rules) = (GlobSetBuilder::new(), Vec::new());
        for (number, Rule { glob, .. }) in rules.iter().enumerate() {
            if glob.is_empty() {
                bail!("a pattern is empty; write a name, or leave it out");
            }
            if glob.len() > GLOB_MAX_BYTES {
                let start: String = glob.chars().take(20).collect();
                bail!("the pattern {start:?}... has {} bytes, and Linux takes {GLOB_MAX_BYTES} of a path", glob.len());
            }
            let below = if glob.ends_with('/') { "*" } else { "" };
            if !glob.contains('/') {
                names.add(fnmatch(glob).with_context(|| format!("reading the pattern {glob:?}"))?);
                name_rules.push(number);
                continue;
            }
            let prefixes = if glob.starts_with('/') { anchors } else { &["*/"] };
            for prefix in prefixes {
                let whole = format!("{prefix}{glob}{below}");
                paths.add(fnmatch(&whole).with_context(|| format!("reading the pattern {glob:?}"))?);
                path_rules.push(number);
            }
        }
        let excludes = rules.iter().map(|rule| rule.exclude).collect();
        Ok(GlobRules { excludes, paths: paths.build()?, path_rules, names: names.build()?, name_rules })
    }

    /// The numbers of all rules that match `path` (relative, without a leading slash), in ascending order.
    pub(super) fn matching(&self, path: &[u8]) -> Vec<usize> {
        let whole = [b"/", path].concat();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let by_path = self.paths.matches(OsStr::from_bytes(&whole)).into_iter().map(|glob| self.path_rules[glob]);
        let by_name = self.names.matches(OsStr::from_bytes(name)).into_iter().map(|glob| self.name_rules[glob]);
        let mut rules: Vec<usize> = by_path.chain(by_name).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// What the last of the rules `matching` says: include or exclude. Nothing if there is none.
    pub(super) fn verdict(&self, matching: &[usize]) -> Option<bool> {
        matching.last().map(|rule| !self.excludes[*rule])
    }
}

/// A glob of `fnmatch(3)` as globset's.
pub(super) fn fnmatch(glob: &str) -> Result<Glob> {
    build(glob, false)
}

/// A glob of one path component: `*` and `?` stop at slashes.
pub(super) fn component(glob: &str) -> Result<Glob> {
    build(glob, true)
}

fn build(glob: &str, literal_separator: bool) -> Result<Glob> {
    Ok(GlobBuilder::new(&escaped(glob)).literal_separator(literal_separator).backslash_escape(true).build()?)
}

/// Escapes what globset would read as syntax and `fnmatch(3)` does not.
fn escaped(glob: &str) -> String {
    let mut text = String::with_capacity(glob.len() + 2);
    let mut rest = glob;
    let mut after_star = false;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = after;
        match character {
            // Two in a row mean the same as one; globset gives them another meaning.
            '*' if after_star => {}
            '[' => match class_length(after) {
                Some(length) => {
                    text.push_str(&class(&after[..length]));
                    rest = &after[length + 1..];
                }
                None => text.push_str("\\["),
            },
            '{' | '}' | '\\' | ']' => text.extend(['\\', character]),
            _ => text.push(character),
        }
        after_star = character == '*';
    }
    text
}

/// How long the inside of a bracket expression is; nothing if no bracket closes it.
fn class_length(inside: &str) -> Option<usize> {
    let negation = usize::from(inside.starts_with('!'));
    let first = negation + usize::from(inside[negation..].starts_with(']'));
    inside[first..].find(']').map(|length| first + length)
}

/// A bracket expression; a caret in front, which is no negation to `fnmatch(3)`, moves to the end.
fn class(inside: &str) -> String {
    match inside.strip_prefix('^') {
        Some("") => "\\^".to_owned(),
        Some(rest) => format!("[{rest}^]"),
        None => format!("[{inside}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, text: &str) -> bool {
        fnmatch(glob).unwrap().compile_matcher().is_match(text)
    }

    #[test]
    fn globs_mean_what_fnmatch_says() {
        for (glob, text) in [
            ("raid[0-9]*", "raid456"),
            ("a*c", "a/b/c"),
            ("a**c", "abc"),
            ("a?c", "a/c"),
            ("[!a]b", "cb"),
            ("[]]", "]"),
            ("[^a]", "^"),
            ("[^]", "^"),
            ("{a,b}", "{a,b}"),
            ("a\\**", "a\\b"),
            ("[ab", "[ab"),
            ("a]", "a]"),
        ] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("raid[0-9]*", "raid_class"), ("{a,b}", "a"), ("[!a]b", "ab"), ("[^a]", "b"), ("a", "A")] {
            assert!(!matches(glob, text), "{glob} {text}");
        }
    }

    #[test]
    fn stars_of_a_component_stop_at_slashes() {
        assert!(!component("a*").unwrap().compile_matcher().is_match("a/b"));
    }

    fn verdict(rules: &[&str], path: &str) -> Option<bool> {
        let rules: Vec<Rule> = rules.iter().map(|rule| Rule::parse(rule)).collect();
        let rules = GlobRules::compile(&rules, &["/kernel", ""]).unwrap();
        rules.verdict(&rules.matching(path.as_bytes()))
    }

    #[test]
    fn last_matching_rule_decides() {
        assert_eq!(verdict(&["ext4", "-ext4"], "kernel/fs/ext4/ext4"), Some(false));
        assert_eq!(verdict(&["-ext4", "ext4"], "kernel/fs/ext4/ext4"), Some(true));
        assert_eq!(verdict(&["fs/", "-fs/ext4/", "ext4"], "kernel/fs/ext4/mballoc-test"), Some(false));
        assert_eq!(verdict(&["xfs"], "kernel/fs/ext4/ext4"), None);
    }

    #[test]
    fn slashes_say_what_part_of_the_path_is_meant() {
        let path = "kernel/drivers/crypto/ccp/ccp";
        for rule in ["ccp", "crypto/ccp/ccp", "crypto/", "/drivers/crypto/", "/kernel/drivers/crypto/", "/drivers/*"] {
            assert_eq!(verdict(&[rule], path), Some(true), "{rule}");
        }
        for rule in ["crypto", "rypto/", "/crypto/", "crypto/ccp", "/ccp", "drivers/ccp"] {
            assert_eq!(verdict(&[rule], path), None, "{rule}");
        }
    }

    #[test]
    fn bare_globs_do_not_cross_directories() {
        assert_eq!(verdict(&["virtio*"], "kernel/drivers/virtio/other"), None);
    }

    #[test]
    fn number_and_length_of_patterns_have_a_limit() {
        let message = |patterns: Vec<String>| {
            let rules: Vec<Rule> = patterns.iter().map(|pattern| Rule::parse(pattern)).collect();
            GlobRules::compile(&rules, &[""]).map(drop).map_err(|error| error.to_string())
        };
        let number = |count: usize| (0..count).map(|number| format!("module{number}")).collect();
        assert_eq!(message(number(10_000)), Ok(()));
        assert_eq!(message(number(10_001)).unwrap_err(), "10001 patterns are given, and at most 10000 are read");
        let error = message(vec!["a".repeat(5000)]).unwrap_err();
        assert!(error.ends_with("\"... has 5000 bytes, and Linux takes 4096 of a path"), "{error}");
    }

    /// A matcher that tries every way would take 2^2000 steps.
    #[test]
    fn stars_cost_no_more_than_the_lengths_multiplied() {
        let glob = "*a".repeat(2000) + "*b";
        assert!(!matches(&glob, &"a".repeat(4000)));
        assert!(matches(&glob, &("a".repeat(4000) + "b")));
    }

    #[test]
    fn empty_and_unreadable_patterns_are_refused() {
        for rule in ["", "-", "[z-a]"] {
            assert!(GlobRules::compile(&[Rule::parse(rule)], &[""]).is_err(), "{rule}");
        }
    }
}
