//! The keys of PCR 11's policies: what goes into an image, and what signs for it.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::measure::Predictions;
use super::policy::{policies, sign};
use ocinitrd_format::rsa::{PrivateKey, PublicKey};
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// The keys of PCR 11's policies, as far as there are any.
#[derive(Default)]
pub struct PolicyKeys {
    private: Option<PrivateKey>,
    public: Option<PublicKey>,
}

impl PolicyKeys {
    /// Reads the files of the public and of the private key. Without the public one it is that of the private one.
    ///
    /// # Errors
    /// Fails when a file cannot be read or holds no such key, and when the two are no pair.
    pub fn open(public: Option<&Path>, private: Option<&Path>) -> Result<Self> {
        let private = private.map(open_private).transpose()?;
        let given = public.map(open_public_key).transpose()?;
        let own = private.as_ref().map(PrivateKey::public_key);
        if let (Some(given), Some(own)) = (&given, &own) {
            ensure!(given == own, "the keys of pcrpkey and of the private key for PCR 11 are no pair");
        }
        Ok(PolicyKeys { private, public: given.or(own) })
    }

    /// The public key in PEM.
    pub fn public_pem(&self) -> Option<String> {
        self.public.as_ref().map(PublicKey::to_pem)
    }

    /// Whether there is one to sign with.
    pub fn can_sign(&self) -> bool {
        self.private.is_some()
    }

    /// The texts of `.pcrsig`, one for each of the predictions; none without a private key.
    ///
    /// # Errors
    /// Fails when signing does.
    pub fn signatures(&self, predictions: &[Predictions]) -> Result<Vec<String>> {
        let Some(key) = &self.private else { return Ok(Vec::new()) };
        let text = |predictions| Ok(serde_json::to_string(&sign(&policies(predictions)?, key)?)?);
        predictions.iter().map(text).collect()
    }
}

/// Reads the public key in a file.
///
/// # Errors
/// Fails when the file cannot be read or holds no public RSA key in PEM.
pub fn open_public_key(path: &Path) -> Result<PublicKey> {
    let read = || PublicKey::from_pem(&regular_file::read_text(path, TEXT_LIMIT_BYTES)?);
    read().with_context(|| format!("reading the key {}", path.display()))
}

fn open_private(path: &Path) -> Result<PrivateKey> {
    let read = || PrivateKey::from_pem(&regular_file::read_text(path, TEXT_LIMIT_BYTES)?);
    read().with_context(|| format!("reading the key {}", path.display()))
}
