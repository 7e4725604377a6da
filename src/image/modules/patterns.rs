//! Which modules and firmware a user asks for: lists of patterns with mkosi's rules.
//!
//! A pattern is a glob. Without a slash it matches a module's name; with one, the end of its path; with one in front,
//! the whole path below `kernel/` or below the kernel's directory; with one at the end, all below that directory.
//! `-` in front excludes. The last pattern that matches a module decides; a module that none matches stays out unless
//! another needs it. `.ko` and the suffix of a compression do not count, and `_` equals `-` except between brackets.
//! `default` stands for the list in `default.patterns`.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::globs::{GlobRules, Rule};
use super::kernel_modules::{KernelModules, ModuleFile};
use super::name::{base_name, split_suffix};

const DEFAULT_PATTERNS: &str = include_str!("default.patterns");
/// For so many patterns that match nothing a near name is looked for, each time among all modules.
const NEAREST_MAX: usize = 20;
/// In-tree modules are the common case: an anchored pattern may leave `kernel/` out.
const MODULE_ANCHORS: [&str; 2] = ["/kernel", ""];

/// Patterns that select modules, in order.
#[derive(Clone, Debug)]
pub struct Patterns {
    /// The patterns as written, and whether a user wrote them rather than a group.
    written: Vec<(String, bool)>,
    rules: GlobRules,
}

/// A pattern that matches neither a module nor a driver built into the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnmatchedPattern {
    /// The pattern as written.
    pub pattern: String,
    /// The name of the module that comes nearest, if one is near.
    pub nearest: Option<String>,
}

impl Patterns {
    /// Reads patterns; `default` is replaced by its list at its place.
    ///
    /// # Errors
    /// Fails on an empty pattern, on a class with a reversed range, and on `host`, which is reserved.
    pub fn parse(patterns: &[String]) -> Result<Self> {
        let mut written = Vec::new();
        for pattern in patterns {
            match pattern.as_str() {
                "default" => written.extend(default_patterns().map(|pattern| (pattern.to_owned(), false))),
                "host" => bail!(
                    "the pattern group \"host\" is not yet available in this version; \
                     name the modules, or use \"default\""
                ),
                "-default" | "-host" => bail!("the pattern {pattern:?} excludes a group; leave the group out instead"),
                _ => written.push((pattern.clone(), true)),
            }
        }
        let rules: Vec<Rule> = written.iter().map(|(pattern, _)| module_rule(pattern)).collect();
        Ok(Patterns { written, rules: GlobRules::compile(&rules, &MODULE_ANCHORS)? })
    }

    /// The modules that are selected by their paths, and the user's patterns that match nothing.
    /// What a group lists need not exist: kernels differ.
    pub(super) fn apply<'a>(&self, modules: &'a KernelModules) -> (Vec<&'a ModuleFile>, Vec<UnmatchedPattern>) {
        let mut unused: BTreeSet<usize> = (0..self.written.len()).filter(|number| self.written[*number].1).collect();
        let mut selected = Vec::new();
        for file in modules.files() {
            let matching = self.matching(&file.relative_path);
            matching.iter().for_each(|rule| _ = unused.remove(rule));
            if self.rules.verdict(&matching) == Some(true) {
                selected.push(file);
            }
        }
        for path in modules.builtin().paths() {
            self.matching(path).iter().for_each(|rule| _ = unused.remove(rule));
        }
        // Of hundreds of wrong names the first show what is wrong.
        let named = unused.into_iter().enumerate().map(|(place, number)| {
            let modules = Some(modules).filter(|_| place < NEAREST_MAX);
            unmatched(&self.written[number].0, modules)
        });
        let unmatched = named.collect();
        (selected, unmatched)
    }

    fn matching(&self, relative_path: &str) -> Vec<usize> {
        let stem = split_suffix(relative_path).map_or(relative_path, |(stem, _)| stem);
        self.rules.matching(stem.replace('_', "-").as_bytes())
    }
}

/// The names of the modules that patterns choose by themselves, without what those need.
pub fn chosen(modules: &KernelModules, patterns: &Patterns) -> Vec<String> {
    patterns.apply(modules).0.into_iter().map(|file| file.name.clone()).collect()
}

