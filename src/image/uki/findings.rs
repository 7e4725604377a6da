//! What of an image, anyone's, its stub or its kernel would stumble on.

use anyhow::{Context, Result};

use super::command_line;
use super::image::{content, text};
use super::kernel::{self, Headers};
use super::stub::Stub;
use super::{COMMAND_LINE, LINUX, OS_RELEASE, PROFILE, SBAT, UNAME};
use crate::image::tree;
use ocinitrd_format::pe::{Image, Section};
use ocinitrd_format::text::quoted;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is wrong.
    pub problems: Vec<String>,
    /// What may be meant as it is.
    pub remarks: Vec<String>,
}

impl Findings {
    /// Looks at an image whose headers do not contradict themselves.
    ///
    /// # Errors
    /// Fails when reading does.
    pub fn of(image: &Image, file: &tree::Content, stub: Stub) -> Result<Self> {
        let mut findings = Findings::default();
        let Some(linux) = image.section(LINUX) else {
            findings.problems.push(format!("it has no section {LINUX}: it is no unified kernel image"));
            return Ok(findings);
        };
        if image.section(OS_RELEASE).is_none() {
            findings.remarks.push(format!("it has no section {OS_RELEASE}: boot loaders do not list it"));
        }
        findings.add_of_stub(image, stub);
        let headers = kernel::headers(content(file, linux).reader()).context("reading the kernel in it")?;
        match &headers.pe {
            None => findings.problems.push("its kernel is no EFI program".to_owned()),
            Some(kernel) => {
                findings.remarks.extend(room(image, linux, kernel).filter(|_| stub.may_start_in_place()));
                findings.remarks.extend(false_signature(linux, kernel));
            }
        }
        findings.problems.extend(other_name(image, file, &headers)?);
        for section in image.sections.iter().filter(|section| section.name == COMMAND_LINE) {
            let checked = command_line::check(&text(file, section)?, headers.most_command_line_bytes);
            findings.problems.extend(checked.err().map(|error| format!("its command line: {error}")));
        }
        Ok(findings)
    }

