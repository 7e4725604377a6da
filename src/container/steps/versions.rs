//! The versions of the builder's rpm and dnf, as they print them.

use anyhow::Result;

use crate::container::engine::{Builder, Job};
use ocinitrd_support::progress::Progress;

use super::input::Input;

/// Adds the script that finds the builder's dnf, for other scripts to begin with.
pub(super) fn add_tools(input: &mut Input) {
    input.bytes("tools.sh", include_str!("tools.sh"));
}

/// Returns the versions that rpm and dnf print, a line each.
///
/// # Errors
/// Fails when the builder lacks one of them, and when its container cannot be run.
pub async fn versions(builder: &Builder, progress: &Progress) -> Result<Vec<String>> {
    let mut input = Input::with_script("versions.sh", include_str!("versions.sh"));
    add_tools(&mut input);
    let mut printed = Vec::new();
    let job = Job {
        name: "versions",
        command: super::command("/bin/sh", "versions.sh"),
        environment: super::environment(None),
        capabilities: Vec::new(),
        memory_limit_bytes: None,
        input: Box::new(move |writer| input.write(writer)),
        outputs: vec![super::output("builder", &mut printed)],
    };
    let result = builder.run(job, progress).await?;
    if result.exit_code != 0 {
        const DOING: &str = "reading the versions of the builder's rpm and dnf";
        let answer = |log: &str| format!("{DOING}:\n{}", log.trim_end());
        return Err(super::failure::error(&result, DOING, answer));
    }
    Ok(super::text(printed)?.lines().map(str::to_owned).collect())
}
