//! Whether this host and user can build and boot, and what cures it where not.
//!
//! In: a [`Host`] and the engine that was found, or why none was. Out: [`Finding`]s in a fixed order. `ocinitrd doctor`
//! shows them all; [`preflight`] lets a build fail with the same words before it starts.

mod checks;
mod host;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

pub use self::host::{Cgroups, Host, IdRange, Limit};
use super::container::engine::in_place::InPlace;
use crate::container::engine::{Engine, Identity, NoEngine};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// A build works; it is slower, or something beside it does not work.
    Warning,
    /// A build cannot work.
    Problem,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        })
    }
}

/// One fact about the host, judged.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What it is about: `engine`, `storage`, `sub-ids`, ...
    pub subject: &'static str,
    /// How bad it is.
    pub state: State,
    /// The fact, and why it matters if it is not as it should be.
    pub detail: String,
    /// The command that cures it.
    pub cure: Option<String>,
}

impl Finding {
    fn ok(subject: &'static str, detail: impl Into<String>) -> Self {
        Finding { subject, state: State::Ok, detail: detail.into(), cure: None }
    }

    fn warning(subject: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Finding { subject, state: State::Warning, detail: detail.into(), cure: Some(cure.into()) }
    }

    fn problem(subject: &'static str, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Finding { subject, state: State::Problem, detail: detail.into(), cure: Some(cure.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.subject, self.detail)?;
        if let Some(cure) = &self.cure {
            write!(formatter, "\n    cure: {cure}")?;
        }
        Ok(())
    }
}

/// What the doctor needs to know of an engine.
#[derive(Clone, Debug)]
pub struct EngineFacts {
    /// `podman 4.3.1 at unix://... (root), started for this run`.
    pub description: String,
    /// What it says of itself.
    pub identity: Identity,
    /// Whether it shares this machine, so that the machine's facts are the engine's.
    pub local: bool,
}

impl From<&Engine> for EngineFacts {
    fn from(engine: &Engine) -> Self {
        EngineFacts {
            description: engine.to_string(),
            identity: engine.identity().clone(),
            local: engine.endpoint().is_local(),
        }
    }
}

/// Judges the host and the engine; the findings come in a fixed order.
///
/// # Errors
/// Fails when a fact cannot be read.
pub fn examine(host: &Host, engine: Result<&EngineFacts, &NoEngine>) -> Result<Vec<Finding>> {
    let mut findings = checks::engine(host, engine);
    let local = engine.map_or(true, |engine| engine.local);
    if local {
        findings.extend(checks::sub_ids(host, engine.ok())?);
        findings.push(checks::cgroups(host, engine.ok())?);
        findings.push(checks::limits(host)?);
    }
    findings.push(checks::qemu(host));
    findings.push(checks::uefi(host));
    findings.push(checks::kvm(host)?);
    let graph_root = engine.ok().filter(|engine| engine.local).map(|engine| PathBuf::from(&engine.identity.graph_root));
    findings.extend(checks::disk(host, graph_root.as_deref())?);
    Ok(findings)
}

/// Judges the host as one on which steps run in place, or cannot, for the reason given.
///
/// # Errors
/// Fails when a fact cannot be read.
pub fn examine_in_place(host: &Host, here: Result<&InPlace, &anyhow::Error>) -> Result<Vec<Finding>> {
    let mut findings = vec![match here {
        Ok(here) => Finding::ok("engine", here.to_string()),
        Err(error) => Finding::problem("engine", format!("{error:#}"), "run it in the builder image, or use podman"),
    }];
    findings.extend(checks::disk(host, None)?);
    Ok(findings)
}

/// Fails with the problems, in the doctor's words, if a build cannot work on this host.
///
/// # Errors
/// Fails when there is a problem or when a fact cannot be read.
pub fn preflight(host: &Host, engine: &EngineFacts) -> Result<()> {
    refuse_problems(&examine(host, Ok(engine))?)
}

/// As [`preflight`], where steps run in place.
///
/// # Errors
/// As [`preflight`].
pub fn preflight_in_place(host: &Host, here: &InPlace) -> Result<()> {
    refuse_problems(&examine_in_place(host, Ok(here))?)
}

fn refuse_problems(findings: &[Finding]) -> Result<()> {
    let problems: Vec<String> = findings
        .iter()
        .filter(|finding| finding.state == State::Problem)
        .map(|finding| format!("\n  {finding}"))
        .collect();
    if !problems.is_empty() {
        bail!("this host cannot build yet (ocinitrd doctor tells more):{}", problems.concat());
    }
    Ok(())
}

/// What cures that no engine answers.
pub fn cure_for(host: &Host, missing: &NoEngine) -> String {
    if missing.named {
        return "start the engine that listens there, or name another one (--engine, CONTAINER_HOST, DOCKER_HOST)"
            .to_owned();
    }
    if !missing.installed {
        return host.install_command("podman uidmap", "podman");
    }
    if host.user_id == 0 { "systemctl start podman.socket" } else { "systemctl --user start podman.socket" }.to_owned()
}

#[cfg(test)]
mod tests;
