//! What the administrator says of unified kernel images: `[uki]` in `/etc/ocinitrd`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::files::place;
use crate::image::uki::{Bank, Content, PolicyKeys, SignTool, Signer};

/// What becomes part of the machine's unified kernel images, and who signs them. The words are those of a definition's `[uki]` and
/// of `ocinitrd uki`. Keys are read on the machine and become no part of anything.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Uki {
    /// A picture in the format BMP.
    splash: Option<PathBuf>,
    /// Lines of SBAT beside those of stub and kernel.
    pub sbat: Vec<String>,
    /// The public key that signatures of PCR 11 are checked with, in PEM.
    pcrpkey: Option<PathBuf>,
    /// The key that makes them, in PEM.
    pcr_private_key: Option<PathBuf>,
    /// For which banks of a TPM they are.
    pcr_bank: Vec<Bank>,
    /// The key of Secure Boot: a file in PEM, or a URI that begins with `pkcs11:`.
    secureboot_private_key: Option<String>,
    /// Its certificate, in PEM.
    secureboot_certificate: Option<PathBuf>,
    /// What signs with it.
    signtool: Option<SignTool>,
}

impl Uki {
    /// Joins what a later file says.
    pub(super) fn extend(&mut self, later: Uki) {
        self.splash = later.splash.or(self.splash.take());
        self.sbat.extend(later.sbat);
        self.pcrpkey = later.pcrpkey.or(self.pcrpkey.take());
        self.pcr_private_key = later.pcr_private_key.or(self.pcr_private_key.take());
        self.pcr_bank.extend(later.pcr_bank);
        self.secureboot_private_key = later.secureboot_private_key.or(self.secureboot_private_key.take());
        self.secureboot_certificate = later.secureboot_certificate.or(self.secureboot_certificate.take());
        self.signtool = later.signtool.or(self.signtool);
    }

    /// Whether all paths are absolute: there is no directory that they could be relative to for everyone.
    pub(super) fn check_paths(&self) -> Result<()> {
        let key = self.secureboot_private_key.as_deref().filter(|key| !key.starts_with("pkcs11:")).map(Path::new);
        let paths = [&self.splash, &self.pcrpkey, &self.pcr_private_key, &self.secureboot_certificate];
        for path in paths.into_iter().flatten().map(PathBuf::as_path).chain(key) {
            ensure!(path.is_absolute(), "[uki] has {}, which is no absolute path", path.display());
        }
        Ok(())
    }

    /// The picture.
    ///
    /// # Errors
    /// Fails when it cannot be opened.
    pub fn splash(&self, root: &Path) -> Result<Option<Content>> {
        self.splash
            .as_deref()
            .map(|path| Content::file(&place(root, path)?))
            .transpose()
            .context("reading [uki] splash")
    }

    /// The keys of PCR 11's policies.
    ///
    /// # Errors
    /// As [`PolicyKeys::open`].
    pub fn policy_keys(&self, root: &Path) -> Result<PolicyKeys> {
        let path = |path: &Option<PathBuf>| path.as_deref().map(|path| place(root, path)).transpose();
        PolicyKeys::open(path(&self.pcrpkey)?.as_deref(), path(&self.pcr_private_key)?.as_deref())
            .context("reading the keys that [uki] of /etc/ocinitrd names")
    }

    /// For which banks of a TPM PCR 11 is signed: that of SHA-256 if nothing is said.
    pub fn banks(&self) -> Vec<Bank> {
        if self.pcr_bank.is_empty() { vec![Bank::Sha256] } else { self.pcr_bank.clone() }
    }

    /// Who signs for Secure Boot, if anybody.
    ///
    /// # Errors
    /// Fails where there is a key without a certificate or the other way round.
    pub fn signer(&self, root: &Path) -> Result<Option<Signer>> {
        let (key, certificate) = match (&self.secureboot_private_key, &self.secureboot_certificate) {
            (None, None) => return Ok(None),
            (Some(key), Some(certificate)) => (key, certificate),
            _ => anyhow::bail!("[uki] of /etc/ocinitrd: secureboot_private_key and secureboot_certificate go together"),
        };
        let mut signer =
            Signer { private_key: key.into(), certificate: place(root, certificate)?, tool: self.signtool };
        if !signer.uses_token() {
            signer.private_key = place(root, Path::new(key))?.into();
        }
        Ok(Some(signer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Uki {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn keys_that_are_files_lie_below_the_root_and_those_in_tokens_do_not() {
        let uki = parsed("secureboot_private_key = \"/etc/a.key\"\nsecureboot_certificate = \"/etc/a.crt\"\n");
        let signer = uki.signer(Path::new("/mnt")).unwrap().unwrap();
        assert_eq!((signer.private_key, signer.certificate), ("/mnt/etc/a.key".into(), "/mnt/etc/a.crt".into()));
        let uki = parsed("secureboot_private_key = \"pkcs11:object=a\"\nsecureboot_certificate = \"/etc/a.crt\"\n");
        assert!(uki.check_paths().is_ok());
        assert_eq!(uki.signer(Path::new("/mnt")).unwrap().unwrap().private_key, "pkcs11:object=a");
        assert!(Uki::default().signer(Path::new("/")).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let alone = parsed("secureboot_certificate = \"/etc/a.crt\"\n").signer(Path::new("/")).unwrap_err();
        assert!(alone.to_string().contains("go together"), "{alone}");
        for text in ["splash = \"a\"", "pcr_private_key = \"a\"", "secureboot_private_key = \"a\""] {
            assert!(parsed(text).check_paths().unwrap_err().to_string().contains("no absolute path"), "{text}");
        }
        assert!(toml::from_str::<Uki>("cmdline = \"rw\"").is_err(), "that is /etc/kernel/cmdline's");
        assert!(toml::from_str::<Uki>("signtool = \"pesign\"").is_err());
    }

    #[test]
    fn later_files_replace_paths_and_add_to_lists() {
        let mut uki = parsed("splash = \"/a\"\nsbat = [\"a\"]\npcr_bank = [\"sha1\"]\nsigntool = \"sbsign\"\n");
        uki.extend(parsed("splash = \"/b\"\nsbat = [\"b\"]\npcr_bank = [\"sha256\"]\n"));
        assert_eq!((uki.splash.as_deref(), uki.sbat.len()), (Some(Path::new("/b")), 2));
        assert_eq!((uki.banks(), uki.signtool), (vec![Bank::Sha1, Bank::Sha256], Some(SignTool::Sbsign)));
        assert_eq!(Uki::default().banks(), [Bank::Sha256]);
    }
}
