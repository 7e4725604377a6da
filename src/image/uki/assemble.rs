//! Parts to an image.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::command_line;
use super::measure::{self, Bank, Measured, Predictions};
use super::sbat;
use super::stub::Stub;
use super::{
    COMMAND_LINE, Content, DEVICE_TREE, INITRD, KernelImage, LINUX, MICROCODE, NamedContent, OS_RELEASE,
    PCR_PUBLIC_KEY, PCR_SIGNATURES, PROFILE, SBAT, SPLASH, UNAME,
};
use ocinitrd_format::pe::{self, Copy, Image, NewSection};
use ocinitrd_support::regular_file;

/// What becomes an image. Nothing is taken from the machine that it is made on.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The EFI program that starts the kernel.
    pub stub: NamedContent,
    /// The kernel.
    pub kernel: KernelImage,
    /// Its initrd.
    pub initrd: Option<Content>,
    /// A cpio with microcode, not compressed.
    pub microcode: Option<Content>,
    /// Its command line.
    pub command_line: Option<String>,
    /// The text of an os-release(5).
    pub os_release: Option<String>,
    /// What `uname -r` says under the kernel.
    pub uname: Option<String>,
    /// A picture in the format BMP.
    pub splash: Option<Content>,
    /// A compiled device tree.
    pub device_tree: Option<Content>,
    /// Lines for `.sbat` beside those of stub and kernel; where there are none, one says that it is a unified kernel image.
    pub sbat: Vec<String>,
    /// The key that signatures of PCR 11 are checked with, in PEM.
    pub pcr_public_key: Option<String>,
    /// What the boot loader offers of the image; the first is what is booted where nothing is chosen.
    pub profiles: Vec<Profile>,
}

/// One of several ways to boot an image.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Profile {
    /// What it is called in `ID=`.
    pub id: String,
    /// What people see, in `TITLE=`.
    pub title: String,
    /// Its command line, in place of that of the image.
    pub command_line: Option<String>,
}

impl Profile {
    fn text(&self) -> String {
        format!("ID={}\nTITLE={}\n", self.id, self.title)
    }
}

/// A section before it has a place.
struct Planned {
    name: &'static str,
    content: Content,
}

impl Planned {
    fn new(name: &'static str, content: Content) -> Self {
        Planned { name, content }
    }
}

/// An image of which all is known but the signatures of its PCR values.
pub struct Plan<'a> {
    parts: &'a Parts,
    stub: Image,
    sbat: String,
    base: Vec<Planned>,
    /// The sections of each profile.
    profiles: Vec<Vec<Planned>>,
}

impl<'a> Plan<'a> {
    /// Checks the parts against each other.
    ///
    /// # Errors
    /// Fails on a stub that cannot be read, that is signed or too old, or that is for another machine than the kernel, on a name
    /// of a kernel that is not its own, and on a command line that would not reach the kernel as it is.
    pub fn new(parts: &'a Parts) -> Result<Self> {
        let (stub, own_sbat) = read_stub(&parts.stub)?;
        let (of_stub, of_kernel) = (stub.machine, parts.kernel.pe.machine);
        if of_stub != of_kernel {
            let name = |machine| pe::machine_name(machine).map_or_else(|| format!("{machine:#x}"), str::to_owned);
            let (stub, kernel) = (parts.stub.name.display(), parts.kernel.file.name.display());
            bail!("the stub {stub} is for {}, and the kernel {kernel} for {}", name(of_stub), name(of_kernel));
        }
        if let (Some(given), Some(own)) = (&parts.uname, &parts.kernel.version) {
            let kernel = parts.kernel.file.name.display();
            ensure!(given == own, "the kernel {kernel} calls itself {own}, and not {given}");
        }
        check_command_lines(parts)?;
        let default = [sbat::DEFAULT.to_owned()];
        let lines = if parts.sbat.is_empty() { &default[..] } else { &parts.sbat };
        let texts = [own_sbat.as_deref(), parts.kernel.sbat.as_deref()].into_iter().flatten();
        let sbat = sbat::merge(texts.chain(lines.iter().map(String::as_str)));
        let mut plan = Plan { parts, stub, sbat, base: Vec::new(), profiles: Vec::new() };
        plan.base = plan.base_sections(own_sbat.is_some());
        plan.profiles = parts.profiles.iter().map(profile_sections).collect();
        plan.check_stub()?;
        Ok(plan)
    }

    /// Refuses a stub that would not do what this image is made for.
    fn check_stub(&self) -> Result<()> {
        let NamedContent { name, content } = &self.parts.stub;
        let check = || -> Result<()> {
            let stub = Stub::of(&self.stub, content.reader())?;
            stub.check()?;
            self.base
                .iter()
                .chain(self.profiles.iter().flatten())
                .try_for_each(|section| stub.check_section(section.name))
        };
        check().with_context(|| format!("the stub {}", name.display()))
    }

    /// In the order in which ukify writes them.
    fn base_sections(&self, stub_has_sbat: bool) -> Vec<Planned> {
        let parts = self.parts;
        let text = |text: &Option<String>| text.as_deref().map(Content::text);
        let uname = parts.uname.as_ref().or(parts.kernel.version.as_ref()).map(|name| Content::text(name));
        let kernel = parts.kernel.file.content.clone().into();
        let sbat = (!stub_has_sbat).then(|| Content::text(&self.sbat));
        let contents = [
            (OS_RELEASE, text(&parts.os_release)),
            (COMMAND_LINE, parts.command_line.as_deref().map(command_line::content)),
            (DEVICE_TREE, parts.device_tree.clone()),
            (UNAME, uname),
            (SPLASH, parts.splash.clone()),
            (PCR_PUBLIC_KEY, text(&parts.pcr_public_key)),
            (INITRD, parts.initrd.clone()),
            (MICROCODE, parts.microcode.clone()),
            (LINUX, Some(kernel)),
            (SBAT, sbat),
        ];
        // What is empty has no section: shim takes one without memory for a damaged one.
        let planned = |(name, content): (&'static str, Option<Content>)| {
            content.filter(|content| content.size_bytes() > 0).map(|content| Planned::new(name, content))
        };
        contents.into_iter().filter_map(planned).collect()
    }

