//! An image, anyone's: what is in it, what a TPM will measure of it, and what is wrong with it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::findings::Findings;
use super::measure::{self, Bank, Measured, Predictions};
use super::policy::{self, Signatures};
use super::stub::Stub;
use super::{
    COMMAND_LINE, Content, MEASURED, NamedContent, OS_RELEASE, PCR_PUBLIC_KEY, PCR_SIGNATURES, PROFILE, SBAT, UNAME,
};
use crate::image::tree;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::os_release::OsRelease;
use ocinitrd_format::pe::{self, Image, Section};
use ocinitrd_format::rsa::PublicKey;
use ocinitrd_format::text::escaped_error;

/// The sections that hold text.
const TEXTS: [&str; 7] = [OS_RELEASE, COMMAND_LINE, UNAME, SBAT, PCR_PUBLIC_KEY, PCR_SIGNATURES, PROFILE];
/// The sections of which there may be several.
const REPEATABLE: [&str; 3] = [PROFILE, ".dtbauto", ".efifw"];
/// The stub takes no more: `UNIFIED_PROFILES_MAX` of systemd's `src/fundamental/uki.h`.
const MOST_PROFILES: usize = 256;
/// What sections may take of memory and not have in the file, all together: a kernel takes some 50 MB.
const MOST_ZEROS_BYTES: u64 = 512 << 20;
/// A text is shown up to this length, in bytes.
const MOST_TEXT_BYTES: u64 = 64 << 10;

/// What is in an image.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The machine that it is for: `x64`, `aa64`, ...
    pub machine: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Whether it carries signatures for Secure Boot, by their form. By whom, and whether they hold, only sbverify(1) says.
    pub signed: bool,
    /// In the order of the file.
    pub sections: Vec<InspectedSection>,
    /// The values of PCR 11: one of an image without profiles, else one for each; nothing where the headers contradict themselves.
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
    /// The digest of its contents in the file; none where the headers contradict themselves, and nothing is read therefore.
    pub sha256: Option<Digest>,
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
    let owners = owners(&image.sections);
    let mut problems = image.faults();
    problems.extend(repeated(&image.sections, &owners));
    let signed = image.has_certificates() && {
        let checked = image.check_signatures(file.reader());
        checked.inspect_err(|error| problems.push(format!("{error:#}"))).is_ok()
    };
    let mut contradictions = image.contradictions();
    contradictions.extend(too_much(&image, &owners));
    problems.extend(too_much(&image, &owners));
    let reader = Reader::new(&file, &image).with_context(of_file)?;
    let is_readable = contradictions.is_empty();
    let sections = image.sections.iter().zip(&owners);
    let sections = sections.map(|(section, owner)| reader.section(section, *owner, is_readable));
    let sections = sections.collect::<Result<Vec<_>>>().with_context(of_file)?;
    let (mut pcr11, mut remarks) = (Vec::new(), Vec::new());
    if is_readable {
        pcr11 = reader.profiles(&owners, &sections, banks, &mut problems)?;
        let findings = Findings::of(&image, &file, reader.stub).with_context(of_file)?;
        problems.extend(findings.problems);
        remarks = findings.remarks;
    }
    Ok(Inspection {
        machine: pe::machine_name(image.machine).map_or_else(|| format!("{:#x}", image.machine), str::to_owned),
        size_bytes: file.size_bytes(),
        signed,
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
    Ok(image.section(name).map(|section| content(&file, section)))
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

/// The sections of one name in one place, of which the stub takes the first.
fn repeated(sections: &[Section], owners: &[Option<usize>]) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for (section, owner) in sections.iter().zip(owners) {
        let name = section.name.as_str();
        if (MEASURED.contains(&name) || name == PCR_SIGNATURES) && !REPEATABLE.contains(&name) {
            *counts.entry((owner, name)).or_insert(0) += 1;
        }
    }
    let repeated = counts.into_iter().filter(|(_, count)| *count > 1);
    repeated
        .map(|((owner, name), count)| {
            let place = owner.map_or_else(String::new, |number| format!(" in its profile {number}"));
            format!("it has {count} sections {name}{place}: the stub takes the first, and others may take another")
        })
        .collect()
}

/// What makes an image cost more than its size says.
fn too_much(image: &Image, owners: &[Option<usize>]) -> Vec<String> {
    let mut faults = Vec::new();
    let profiles = owners.iter().flatten().max().map_or(0, |last| last + 1);
    if profiles > MOST_PROFILES {
        faults.push(format!("it has {profiles} profiles, and the stub takes {MOST_PROFILES}"));
    }
    let measured = image.sections.iter().filter(|section| MEASURED.contains(&section.name.as_str()));
    let zeros: u64 = measured.map(|section| u64::from(section.memory_bytes - section.content_bytes())).sum();
    if zeros > MOST_ZEROS_BYTES {
        faults.push(format!(
            "its sections take {zeros} bytes of memory more than they have in the file, and more than {MOST_ZEROS_BYTES} are not measured"
        ));
    }
    faults
}

/// What the file has of a section.
pub(super) fn content(file: &tree::Content, section: &Section) -> Content {
    file.part(section.file_offset.into(), section.content_bytes().into()).into()
}

/// The start of that as text.
pub(super) fn text(file: &tree::Content, section: &Section) -> Result<String> {
    let mut bytes = Vec::new();
    content(file, section).reader().take(MOST_TEXT_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
}

struct Reader<'a> {
    file: &'a tree::Content,
    stub: Stub,
    /// All sections of the image, in its order.
    measured: Vec<Measured<'a>>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a tree::Content, image: &'a Image) -> Result<Self> {
        let stub = Stub::of(image, file.reader())?;
        let measured =
            |section: &'a Section| Measured::new(&section.name, content(file, section), section.memory_bytes.into());
        Ok(Reader { file, stub, measured: image.sections.iter().map(measured).collect() })
    }

    fn section(&self, section: &Section, profile: Option<usize>, is_readable: bool) -> Result<InspectedSection> {
        let digest = || Digest::of_reader(content(self.file, section).reader()).map(|(digest, _)| digest);
        let sha256 = is_readable.then(digest).transpose();
        let sha256 = sha256.with_context(|| format!("reading the section {}", section.name))?;
        let has_text = is_readable && TEXTS.contains(&section.name.as_str());
        let text = has_text.then(|| text(self.file, section)).transpose()?;
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
            let id = own(PROFILE)
                .and_then(|section| OsRelease::parse(section.text.as_deref()?).value("ID").map(str::to_owned));
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
    fn measured(&self, owners: &[Option<usize>], number: Option<usize>) -> Vec<&Measured<'a>> {
        let owned = |owner: Option<usize>| self.measured.iter().zip(owners).filter(move |(_, one)| **one == owner);
        let own = if number.is_some() { Some(owned(number)) } else { None };
        let sections = own.into_iter().flatten().chain(owned(None)).map(|(section, _)| section);
        sections.filter(|section| self.stub.looks_for(section.name)).collect()
    }
}

