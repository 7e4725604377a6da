//! The files of two output directories that are not as their manifests record them: what two manifests that agree hide.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use super::Comparison;
use super::difference::{Difference, Subject};
use super::recorded::Recorded;
use super::verification::{Finding, Problem, verify};
use crate::image::manifest::OutputPath;

/// Adds what the files of given directories are that both manifests list, where that is not what is recorded. Of the
/// initrds more is told elsewhere.
pub(super) fn compare(a: &Recorded, b: &Recorded, comparison: &mut Comparison) -> Result<()> {
    let (mut problems_a, mut problems_b) = (problems(a, comparison)?, problems(b, comparison)?);
    let in_b: BTreeSet<&OutputPath> = b.manifest.outputs.iter().map(|output| &output.path).collect();
    let initrds: BTreeSet<&OutputPath> = a.initrds().map(|(initrd, _)| initrd).collect();
    for output in &a.manifest.outputs {
        if !in_b.contains(&output.path) || initrds.contains(&output.path) {
            continue;
        }
        let take = |problems: &mut Problems| problems.remove(output.path.as_str()).unwrap_or_default();
        let (of_a, of_b) = (take(&mut problems_a), take(&mut problems_b));
        if of_a == of_b {
            continue;
        }
        let subject = || Subject::Output { path: output.path.as_str().to_owned() };
        let of_a = of_a.iter().filter_map(values);
        let of_b = of_b.iter().filter_map(values).map(|(field, found, recorded)| (field, recorded, found));
        let found = of_a.chain(of_b).map(|(field, a, b)| Difference::new(subject(), field, a, b));
        comparison.differences.extend(found);
    }
    comparison.count = comparison.differences.len();
    Ok(())
}

/// What is wrong with the outputs of a directory, by path.
type Problems = BTreeMap<String, Vec<Problem>>;

/// What is not as recorded in a directory; what cannot be checked is not compared.
fn problems(side: &Recorded, comparison: &mut Comparison) -> Result<Problems> {
    let mut problems = Problems::new();
    let findings = if side.is_directory() { verify(side)?.findings } else { Vec::new() };
    for Finding { output, problem, .. } in findings {
        match problem {
            Problem::NotChecked { reason } => comparison.not_compared.push(format!("{output}: {reason}")),
            problem => problems.entry(output).or_default().push(problem),
        }
    }
    Ok(problems)
}

/// A problem as a field with what was found and what is recorded.
fn values(problem: &Problem) -> Option<(&'static str, Value, Value)> {
    match problem {
        Problem::Size { recorded, found } => Some(("size_bytes", (*found).into(), (*recorded).into())),
        Problem::Sha256 { recorded, found } => Some(("sha256", found.to_string().into(), recorded.to_string().into())),
        Problem::Missing => Some(("file", "missing".into(), "as recorded".into())),
        Problem::Segments | Problem::NotChecked { .. } => None,
    }
}
