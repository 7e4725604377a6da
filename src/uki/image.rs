//! An image, anyone's: what is in it, what a TPM will measure of it, and what is wrong with it.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::measure::{self, Bank, Measured, Predictions};
use super::policy::{self, Signatures};
use super::{
    COMMAND_LINE, Content, LINUX, NamedContent, OS_RELEASE, PCR_PUBLIC_KEY, PCR_SIGNATURES, PROFILE, SBAT, UNAME,
    kernel,
};
use crate::format::digest::Digest;
use crate::format::pe::{self, Image, Section};
use crate::format::rsa::PublicKey;
use crate::tree;

/// The sections that hold text.
const TEXTS: [&str; 7] = [OS_RELEASE, COMMAND_LINE, UNAME, SBAT, PCR_PUBLIC_KEY, PCR_SIGNATURES, PROFILE];
/// A text is shown up to this length, in bytes.
const MOST_TEXT_BYTES: u64 = 64 << 10;

/// What is in an image.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The machine that it is for: `x64`, `aa64`, ...
    pub machine: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Whether it carries a signature for Secure Boot. By whom, and whether it holds, only sbverify(1) says.
    pub signed: bool,
    /// In the order of the file.
    pub sections: Vec<InspectedSection>,
    /// The values of PCR 11: one of an image without profiles, else one for each.
    pub pcr11: Vec<InspectedProfile>,
    /// What is wrong with it, if anything.
    pub problems: Vec<String>,
    /// What may be meant as it is.
    pub remarks: Vec<String>,
}

/// A section of an image.
#[derive(Debug, Serialize)]
pub struct InspectedSection {
    /// Its name.
    pub name: String,
    /// The number of the profile that it belongs to, if it belongs to one.
    pub profile: Option<usize>,
    /// Its size in memory, in bytes: what is measured.
    pub size_bytes: u64,
    /// The digest of its contents in the file.
    pub sha256: Digest,
    /// The contents, of a section that holds text.
    pub text: Option<String>,
}

/// What a TPM measures of a profile.
#[derive(Debug, Serialize)]
pub struct InspectedProfile {
    /// Its `ID=`; none of an image without profiles.
    pub id: Option<String>,
    /// The values by bank.
    pub values: Predictions,
    /// How many signatures of values the image carries for it.
    pub signatures: usize,
}

impl Inspection {
    /// The text of the first section of that name, if it holds text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.sections.iter().find(|section| section.name == name)?.text.as_deref()
    }
}

/// Reads an image. What is wrong with it stands in `problems`.
///
/// # Errors
/// Fails when it cannot be read or is no PE32+ image at all.
pub fn inspect(path: &Path, banks: &[Bank]) -> Result<Inspection> {
    let of_file = || format!("reading {}", path.display());
    let file = NamedContent::open(path)?.content;
    let image = Image::read(&mut file.reader()).with_context(of_file)?;
    let reader = Reader { file: &file, image: &image };
    let owners = owners(&image.sections);
    let sections = image.sections.iter().zip(&owners).map(|(section, owner)| reader.section(section, *owner));
    let sections = sections.collect::<Result<Vec<_>>>().with_context(of_file)?;
    let mut problems = image.faults();
    let pcr11 = reader.profiles(&owners, &sections, banks, &mut problems)?;
    let remarks = reader.kernel_findings(&mut problems)?;
    Ok(Inspection {
        machine: pe::machine_name(image.machine).map_or_else(|| format!("{:#x}", image.machine), str::to_owned),
        size_bytes: file.size_bytes(),
        signed: image.signatures.1 > 0,
        sections,
        pcr11,
        problems,
        remarks,
    })
}

/// The contents of the first section of that name in an image, if there is one.
///
/// # Errors
/// Fails when the image cannot be read or is no PE32+ image at all.
pub fn section(path: &Path, name: &str) -> Result<Option<Content>> {
    let of_file = || format!("reading {}", path.display());
    let file = NamedContent::open(path)?.content;
    let image = Image::read(&mut file.reader()).with_context(of_file)?;
    let reader = Reader { file: &file, image: &image };
    Ok(image.section(name).map(|section| reader.content(section)))
}

/// To which profile each section belongs: from a `.profile` to the next.
fn owners(sections: &[Section]) -> Vec<Option<usize>> {
    let mut current = None;
    let owner = |section: &Section| {
        if section.name == PROFILE {
            current = Some(current.map_or(0, |number| number + 1));
        }
        current
    };
    sections.iter().map(owner).collect()
}

struct Reader<'a> {
    file: &'a tree::Content,
    image: &'a Image,
}

