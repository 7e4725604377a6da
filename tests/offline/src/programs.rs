//! Runs programs: a command in, its standard output out.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end, without input.
///
/// # Errors
/// Fails when it cannot be started or does not exit with 0; the message holds what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().take(12).map(|argument| argument.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} {} failed ({}): {}", arguments.join(" "), output.status, last_lines(&said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn last_lines(text: &str) -> String {
    const SHOWN: usize = 15;
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// Says which of the programs the set-up needs are missing.
///
/// # Errors
/// Fails when one of `names` is not in `PATH`.
pub fn require(names: &[&str]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let missing: Vec<&str> = names.iter().copied().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        bail!(
            "these programs are missing: {}; install the packages that have them, then try again",
            missing.join(", ")
        );
    }
    Ok(())
}
