//! `ocinitrd doctor`: what this host and user lack for building and booting, and what cures it.

mod builder;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::environment::{self, EngineOption};
use super::print;
use crate::container::engine::in_place::InPlace;
use crate::container::engine::{Cancellation, Engine, NoEngine};
use crate::doctor::{EngineFacts, Finding, State, examine, examine_in_place};
use ocinitrd_format::text::{one_line, printable};
use ocinitrd_support::own_directory;
use ocinitrd_support::progress::Progress;

/// Say what this host lacks for building and booting, and how to cure it.
///
/// Tells which container engine is used and why, and judges sub-ids, cgroups, limits, QEMU, its UEFI firmware, KVM and disk space.
///
/// Exits with 0 if a build can work here and with 1 if not. Changes nothing.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    engine: EngineOption,

    /// Also examine the builder image of IMAGE: whether it is here or a registry has it, and whether its tag names a newer
    /// one
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// Print JSON: {"usable": BOOL, "findings": [{"subject", "state": "ok|warning|problem", "detail", "cure"}]}.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    /// Whether a build can work.
    usable: bool,
    findings: Vec<Finding>,
}

/// Examines this machine and prints the findings.
///
/// # Errors
/// Fails when `--engine` or a variable names no endpoint, or a fact cannot be read.
pub async fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let cancellation = Cancellation::on_signals()?;
    let surroundings = arguments.engine.surroundings()?;
    let host = environment::host()?;
    let mut engine = None;
    let mut findings = match surroundings.in_place {
        true => examine_in_place(&host, InPlace::open(&host.cache, &cancellation).as_ref())?,
        false => match Engine::find(&surroundings, &cancellation).await {
            Ok(found) => examine(&host, Ok(&EngineFacts::from(&*engine.insert(found))))?,
            Err(error) => examine(&host, Err(&error.downcast::<NoEngine>()?))?,
        },
    };
    let refused = refused_cache(&host.cache);
    if let Some(image) = arguments.image.as_ref().filter(|_| refused.is_none()) {
        findings.push(builder::examine(image, surroundings, engine.as_ref(), progress).await?);
    }
    findings.extend(refused);
    let report = Report { usable: findings.iter().all(|finding| finding.state != State::Problem), findings };
    print::print(|output| match arguments.json {
        true => print::write_json(output, &report),
        false => output.write_all(text(&report).as_bytes()),
    })?;
    Ok(if report.usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A cache that would be refused. One that is not there yet is made.
fn refused_cache(cache: &Path) -> Option<Finding> {
    let there = cache.ancestors().find(|directory| directory.exists())?;
    let checked = if there == cache { own_directory::check_own(cache) } else { own_directory::check_shared(there) };
    let error = checked.err().filter(own_directory::is_refusal)?;
    let cure = "set XDG_CACHE_HOME to a directory of this user's own; with sudo, use sudo -H".to_owned();
    let detail = format!("the cache {} is refused: {error}", cache.display());
    Some(Finding { subject: "cache", state: State::Problem, detail, cure: Some(cure) })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let indent = " ".repeat(19);
    for Finding { subject, state, detail, cure } in &report.findings {
        let detail = printable(detail).replace('\n', &format!("\n{indent}"));
        writeln!(text, "{state:<8} {subject:<9} {detail}").expect("writing to a String does not fail");
        if let Some(cure) = cure {
            writeln!(text, "{indent}cure: {}", one_line(cure)).expect("writing to a String does not fail");
        }
    }
    let problems = report.findings.iter().filter(|finding| finding.state == State::Problem).count();
    let verdict = match problems {
        0 => "A build can work here.".to_owned(),
        1 => "A build cannot work here: 1 problem.".to_owned(),
        _ => format!("A build cannot work here: {problems} problems."),
    };
    text + &verdict + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_stand_out_with_their_cure_and_decide() {
        let finding = |subject, state, detail: &str, cure: Option<&str>| Finding {
            subject,
            state,
            detail: detail.to_owned(),
            cure: cure.map(str::to_owned),
        };
        let findings = vec![
            finding("engine", State::Problem, "none answers:\n  a: gone", Some("start it")),
            finding("KVM", State::Ok, "fine", None),
        ];
        let expected = "\
problem  engine    none answers:
                     a: gone
                   cure: start it
ok       KVM       fine
A build cannot work here: 1 problem.
";
        assert_eq!(text(&Report { usable: false, findings }), expected);
    }
}
