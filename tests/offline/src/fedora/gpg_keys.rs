//! The keys of `fedora-gpg-keys`: one for every release, of which none but this release's signs anything.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::programs::run;

const BEGINNING: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// The names of the keys after `RPM-GPG-KEY-`, without that of this release.
pub fn names() -> Vec<String> {
    let primary = (7..=46).filter(|release| *release != 44).map(|release| format!("fedora-{release}-primary"));
    let secondary = (8..=22).map(|release| format!("fedora-{release}-secondary"));
    let others = (2019..=2028).map(|year| format!("fedora-iot-{year}"));
    primary.chain(secondary).chain(others).collect()
}

/// A key for each of [`names`], kept in the file `kept`; it is made with keys of nobody where there is none.
///
/// # Errors
/// Fails when gpg does, and when `kept` cannot be read or written.
pub fn made_up(kept: &Path) -> Result<Vec<(String, String)>> {
    let names = names();
    if !kept.is_file() {
        let text = make(names.len())?;
        fs::write(kept, text).with_context(|| format!("writing {}", kept.display()))?;
    }
    let text = fs::read_to_string(kept).with_context(|| format!("reading {}", kept.display()))?;
    let keys: Vec<String> = text.split(BEGINNING).skip(1).map(|rest| format!("{BEGINNING}{rest}")).collect();
    ensure!(
        keys.len() == names.len(),
        "reading {}: it has {} keys; remove it and try again",
        kept.display(),
        keys.len()
    );
    Ok(names.into_iter().zip(keys).collect())
}

fn make(count: usize) -> Result<String> {
    let home = tempfile::Builder::new().prefix("offline-gpg").tempdir().context("creating a home for gpg")?;
    let gpg = || {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(home.path()).args(["--batch", "--quiet"]);
        command
    };
    let parameters: String = (0..count).map(parameters).collect();
    let file = home.path().join("parameters");
    fs::write(&file, parameters).with_context(|| format!("writing {}", file.display()))?;
    run(gpg().arg("--generate-key").arg(&file)).context("making keys")?;
    let exported = (0..count).map(|number| run(gpg().args(["--armor", "--export", &format!("={}", user(number))])));
    let keys = exported.collect::<Result<String>>().context("exporting keys")?;
    // The agent would outlive its home by a moment and print about it.
    let _ = run(Command::new("gpgconf").env("GNUPGHOME", home.path()).args(["--kill", "all"]));
    Ok(keys)
}

fn user(number: usize) -> String {
    format!("Made-up key {number}")
}

/// gpg's description of a key that is made without a passphrase.
fn parameters(number: usize) -> String {
    format!(
        "%no-protection\nKey-Type: eddsa\nKey-Curve: ed25519\nName-Real: {}\nExpire-Date: 0\n%commit\n",
        user(number)
    )
}
