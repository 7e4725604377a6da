//! Rpms to the certainty that one of some keys signed each of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::engine::{Builder, Job};
use crate::progress::Progress;

use super::input::Input;

/// Lets rpm's own verifier check `rpms` (file name in the container, path on this host) against `keys` (armored, by any
/// name), and against no other key.
///
/// # Errors
/// Fails when an rpm is unsigned, signed by another key or damaged, naming each such rpm.
pub async fn verify(
    builder: &Builder,
    keys: &BTreeMap<String, String>,
    rpms: &[(String, PathBuf)],
    progress: &Progress,
) -> Result<()> {
    let mut input = Input::with_script("verify.sh", include_str!("verify.sh"));
    input.directory("keys");
    for (name, armored) in keys {
        input.bytes(&format!("keys/{name}.asc"), armored.as_str());
    }
    super::add_rpms(&mut input, rpms);
    let job = Job {
        name: "verify",
        command: super::command("/bin/sh", "verify.sh"),
        environment: super::environment(None),
        capabilities: Vec::new(),
        memory_limit_bytes: None,
        input: Box::new(move |writer| input.write(writer)),
        outputs: Vec::new(),
    };
    let result = builder.run(job, progress).await?;
    if result.exit_code != 0 {
        let answer = |log: &str| {
            format!(
                "not installing packages whose signature does not verify with the keys of the definition:\n{}\n\
                 check gpg_keys of the repository they come from, or the repository itself",
                log.trim_end().replace("rpms/", "")
            )
        };
        return Err(super::failure::error(&result, "verifying the packages' signatures", answer));
    }
    Ok(())
}