impl Reader<'_> {
    fn content(&self, section: &Section) -> Content {
        self.file.part(section.file_offset.into(), section.content_bytes().into()).into()
    }

    fn text(&self, section: &Section) -> Result<String> {
        let mut bytes = Vec::new();
        self.content(section).reader().take(MOST_TEXT_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }

    fn section(&self, section: &Section, profile: Option<usize>) -> Result<InspectedSection> {
        let (sha256, _) = Digest::of_reader(self.content(section).reader())
            .with_context(|| format!("reading the section {}", section.name))?;
        let text = TEXTS.contains(&section.name.as_str()).then(|| self.text(section)).transpose()?;
        Ok(InspectedSection {
            name: section.name.clone(),
            profile,
            size_bytes: section.memory_bytes.into(),
            sha256,
            text,
        })
    }

    fn profiles(
        &self,
        owners: &[Option<usize>],
        sections: &[InspectedSection],
        banks: &[Bank],
        problems: &mut Vec<String>,
    ) -> Result<Vec<InspectedProfile>> {
        let numbers = match owners.iter().flatten().max() {
            None => vec![None],
            Some(last) => (0..=*last).map(Some).collect(),
        };
        let key = public_key(sections, problems);
        let mut profiles = Vec::new();
        for number in numbers {
            let own = |name: &str| sections.iter().find(|section| section.profile == number && section.name == name);
            let id = own(PROFILE).and_then(|section| line(section.text.as_deref()?, "ID="));
            let values = measure::predict(&self.measured(owners, number), banks)?;
            let signatures = match own(PCR_SIGNATURES).and_then(|section| section.text.as_deref()) {
                Some(text) => check_signatures(text, &self.measured(owners, number), key.as_ref(), problems)?,
                None => 0,
            };
            profiles.push(InspectedProfile { id, values, signatures });
        }
        Ok(profiles)
    }

    /// The sections that count where that profile is booted: its own, and those before the first profile.
    fn measured(&self, owners: &[Option<usize>], number: Option<usize>) -> Vec<Measured<'_>> {
        let owned =
            |owner: Option<usize>| self.image.sections.iter().zip(owners).filter(move |(_, one)| **one == owner);
        let own = if number.is_some() { Some(owned(number)) } else { None };
        let sections = own.into_iter().flatten().chain(owned(None)).map(|(section, _)| section);
        sections
            .map(|section| Measured {
                name: &section.name,
                content: self.content(section),
                memory_bytes: section.memory_bytes.into(),
            })
            .collect()
    }

    /// Adds what is wrong with the kernel to `problems`, and returns what may be meant so.
    fn kernel_findings(&self, problems: &mut Vec<String>) -> Result<Vec<String>> {
        let Some(section) = self.image.section(LINUX) else {
            problems.push(format!("it has no section {LINUX}: it is no unified kernel image"));
            return Ok(Vec::new());
        };
        let mut remarks = Vec::new();
        if self.image.section(OS_RELEASE).is_none() {
            remarks.push(format!("it has no section {OS_RELEASE}: boot loaders do not list it"));
        }
        let headers = kernel::headers(self.content(section).reader()).context("reading the kernel in it")?;
        match headers.size_of_image {
            None => problems.push("its kernel is no EFI program".to_owned()),
            // A stub that copies the kernel before it starts it does not mind: that of systemd up to 257.
            Some(needed) if needed > section.memory_bytes => remarks.push(format!(
                "its kernel takes {needed} bytes of memory and has {}: a stub that starts it in place would let it \
                 overwrite what follows",
                section.memory_bytes
            )),
            Some(_) => {}
        }
        let named = self.image.section(UNAME).map(|section| self.text(section)).transpose()?;
        if let (Some(named), Some(version)) = (named, headers.version)
            && named.trim() != version
        {
            problems.push(format!("{UNAME} says {}, and its kernel calls itself {version}", named.trim()));
        }
        Ok(remarks)
    }
}

/// How many signatures the text of a `.pcrsig` has; what is wrong with them is added to `problems`.
fn check_signatures(
    text: &str,
    measured: &[Measured<'_>],
    key: Option<&PublicKey>,
    problems: &mut Vec<String>,
) -> Result<usize> {
    let signatures: Signatures = match serde_json::from_str(text) {
        Ok(signatures) => signatures,
        Err(error) => {
            problems.push(format!("{PCR_SIGNATURES} is no JSON of signatures: {error}"));
            return Ok(0);
        }
    };
    let banks: Vec<Bank> = signatures.keys().copied().collect();
    problems.extend(policy::faults(&signatures, &measure::predict(measured, &banks)?, key)?);
    Ok(signatures.values().map(Vec::len).sum())
}

fn public_key(sections: &[InspectedSection], problems: &mut Vec<String>) -> Option<PublicKey> {
    let text = sections.iter().find(|section| section.name == PCR_PUBLIC_KEY)?.text.as_deref()?;
    PublicKey::from_pem(text).inspect_err(|error| problems.push(format!("{PCR_PUBLIC_KEY}: {error:#}"))).ok()
}

fn line(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"').to_owned())
}
