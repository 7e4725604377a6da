//! PCR 11: what systemd-stub measures of an image before its kernel runs, and systemd-pcrphase(8) while it boots.
//!
//! A PCR begins as zeros. Each event extends it: its new value is the hash of its old one and the event's hash. For each section
//! there are two events, its name with a NUL and its contents in memory; for each phase one, its word. systemd-measure(1) is the reference.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::{Content, MEASURED};
use ocinitrd_format::digest::hex;

/// The words that are measured while a system runs, in their order.
pub const PHASES: [&str; 6] = ["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"];

/// A set of PCRs, which a TPM has one of for each algorithm that it is set up for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bank {
    /// Of old TPMs.
    Sha1,
    /// What every TPM 2.0 has.
    Sha256,
    /// Of newer ones.
    Sha384,
    /// Of few.
    Sha512,
}

impl Bank {
    /// All of them.
    pub const ALL: [Bank; 4] = [Bank::Sha1, Bank::Sha256, Bank::Sha384, Bank::Sha512];

    /// The TPM's number of the algorithm, `TPM_ALG_ID`.
    pub(super) fn algorithm(self) -> u16 {
        match self {
            Bank::Sha1 => 0x0004,
            Bank::Sha256 => 0x000b,
            Bank::Sha384 => 0x000c,
            Bank::Sha512 => 0x000d,
        }
    }

    fn hasher(self) -> Hasher {
        match self {
            Bank::Sha1 => Hasher::Sha1(Sha1::new()),
            Bank::Sha256 => Hasher::Sha256(Sha256::new()),
            Bank::Sha384 => Hasher::Sha384(Sha384::new()),
            Bank::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Bank::Sha1 => "sha1",
            Bank::Sha256 => "sha256",
            Bank::Sha384 => "sha384",
            Bank::Sha512 => "sha512",
        })
    }
}

impl FromStr for Bank {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bank = Bank::ALL.into_iter().find(|bank| bank.to_string() == text);
        bank.ok_or_else(|| "the banks are sha1, sha256, sha384 and sha512".to_owned())
    }
}

enum Hasher {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha1(hasher) => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha384(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Hasher::Sha1(hasher) => hasher.finalize().to_vec(),
            Hasher::Sha256(hasher) => hasher.finalize().to_vec(),
            Hasher::Sha384(hasher) => hasher.finalize().to_vec(),
            Hasher::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The value of PCR 11 in one bank, in one phase.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Prediction {
    /// The words measured until then, with `:` between them; empty as the kernel starts.
    pub phase: String,
    /// Its hexadecimal digits.
    pub pcr11: String,
}

/// A section to be measured.
pub(super) struct Measured<'a> {
    pub name: &'a str,
    content: Content,
    /// How much memory it takes; what its contents have not got are zeros, and measured too.
    memory_bytes: u64,
    /// What was computed already: several profiles have the same sections.
    digests: RefCell<BTreeMap<Bank, Vec<u8>>>,
}

impl<'a> Measured<'a> {
    pub(super) fn new(name: &'a str, content: Content, memory_bytes: u64) -> Self {
        Measured { name, content, memory_bytes, digests: RefCell::default() }
    }

    /// The digest of its memory.
    fn digest(&self, bank: Bank) -> Result<Vec<u8>> {
        if let Some(digest) = self.digests.borrow().get(&bank) {
            return Ok(digest.clone());
        }
        let mut hasher = bank.hasher();
        let zeros = io::repeat(0).take(self.memory_bytes.saturating_sub(self.content.size_bytes()));
        let mut content = self.content.reader().chain(zeros);
        io::copy(&mut content, &mut hasher).with_context(|| format!("measuring the section {}", self.name))?;
        let digest = hasher.finish();
        self.digests.borrow_mut().insert(bank, digest.clone());
        Ok(digest)
    }
}

/// What PCR 11 is when the kernel starts and after each of [`PHASES`].
///
/// # Errors
/// Fails when contents cannot be read.
pub(super) fn predict_sections(sections: &[&Measured<'_>], bank: Bank) -> Result<Vec<Prediction>> {
    let mut value = vec![0; bank.hash(&[]).len()];
    for name in MEASURED {
        let Some(section) = sections.iter().find(|section| section.name == name) else { continue };
        // The stub passes over what is empty.
        if section.memory_bytes == 0 {
            continue;
        }
        extend(&mut value, bank, &bank.hash(&[name.as_bytes(), &[0]].concat()));
        extend(&mut value, bank, &section.digest(bank)?);
    }
    let mut words: Vec<&str> = Vec::new();
    let mut predictions = vec![Prediction { phase: String::new(), pcr11: hex(&value) }];
    for phase in PHASES {
        words.push(phase);
        extend(&mut value, bank, &bank.hash(phase.as_bytes()));
        predictions.push(Prediction { phase: words.join(":"), pcr11: hex(&value) });
    }
    Ok(predictions)
}

/// Of each of these banks, what [`predict_sections`] says.
///
/// # Errors
/// As there.
pub(super) fn predict(sections: &[&Measured<'_>], banks: &[Bank]) -> Result<Predictions> {
    banks.iter().map(|bank| Ok((*bank, predict_sections(sections, *bank)?))).collect()
}

/// Predictions of one profile of an image, or of an image without profiles, by bank.
pub type Predictions = BTreeMap<Bank, Vec<Prediction>>;

fn extend(value: &mut Vec<u8>, bank: Bank, event: &[u8]) {
    *value = bank.hash(&[value, event].concat());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &'static str, text: &str, memory_bytes: u64) -> Measured<'static> {
        Measured::new(name, Content::text(text), memory_bytes)
    }

    /// `systemd-measure calculate` of systemd 257, of files with these texts.
    #[test]
    fn order_zeros_and_phases_are_those_of_the_reference() {
        let sections =
            [measured(".initrd", "an initrd", 9), measured(".osrel", "ID=x\n", 5), measured(".linux", "a kernel", 8)];
        let predictions = predict_sections(&sections.each_ref(), Bank::Sha256).unwrap();
        let value = |phase: &str| predictions.iter().find(|one| one.phase == phase).unwrap().pcr11.clone();
        assert_eq!(value("enter-initrd"), "4929450e1b6625dabc2eca5ee64dd3aca2c27d0bdf1f50ec1c4664f715b78c00");
        let ready = "b4382c72406c165a4e619f9f446e9be8a86025c9beef7ddd3c1b68c80ff7de52";
        assert_eq!(value("enter-initrd:leave-initrd:sysinit:ready"), ready);
    }

    #[test]
    fn what_the_memory_has_behind_the_contents_is_measured_and_what_is_empty_is_not() {
        let of =
            |sections: &[Measured<'_>]| predict_sections(&sections.iter().collect::<Vec<_>>(), Bank::Sha1).unwrap();
        assert_eq!(of(&[measured(".linux", "k\0\0", 3)]), of(&[measured(".linux", "k", 3), measured(".uname", "", 0)]));
        assert_ne!(of(&[measured(".linux", "k", 1)]), of(&[measured(".linux", "k", 3)]));
    }
}