    /// How many signatures [`Plan::write`] may be given: one for each profile, or one for an image without.
    pub fn variants(&self) -> usize {
        self.profiles.len().max(1)
    }

    /// What PCR 11 will be, for each profile, or once for an image without.
    ///
    /// # Errors
    /// Fails when a part cannot be read.
    pub fn predict(&self, banks: &[Bank]) -> Result<Vec<Predictions>> {
        let mut base: Vec<Measured<'_>> = self.base.iter().map(measured).collect();
        // It takes the place of the stub's own.
        if !base.iter().any(|section| section.name == SBAT) {
            base.push(Measured::new(SBAT, Content::text(&self.sbat), self.sbat.len() as u64));
        }
        (0..self.variants())
            .map(|number| {
                let own: Vec<Measured<'_>> = self.profiles.get(number).into_iter().flatten().map(measured).collect();
                // Where there are two of a name, the first counts.
                measure::predict(&own.iter().chain(&base).collect::<Vec<_>>(), banks)
            })
            .collect()
    }

    /// Writes the image. `signatures` has the texts of `.pcrsig`, as many as [`Plan::variants`], or none.
    ///
    /// # Errors
    /// Fails when a part cannot be read or has changed, when `writer` fails, and when the image would be larger than 4 GiB.
    pub fn write(&self, signatures: &[String], writer: &mut impl Write) -> Result<()> {
        let replaced = if self.base.iter().any(|section| section.name == SBAT) {
            Vec::new()
        } else {
            vec![(SBAT, self.sbat.clone().into_bytes())]
        };
        let signed = |text: &String| Planned::new(PCR_SIGNATURES, Content::text(text));
        let signatures: Vec<Planned> = signatures.iter().map(signed).collect();
        let mut sections: Vec<&Planned> = self.base.iter().collect();
        for number in 0..self.variants() {
            sections.extend(self.profiles.get(number).into_iter().flatten());
            sections.extend(signatures.get(number));
        }
        let stub = &self.parts.stub;
        let mut new: Vec<NewSection<'_>> = sections.into_iter().map(new_section).collect();
        for kernel in new.iter_mut().filter(|section| section.name == LINUX) {
            // Not as memory of the section: shim and firmware would take that for a part of a signed kernel.
            kernel.reserved_bytes = self.parts.kernel.reserved_bytes();
        }
        let in_stub = || format!("adding to the stub {}", stub.name.display());
        let copy = Copy::new(&self.stub, replaced, new).with_context(in_stub)?;
        copy.write(&mut stub.content.reader(), writer).context("writing the unified kernel image")
    }
}

/// Writes a copy of the image at `path` with a section [`PCR_SIGNATURES`].
///
/// # Errors
/// Fails when the image cannot be read, has such a section or boot profiles, and when `writer` fails.
pub fn attach(path: &Path, signatures: &str, writer: &mut impl Write) -> Result<()> {
    let of_file = || format!("adding to {}", path.display());
    let mut reader = regular_file::open(path).with_context(of_file)?;
    let image = Image::read(&mut reader).with_context(of_file)?;
    let has_some = image.section(PCR_SIGNATURES).is_some();
    ensure!(!has_some, "{} has signatures of PCR 11 already", path.display());
    let several = "each of its boot profiles takes signatures of its own: build it with --pcr-private-key";
    ensure!(image.section(PROFILE).is_none(), "{}: {several}", path.display());
    let section = Planned::new(PCR_SIGNATURES, Content::text(signatures));
    let copy = Copy::new(&image, Vec::new(), vec![new_section(&section)]).with_context(of_file)?;
    copy.write(&mut reader, writer).with_context(of_file)
}

fn profile_sections(profile: &Profile) -> Vec<Planned> {
    let command_line =
        profile.command_line.as_deref().map(|text| Planned::new(COMMAND_LINE, command_line::content(text)));
    [Planned::new(PROFILE, Content::text(&profile.text()))].into_iter().chain(command_line).collect()
}

fn measured(section: &Planned) -> Measured<'_> {
    Measured::new(section.name, section.content.clone(), section.content.size_bytes())
}

fn new_section(section: &Planned) -> NewSection<'_> {
    NewSection {
        name: section.name,
        content: section.content.reader(),
        content_bytes: section.content.size_bytes(),
        reserved_bytes: 0,
        is_code: section.name == LINUX,
    }
}

fn check_command_lines(parts: &Parts) -> Result<()> {
    let most = parts.kernel.most_command_line_bytes;
    if let Some(text) = &parts.command_line {
        command_line::check(text, most).context("the command line")?;
    }
    for profile in &parts.profiles {
        let text = profile.command_line.as_deref().unwrap_or_default();
        command_line::check(text, most)
            .with_context(|| format!("the command line of the boot profile {}", profile.id))?;
    }
    Ok(())
}

/// The stub, and the text of its own `.sbat`.
fn read_stub(stub: &NamedContent) -> Result<(Image, Option<String>)> {
    let read = || -> Result<_> {
        let image = Image::read(&mut stub.content.reader())?;
        let sbat = image.text(SBAT, stub.content.reader())?;
        Ok((image, sbat))
    };
    read().with_context(|| format!("reading the stub {}", stub.name.display()))
}