/// Patterns for firmware beyond what modules name: the same rules over paths below `usr/lib/firmware`, where `_` is not
/// `-` and there are no groups. An excluded file stays out even if a module names it.
#[derive(Clone, Debug)]
pub struct FirmwarePatterns {
    rules: GlobRules,
}

impl FirmwarePatterns {
    /// Reads patterns; none is fine.
    ///
    /// # Errors
    /// Fails on an empty pattern and on a class with a reversed range.
    pub fn parse(patterns: &[String]) -> Result<Self> {
        let rules: Vec<Rule> = patterns.iter().map(|pattern| Rule::parse(pattern)).collect();
        Ok(FirmwarePatterns { rules: GlobRules::compile(&rules, &[""])? })
    }

    /// Whether the file at `path` below `usr/lib/firmware` is wanted or unwanted, whatever modules say.
    pub(super) fn verdict(&self, path: &[u8]) -> Option<bool> {
        let stem = [&b".gz"[..], b".xz", b".zst"].iter().find_map(|suffix| path.strip_suffix(*suffix)).unwrap_or(path);
        self.rules.verdict(&self.rules.matching(stem))
    }
}

fn default_patterns() -> impl Iterator<Item = &'static str> {
    DEFAULT_PATTERNS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn module_rule(pattern: &str) -> Rule {
    let Rule { exclude, glob } = Rule::parse(pattern);
    Rule { exclude, glob: normalize_glob(&glob) }
}

/// `_` as `-`, except between brackets, where `[0-9_]` must stay what it is.
fn normalize_glob(glob: &str) -> String {
    let (mut normalized, mut rest) = (String::new(), glob);
    while let Some((outside, after)) = rest.split_once('[') {
        normalized.push_str(&outside.replace('_', "-"));
        normalized.push('[');
        let inside = after.find(']').map_or(after.len(), |end| end + 1);
        normalized.push_str(&after[..inside]);
        rest = &after[inside..];
    }
    normalized + &rest.replace('_', "-")
}

/// `modules` are those among which a near name is looked for.
fn unmatched(pattern: &str, modules: Option<&KernelModules>) -> UnmatchedPattern {
    let glob = Rule::parse(pattern).glob;
    let wanted = base_name(glob.trim_end_matches('/')).replace('-', "_");
    let limit = wanted.len().div_ceil(4).max(1);
    let files = modules.into_iter().flat_map(KernelModules::files);
    let nearest = files
        .filter(|file| file.name.len().abs_diff(wanted.len()) <= limit)
        .map(|file| (strsim::osa_distance(&wanted, &file.name), file))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .and_then(|(_, file)| split_suffix(&file.relative_path))
        .map(|(stem, _)| base_name(stem).to_owned());
    UnmatchedPattern { pattern: pattern.to_owned(), nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_equal_dashes_outside_brackets() {
        assert_eq!(normalize_glob("virtio_*"), "virtio-*");
        assert_eq!(normalize_glob("a_[0-9_]_b[c_"), "a-[0-9_]-b[c_");
        assert!(!module_rule("_a").exclude, "only the sign that was written excludes");
    }

    #[test]
    fn default_stands_for_its_list() {
        let patterns = Patterns::parse(&["default".to_owned(), "nvme-tcp".to_owned()]).unwrap();
        assert_eq!(patterns.written.len(), 109);
        assert!(patterns.written.iter().all(|(pattern, _)| !pattern.contains(['#', ' '])));
        assert_eq!(patterns.written.last(), Some(&("nvme-tcp".to_owned(), true)));
    }

    #[test]
    fn host_is_refused_until_it_exists() {
        let error = Patterns::parse(&["host".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("not yet available in this version"), "{error}");
        assert!(Patterns::parse(&["-default".to_owned()]).is_err());
    }

    #[test]
    fn firmware_patterns_ignore_the_suffix_and_keep_underscores() {
        let patterns = FirmwarePatterns::parse(&["cxgb4/*".to_owned(), "-a_b.bin".to_owned()]).unwrap();
        assert_eq!(patterns.verdict(b"cxgb4/t4fw.bin.xz"), Some(true));
        assert_eq!(patterns.verdict(b"a_b.bin.zst"), Some(false));
        assert_eq!(patterns.verdict(b"a-b.bin"), None);
        assert_eq!(FirmwarePatterns::parse(&[]).unwrap().verdict(b"a"), None);
    }
}