/// How many signatures the text of a `.pcrsig` has; what is wrong with them is added to `problems`.
fn check_signatures(
    text: &str,
    measured: &[&Measured<'_>],
    key: Option<&PublicKey>,
    problems: &mut Vec<String>,
) -> Result<usize> {
    let signatures: Signatures = match serde_json::from_str(text) {
        Ok(signatures) => signatures,
        Err(error) => {
            problems.push(format!("{PCR_SIGNATURES} is no JSON of signatures: {}", escaped_error(error)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use ocinitrd_format::pe::fixture;

    fn inspected(bytes: &[u8], banks: &[Bank]) -> Inspection {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.efi");
        std::fs::write(&path, bytes).unwrap();
        inspect(&path, banks).unwrap()
    }

    fn problems(bytes: &[u8]) -> Vec<String> {
        inspected(bytes, &[Bank::Sha256]).problems
    }

    #[test]
    fn a_section_that_is_there_twice_is_a_problem_unless_there_may_be_several() {
        let told = |sections: &[(&str, &[u8], u32)]| {
            let problems = problems(&fixture::image(sections, 0));
            problems.into_iter().filter(|problem| problem.contains("sections")).collect::<Vec<_>>()
        };
        let twice = "it has 2 sections .linux: the stub takes the first, and others may take another";
        assert_eq!(told(&[(".linux", b"one", 3), (".linux", b"two", 3)]), [twice]);
        let profile = (PROFILE, &b"ID=x"[..], 4);
        let own = (COMMAND_LINE, &b"quiet"[..], 5);
        assert_eq!(told(&[own, profile, own, (".dtbauto", b"1", 1), (".dtbauto", b"2", 1), profile, own]), [""; 0]);
        let twice =
            "it has 2 sections .cmdline in its profile 1: the stub takes the first, and others may take another";
        assert_eq!(told(&[profile, own, profile, own, own]), [twice]);
        for name in MEASURED.iter().chain([&PCR_SIGNATURES]) {
            let is_told = !told(&[(name, b"1", 1), (name, b"2", 1)]).is_empty();
            assert_eq!(is_told, !REPEATABLE.contains(name), "{name}");
        }
        // What the stub does not know is nobody's business.
        assert_eq!(told(&[(".data", b"1", 1), (".data", b"2", 1)]), [""; 0]);
    }

    #[test]
    fn signed_is_what_has_a_signature_by_its_form() {
        let unsigned = fixture::image(&[(".linux", b"kernel", 6)], 0);
        assert!(!inspected(&unsigned, &[]).signed);
        let mut signed = unsigned.clone();
        fixture::sign(&mut signed);
        assert!(inspected(&signed, &[]).signed);
        fixture::set_certificates(&mut signed, u32::MAX - 7, 8);
        let inspection = inspected(&signed, &[]);
        let problem = "its table of certificates ends at byte 4294967296, and the file has ";
        assert!(!inspection.signed && inspection.problems[0].starts_with(problem), "{:?}", inspection.problems);
    }

    /// Nothing of these could be hashed in the time of a test.
    #[test]
    fn what_headers_contradict_is_told_and_not_hashed() {
        let empty = |address: u32| [(".linux", address), (".initrd", address)];
        for (sections, expected) in [
            (&empty(0x1000)[..], "the sections .linux and .initrd overlap in memory"),
            (&empty(0x1000)[..1], "its sections take 4294963200 bytes of memory more than they have in the file"),
        ] {
            let mut bytes =
                fixture::image(&sections.iter().map(|(name, _)| (*name, &b""[..], 0)).collect::<Vec<_>>(), 0);
            for (number, (_, address)) in sections.iter().enumerate() {
                let line = fixture::table_line(number);
                bytes[line + 8..line + 12].copy_from_slice(&(u32::MAX - 0xfff).to_le_bytes());
                bytes[line + 12..line + 16].copy_from_slice(&address.to_le_bytes());
            }
            // The size of the image.
            let optional = fixture::table_line(0) - 240;
            bytes[optional + 56..optional + 60].copy_from_slice(&u32::MAX.to_le_bytes());
            let inspection = inspected(&bytes, &Bank::ALL);
            assert!(inspection.problems.iter().any(|problem| problem.contains(expected)), "{:?}", inspection.problems);
            assert!(inspection.pcr11.is_empty() && inspection.sections.iter().all(|section| section.sha256.is_none()));
        }
    }

    #[test]
    fn more_profiles_than_the_stub_takes_are_a_problem() {
        let profiles = |count: usize| vec![(PROFILE, &b"ID=x"[..], 4); count];
        assert_eq!(inspected(&fixture::image(&profiles(256), 0), &[Bank::Sha256]).pcr11.len(), 256);
        let inspection = inspected(&fixture::image(&profiles(257), 0), &[Bank::Sha256]);
        assert_eq!(inspection.problems, ["it has 257 profiles, and the stub takes 256"]);
    }

    /// A section of the file that all profiles have is read once for a bank, so that the profiles cost nothing more.
    #[test]
    fn profiles_share_what_was_measured() {
        let image = fixture::image(&[(".initrd", &[1; 5000], 5000), (PROFILE, b"ID=a", 4), (PROFILE, b"ID=b", 4)], 0);
        let content = tree::Content::from_bytes(image.as_slice());
        let parsed = Image::read(&mut content.reader()).unwrap();
        let reader = Reader::new(&content, &parsed).unwrap();
        let owners = owners(&parsed.sections);
        let shared = |number: usize| {
            let measured = reader.measured(&owners, Some(number));
            std::ptr::from_ref(*measured.iter().find(|section| section.name == ".initrd").unwrap())
        };
        assert_eq!(shared(0), shared(1));
    }
}
