//! Signatures for Secure Boot, made by a program of the host that holds or reaches the key.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::inspect;
use crate::process::{self, Program};

/// Where systemd has a program that is on nobody's path.
const SYSTEMD_SBSIGN: &str = "/usr/lib/systemd/systemd-sbsign";
/// What begins the URI of a key that is in a token.
const TOKEN: &str = "pkcs11:";

/// A program that signs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum SignTool {
    /// Of the package sbsigntool (Debian) or sbsigntools (Fedora).
    Sbsign,
    /// Of systemd 257 and newer.
    SystemdSbsign,
}

impl SignTool {
    /// All of them.
    pub const ALL: [SignTool; 2] = [SignTool::Sbsign, SignTool::SystemdSbsign];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            SignTool::Sbsign => "sbsign",
            SignTool::SystemdSbsign => "systemd-sbsign",
        }
    }
}

/// Who signs for Secure Boot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signer {
    /// The private key: a file in PEM, or a URI that begins with `pkcs11:`.
    pub private_key: OsString,
    /// Its certificate, a file in PEM.
    pub certificate: PathBuf,
    /// What signs; where nothing is said sbsign, or what is there and reaches the key.
    pub tool: Option<SignTool>,
}

impl Signer {
    /// Whether the key is in a token, and no file.
    pub fn uses_token(&self) -> bool {
        self.private_key.to_string_lossy().starts_with(TOKEN)
    }

    /// Signs the image at `path` and returns the signed one, in a file without a name.
    ///
    /// # Errors
    /// Fails on an image that something is wrong with or that is signed already, on a certificate that has expired or is not
    /// that of the key, and when there is nothing to sign with.
    pub fn sign(&self, path: &Path) -> Result<File> {
        let image = inspect(path, &[])?;
        ensure!(image.problems.is_empty(), "{}: {}", path.display(), image.problems.join("; "));
        ensure!(!image.signed, "{} is signed already", path.display());
        check_certificate(&self.certificate)?;
        let scratch = tempfile::tempdir().context("making a temporary directory")?;
        let signed = scratch.path().join("signed.efi");
        self.command(path, &signed)?.run()?;
        self.check_signature(&signed)?;
        File::open(&signed).context("opening what was signed")
    }

    fn command(&self, image: &Path, signed: &Path) -> Result<Program> {
        let (key, certificate) = (&self.private_key, &self.certificate);
        // Newer systems have no engines of OpenSSL any more, older ones no providers.
        let has_provider = self.uses_token() && has_provider()?;
        let tool = self.tool.map_or_else(|| self.tool_at_hand(has_provider), Ok)?;
        Ok(match tool {
            SignTool::Sbsign => Program::new("sbsign")
                .args(if self.uses_token() { &["--engine", "pkcs11"][..] } else { &[] })
                .args(["--key".as_ref(), key.as_os_str()])
                .args(["--cert".as_ref(), certificate.as_os_str()])
                .args(["--output".as_ref(), signed.as_os_str(), image.as_os_str()]),
            SignTool::SystemdSbsign => Program::new(SYSTEMD_SBSIGN)
                .args(["sign"])
                .args(match (self.uses_token(), has_provider) {
                    (false, _) => &[][..],
                    (true, true) => &["--private-key-source=provider:pkcs11"],
                    (true, false) => &["--private-key-source=engine:pkcs11"],
                })
                .args(["--private-key".as_ref(), key.as_os_str()])
                .args(["--certificate".as_ref(), certificate.as_os_str()])
                .args(["--output".as_ref(), signed.as_os_str(), image.as_os_str()]),
        })
    }

    /// sbsign, where it is there and can reach the key: it knows engines only, not the provider of tokens.
    fn tool_at_hand(&self, has_provider: bool) -> Result<SignTool> {
        let has_sbsign = process::find("sbsign").context("looking for sbsign")?.is_some();
        let has_systemd_sbsign = Path::new(SYSTEMD_SBSIGN).exists();
        Ok(match (has_sbsign, has_systemd_sbsign) {
            (_, true) if has_provider => SignTool::SystemdSbsign,
            (true, _) => SignTool::Sbsign,
            (false, true) => SignTool::SystemdSbsign,
            (false, false) => bail!(
                "there is nothing to sign with: install sbsign with `apt-get install sbsigntool` (Debian, Ubuntu) or \
                 `dnf install sbsigntools` (Fedora)"
            ),
        })
    }

    /// Whether the certificate is that of the key. Where sbverify is not there, only whether there is a signature.
    fn check_signature(&self, signed: &Path) -> Result<()> {
        ensure!(inspect(signed, &[])?.signed, "the program that signs ended well, and there is no signature");
        if process::find("sbverify").context("looking for sbverify")?.is_some() {
            let certificate = self.certificate.as_os_str();
            let verify = Program::new("sbverify").args(["--cert".as_ref(), certificate, signed.as_os_str()]);
            let context = || format!("the signature is not one by {}", self.certificate.display());
            verify.run().with_context(context)?;
        }
        Ok(())
    }
}

/// Whether OpenSSL loads the provider that reaches tokens, as the package pkcs11-provider brings it.
fn has_provider() -> Result<bool> {
    Ok(Program::new("openssl").args(["list", "-providers", "-provider", "pkcs11"]).output()?.status.success())
}

/// Firmware does not look at the time; people do who have to know that they sign with what should not be used any more.
fn check_certificate(certificate: &Path) -> Result<()> {
    File::open(certificate).with_context(|| format!("reading the certificate {}", certificate.display()))?;
    let check = Program::new("openssl").args(["x509", "-noout", "-checkend", "0", "-in"]).args([certificate]);
    let output = check.output()?;
    ensure!(
        output.status.success(),
        "the certificate {} has expired, or is none in PEM: {}{}",
        certificate.display(),
        output.stdout.trim(),
        output.stderr.trim()
    );
    Ok(())
}
