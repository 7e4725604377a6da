//! Signatures for Secure Boot, made by a program of the host that holds or reaches the key.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::inspect;
use super::token::{TOKEN, TokenKey, has_provider, module_variables};
use ocinitrd_support::output::TemporaryDirectory;
use ocinitrd_support::process::{self, Program};
use ocinitrd_support::regular_file;

/// Where systemd has a program that is on nobody's path.
const SYSTEMD_SBSIGN: &str = "/usr/lib/systemd/systemd-sbsign";
const WITHOUT_SYSTEMD_SBSIGN: &str = "there is no /usr/lib/systemd/systemd-sbsign: it comes with systemd 257 and newer, on Debian in the package systemd-repart";

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
    /// What signs. Where nothing is said: systemd-sbsign for a key in a token that OpenSSL's provider reaches, else sbsign, else what
    /// there is.
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
        self.check_files()?;
        let image = inspect(path, &[])?;
        ensure!(image.problems.is_empty(), "{}: {}", path.display(), image.problems.join("; "));
        ensure!(!image.signed, "{} is signed already", path.display());
        check_certificate(&self.certificate)?;
        let scratch = TemporaryDirectory::create_in_temporary("ocinitrd-sign.")?;
        let signed = scratch.path().join("signed.efi");
        match self.uses_token() {
            false => {
                self.check_pair()?;
                self.command(self.tool_for_file()?, None, &self.private_key, path, &signed).run()?
            }
            true => self.sign_by_token(path, &signed)?,
        };
        self.check_signature(&signed)?;
        regular_file::open(&signed).context("opening what was signed")
    }

    /// The programs that read them would wait at a pipe for ever.
    fn check_files(&self) -> Result<()> {
        let certificate = self.certificate.display();
        regular_file::open(&self.certificate).with_context(|| format!("reading the certificate {certificate}"))?;
        if !self.uses_token() {
            let key = Path::new(&self.private_key);
            regular_file::open(key).with_context(|| format!("reading the key {}", key.display()))?;
        }
        Ok(())
    }

    /// systemd-sbsign of systemd 262 does not look whether the key is that of the certificate. What openssl cannot read without a
    /// passphrase is left to the program that signs.
    fn check_pair(&self) -> Result<()> {
        let (key, certificate) = (&self.private_key, self.certificate.as_os_str());
        let of_key =
            Program::new("openssl").args(["pkey", "-pubout", "-passin", "pass:", "-in"]).args([key]).output()?;
        let of_certificate =
            Program::new("openssl").args(["x509", "-noout", "-pubkey", "-in"]).args([certificate]).run()?;
        ensure!(
            !of_key.status.success() || of_key.stdout == of_certificate,
            "{} is not the key of the certificate {}",
            Path::new(key).display(),
            self.certificate.display()
        );
        Ok(())
    }

    fn sign_by_token(&self, image: &Path, signed: &Path) -> Result<String> {
        let has_provider = has_provider()?;
        let tool = self.tool_for_token(has_provider)?;
        let (way, advice) = match tool {
            SignTool::SystemdSbsign if has_provider => ("provider", ""),
            _ => (
                "engine",
                "; newer systems have no engines: there, pkcs11-provider and systemd-sbsign have to be installed",
            ),
        };
        let key = TokenKey::new(&self.private_key)?;
        let command = self.command(tool, Some(way), &key.uri, image, signed);
        let context = || format!("signing through OpenSSL's {way} pkcs11, by {}{advice}", tool.name());
        module_variables(command).run().with_context(context)
    }

    /// What signs with the key `key`, which is reached in a `way` if it is in a token: by a `provider` or an `engine` of OpenSSL.
    fn command(&self, tool: SignTool, way: Option<&str>, key: &OsStr, image: &Path, signed: &Path) -> Program {
        let certificate = &self.certificate;
        match tool {
            SignTool::Sbsign => Program::new("sbsign")
                .args(way.map(|_| ["--engine", "pkcs11"]).into_iter().flatten())
                .args(["--key".as_ref(), key])
                .args(["--cert".as_ref(), certificate.as_os_str()])
                .args(["--output".as_ref(), signed.as_os_str(), image.as_os_str()]),
            SignTool::SystemdSbsign => Program::new(SYSTEMD_SBSIGN)
                .args(["sign"])
                .args(way.map(|way| format!("--private-key-source={way}:pkcs11")))
                .args(["--private-key".as_ref(), key])
                .args(["--certificate".as_ref(), certificate.as_os_str()])
                .args(["--output".as_ref(), signed.as_os_str(), image.as_os_str()]),
        }
    }

    /// The tool that was asked for, or sbsign, or what there is.
    fn tool_for_file(&self) -> Result<SignTool> {
        match (self.tool, has_sbsign()?, has_systemd_sbsign()) {
            (Some(SignTool::SystemdSbsign), _, false) => bail!(WITHOUT_SYSTEMD_SBSIGN),
            (Some(tool), ..) => Ok(tool),
            (None, true, _) => Ok(SignTool::Sbsign),
            (None, false, true) => Ok(SignTool::SystemdSbsign),
            (None, false, false) => bail!(
                "there is nothing to sign with: install sbsign with `apt-get install sbsigntool` (Debian, Ubuntu) or \
                 `dnf install sbsigntools` (Fedora)"
            ),
        }
    }

    /// systemd-sbsign where OpenSSL's provider is there: sbsign knows engines alone.
    fn tool_for_token(&self, has_provider: bool) -> Result<SignTool> {
        match (self.tool, has_provider, has_systemd_sbsign()) {
            (None, true, true) => Ok(SignTool::SystemdSbsign),
            (None, true, false) if !has_sbsign()? => bail!(WITHOUT_SYSTEMD_SBSIGN),
            _ => self.tool_for_file(),
        }
    }

    /// Whether there is a signature, and by the key of the certificate; the latter only where sbverify is there.
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

fn has_sbsign() -> Result<bool> {
    Ok(process::find("sbsign").context("looking for sbsign")?.is_some())
}

fn has_systemd_sbsign() -> bool {
    Path::new(SYSTEMD_SBSIGN).exists()
}

/// Firmware does not look at the time; people do who have to know that they sign with what should not be used any more.
fn check_certificate(certificate: &Path) -> Result<()> {
    ensure!(
        process::find("openssl").context("looking for openssl")?.is_some(),
        "the program openssl is not there, by which the certificate is checked: install the package openssl"
    );
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
