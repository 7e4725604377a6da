//! Signatures of PCR values: with them a secret can be bound to whoever may sign, not to one image.
//!
//! What is signed is the digest of a TPM policy that holds while PCR 11 has a certain value. systemd-measure(1) is the reference;
//! the digest is that of TPM2_PolicyPCR in the Trusted Platform Module Library, part 3.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::measure::{Bank, Predictions};
use super::{PCR_PUBLIC_KEY, PCR_SIGNATURES};
use ocinitrd_format::digest::{hex, unhex};
use ocinitrd_format::rsa::{PrivateKey, PublicKey};

/// The PCR that the stub measures into.
const PCR: u8 = 11;
/// `TPM_CC_PolicyPCR`.
const POLICY_PCR: u32 = 0x0000_017f;
/// The phases whose values are signed: those in which secrets of the system are asked for, as with systemd-measure(1).
const SIGNED_PHASES: usize = 4;

/// One signature in `.pcrsig`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PolicySignature {
    /// The PCRs of the policy.
    pub pcrs: Vec<u8>,
    /// The SHA-256 of the public key, in hexadecimal.
    pub pkfp: String,
    /// The digest of the policy, in hexadecimal.
    pub pol: String,
    /// The signature, in base64.
    pub sig: String,
}

/// What `.pcrsig` holds: signatures by bank.
pub type Signatures = BTreeMap<Bank, Vec<PolicySignature>>;

/// A digest to be signed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Policy {
    /// The bank of the PCR.
    pub bank: Bank,
    /// The phase in which it holds.
    pub phase: String,
    /// The digest, in hexadecimal.
    pub pol: String,
}

/// The digest of the policy that PCR 11 has the value `pcr11`, in hexadecimal, in that bank.
///
/// # Errors
/// Fails on digits that are none.
pub fn policy_digest(bank: Bank, pcr11: &str) -> Result<[u8; 32]> {
    let value = bytes(pcr11)?;
    let mut selected = [0_u8; 3];
    selected[usize::from(PCR / 8)] = 1 << (PCR % 8);
    let mut hasher = Sha256::new();
    hasher.update([0; 32]);
    hasher.update(POLICY_PCR.to_be_bytes());
    hasher.update(1_u32.to_be_bytes());
    hasher.update(bank.algorithm().to_be_bytes());
    hasher.update([3]);
    hasher.update(selected);
    hasher.update(Sha256::digest(&value));
    Ok(hasher.finalize().into())
}

/// The digests that are signed for an image with these predictions.
///
/// # Errors
/// As [`policy_digest`].
pub fn policies(predictions: &Predictions) -> Result<Vec<Policy>> {
    let mut policies = Vec::new();
    for (bank, predictions) in predictions {
        // The first is that of the kernel's start, when nobody has asked yet.
        for prediction in predictions.iter().skip(1).take(SIGNED_PHASES) {
            let pol = hex(&policy_digest(*bank, &prediction.pcr11)?);
            policies.push(Policy { bank: *bank, phase: prediction.phase.clone(), pol });
        }
    }
    Ok(policies)
}

/// Signs digests with a key that is at hand.
///
/// # Errors
/// Fails when signing does.
pub fn sign(policies: &[Policy], key: &PrivateKey) -> Result<Signatures> {
    signatures(policies, &key.public_key(), |policy| key.sign(&bytes(&policy.pol)?))
}

/// Puts together signatures that `signature` has of each digest.
///
/// # Errors
/// Fails with what `signature` fails with.
pub fn signatures(
    policies: &[Policy],
    key: &PublicKey,
    signature: impl Fn(&Policy) -> Result<Vec<u8>>,
) -> Result<Signatures> {
    let pkfp = key.fingerprint().hex();
    let mut signatures = Signatures::new();
    for policy in policies {
        let signature = signature(policy).with_context(|| format!("the signature for the phase {}", policy.phase))?;
        signatures.entry(policy.bank).or_default().push(PolicySignature {
            pcrs: vec![PCR],
            pkfp: pkfp.clone(),
            pol: policy.pol.clone(),
            sig: STANDARD.encode(signature),
        });
    }
    Ok(signatures)
}

/// What is wrong with signatures that go with an image with these predictions and that public key.
///
/// # Errors
/// As [`policy_digest`].
pub fn faults(signatures: &Signatures, predictions: &Predictions, key: Option<&PublicKey>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let policies = policies(predictions)?;
    for policy in &policies {
        let Some(signature) = signatures.get(&policy.bank).and_then(|all| all.iter().find(|one| one.pol == policy.pol))
        else {
            // Nobody has to sign for every bank.
            if signatures.contains_key(&policy.bank) {
                faults.push(format!(
                    "{PCR_SIGNATURES} has no signature for the phase {} in {}",
                    policy.phase, policy.bank
                ));
            }
            continue;
        };
        let Some(key) = key else { continue };
        let signed = STANDARD
            .decode(&signature.sig)
            .is_ok_and(|sig| bytes(&policy.pol).is_ok_and(|digest| key.verifies(&digest, &sig)));
        if !signed || signature.pkfp != key.fingerprint().hex() {
            faults.push(format!(
                "the signature for the phase {} in {} is not one by {PCR_PUBLIC_KEY}",
                policy.phase, policy.bank
            ));
        }
    }
    if key.is_none() {
        faults.push(format!("{PCR_SIGNATURES} is there, and not the key, {PCR_PUBLIC_KEY}"));
    }
    Ok(faults)
}

fn bytes(digits: &str) -> Result<Vec<u8>> {
    unhex(digits).with_context(|| format!("{digits:?} are no hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `systemd-measure sign` of systemd 257 writes this `pol` for that value.
    #[test]
    fn digest_is_that_of_the_reference() {
        let value = "4929450e1b6625dabc2eca5ee64dd3aca2c27d0bdf1f50ec1c4664f715b78c00";
        assert_eq!(
            hex(&policy_digest(Bank::Sha256, value).unwrap()),
            "ce40ace7af3de81efa6723dbfccf3d04e8b55a7466c9ecf82b031d273757ddc5"
        );
        assert!(policy_digest(Bank::Sha256, "4").is_err() && policy_digest(Bank::Sha256, "xy").is_err());
    }
}