    /// Sections that its stub passes over. That of profiles is a problem: what is behind it counts as if it stood before.
    fn add_of_stub(&mut self, image: &Image, stub: Stub) {
        let mut names: Vec<&str> = image.sections.iter().map(|section| section.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        // These two are there for others, too.
        for name in names.into_iter().filter(|name| ![SBAT, UNAME].contains(name)) {
            let Err(error) = stub.check_section(name) else { continue };
            let told = format!("its stub: {error}");
            if name == PROFILE { self.problems.push(told) } else { self.remarks.push(told) }
        }
    }
}

/// What an old kernel would overwrite.
fn room(image: &Image, linux: &Section, kernel: &Image) -> Option<String> {
    let (needed, room) = (kernel.size_of_image, image.room_bytes(linux));
    (kernel::may_start_in_place(kernel) && needed > room).then(|| {
        format!(
            "its kernel is of before Linux 5.8, takes {needed} bytes of memory and has {room}: its stub may start it in place and let \
             it overwrite what follows"
        )
    })
}

/// Who checks the kernel's signature takes all memory of the section for its file, and the table of certificates for the end of that.
fn false_signature(linux: &Section, kernel: &Image) -> Option<String> {
    let end = u64::from(kernel.signatures.0) + u64::from(kernel.signatures.1);
    (kernel.has_certificates() && end != u64::from(linux.memory_bytes)).then(|| {
        format!(
            "its kernel is signed, its signature ends at byte {end}, and {LINUX} has {} bytes of memory: shim and firmware that check \
             the kernel refuse it, though the file in it may be sound",
            linux.memory_bytes
        )
    })
}

fn other_name(image: &Image, file: &tree::Content, headers: &Headers) -> Result<Option<String>> {
    let named = image.section(UNAME).map(|section| text(file, section)).transpose()?;
    let (Some(named), Some(version)) = (named, &headers.version) else { return Ok(None) };
    let (named, version) = (named.trim(), version.as_str());
    Ok((named != version).then(|| {
        format!("{UNAME} says {}, and its kernel calls itself {}", quoted(named.as_bytes()), quoted(version.as_bytes()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocinitrd_format::pe::fixture;

    const MAGIC: &[u8] = b"#### LoaderInfo: systemd-stub 255 ####";

    fn found(sections: &[(&str, &[u8], u32)]) -> Findings {
        let file = tree::Content::from_bytes(fixture::image(sections, 0));
        let image = Image::read(&mut file.reader()).unwrap();
        let stub = Stub::of(&image, file.reader()).unwrap();
        Findings::of(&image, &file, stub).unwrap()
    }

    fn kernel(version: u16) -> Vec<u8> {
        let mut kernel = fixture::image(&[(".text", b"code", 0x5000)], 0);
        fixture::set_image_version(&mut kernel, version);
        kernel
    }

    fn found_of_kernel(kernel: &[u8], memory_bytes: u32) -> Findings {
        found(&[(OS_RELEASE, b"ID=x", 4), (LINUX, kernel, memory_bytes), (".initrd", b"initrd", 6)])
    }

    #[test]
    fn memory_behind_the_kernel_is_missed_by_old_ones_alone() {
        let (old, new) = (kernel(0), kernel(1));
        let size = old.len() as u32;
        let expected = "its kernel is of before Linux 5.8, takes 24576 bytes of memory and has 4096: ";
        let findings = found_of_kernel(&old, size);
        assert!(findings.problems.is_empty() && findings.remarks[0].starts_with(expected), "{findings:?}");
        for (kernel, memory) in [(&old, 0x6000), (&new, size)] {
            let findings = found_of_kernel(kernel, memory);
            assert!(findings.problems.is_empty() && findings.remarks.is_empty(), "{findings:?}");
        }
        let of_newer = [(OS_RELEASE, &b"ID=x"[..], 4), (LINUX, &old, size), (".sdmagic", &MAGIC_258[..], 38)];
        assert!(found(&of_newer).remarks.is_empty());
    }

    const MAGIC_258: &[u8; 38] = b"#### LoaderInfo: systemd-stub 258 ####";

    #[test]
    fn a_signed_kernel_with_zeros_behind_it_is_told() {
        let mut signed = kernel(1);
        fixture::sign(&mut signed);
        let size = signed.len() as u32;
        assert!(found_of_kernel(&signed, size).remarks.is_empty());
        let findings = found_of_kernel(&signed, size + 1);
        let expected =
            format!("its kernel is signed, its signature ends at byte {size}, and .linux has {} bytes", size + 1);
        assert!(findings.problems.is_empty() && findings.remarks[0].starts_with(&expected), "{findings:?}");
    }

    #[test]
    fn what_an_old_stub_passes_over_is_told() {
        let kernel = kernel(1);
        let size = kernel.len() as u32;
        let usual = [(OS_RELEASE, &b"ID=x"[..], 4), (".sdmagic", MAGIC, MAGIC.len() as u32), (LINUX, &kernel, size)];
        let findings = found(&[&usual[..], &[(UNAME, b"6", 1), (".ucode", b"u", 1), (PROFILE, b"ID=x", 4)]].concat());
        let told = |name, since| {
            [format!("its stub: it is of systemd 255, which passes over {name}: take one of systemd {since} or later")]
        };
        assert_eq!((findings.problems, findings.remarks), (told(".profile", 257).into(), told(".ucode", 256).into()));
    }

    #[test]
    fn a_command_line_that_does_not_reach_the_kernel_is_a_problem() {
        let kernel = kernel(1);
        let problems = |text: &[u8]| {
            let sections = [(LINUX, &kernel[..], kernel.len() as u32), (COMMAND_LINE, text, text.len() as u32)];
            found(&sections).problems
        };
        assert_eq!(problems(b"root=a\0\0"), [""; 0]);
        assert!(problems(b"rw\0a")[0].starts_with("its command line: it has a NUL as its byte 3"));
        let long = "a".repeat(2048);
        assert!(
            problems(long.as_bytes())[0].starts_with("its command line: it has 2048 bytes, and the kernel takes 2047")
        );
    }
}
