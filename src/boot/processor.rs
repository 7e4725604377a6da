//! The processor that a guest is given: what the programs of an initrd were built for in, QEMU's model and kernel options out.
//!
//! Distributions build for one of the levels of x86-64, and glibc ends every program on a processor of a lower one. What a program
//! needs is in a note of it (`GNU_PROPERTY_X86_ISA_1_NEEDED`), which the files have that a compiler links to each, so that the first
//! programs of an initrd and its C library speak for the rest.
//!
//! From the second level on a processor has cmpxchg16b, and that is what QEMU's translation gets wrong (7.2: flags are corrupted
//! after it, and the kernel panics at random, since its allocator uses it). A guest whose programs do not ask for it is given a
//! processor without; where they do, a kernel option disables it. The cost: the kernel marks itself as tainted, and programs that
//! use the instruction themselves may still be translated wrongly; glibc does not use it.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use object::elf::{
    GNU_PROPERTY_X86_ISA_1_NEEDED, GNU_PROPERTY_X86_ISA_1_V2, GNU_PROPERTY_X86_ISA_1_V3, GNU_PROPERTY_X86_ISA_1_V4,
};
use object::read::elf::{ElfFile64, ProgramHeader};

use crate::analysis::inspect::{self, Limits};
use ocinitrd_support::process::Program;
use ocinitrd_support::regular_file;

/// The C library, the dynamic loader, and the first programs have a few mebibytes together.
const PROGRAMS_MAX_BYTES: u64 = 64 << 20;

/// The first QEMU whose translation has AVX2 and the like.
const VERSION_WITH_V3: (u32, u32) = (7, 2);

/// A level of the architecture, by the supplement of its ABI.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Every processor has it.
    #[default]
    V1,
    /// With SSE4.2 and cmpxchg16b.
    V2,
    /// With AVX2.
    V3,
    /// With AVX-512.
    V4,
}

/// What /proc/cpuinfo calls the features that a level adds.
const FEATURES: &[(Level, &[&str])] = &[
    (Level::V2, &["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]),
    (Level::V3, &["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"]),
    (Level::V4, &["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"]),
];

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Level::V1 => "x86-64",
            Level::V2 => "x86-64-v2",
            Level::V3 => "x86-64-v3",
            Level::V4 => "x86-64-v4",
        })
    }
}

impl Level {
    /// Returns the level that the programs of an initrd need. An initrd that cannot be read counts as the lowest: its boot shows why.
    pub fn of_initrd(initrd: &Path) -> Level {
        let read = regular_file::open(initrd)
            .map_err(Into::into)
            .and_then(|file| inspect::inspect_and_read(file, &Limits::default(), PROGRAMS_MAX_BYTES, speaks_for_all));
        let programs = read.map(|(_, programs)| programs).unwrap_or_default();
        programs.values().map(|program| Level::of_program(program)).max().unwrap_or_default()
    }

    /// What a program or library needs; nothing, where it does not say, and where it is none.
    fn of_program(bytes: &[u8]) -> Level {
        let Some(needed) = needed(bytes) else { return Level::V1 };
        let levels = [
            (GNU_PROPERTY_X86_ISA_1_V4, Level::V4),
            (GNU_PROPERTY_X86_ISA_1_V3, Level::V3),
            (GNU_PROPERTY_X86_ISA_1_V2, Level::V2),
        ];
        levels.iter().find(|(bit, _)| needed & bit != 0).map_or(Level::V1, |(_, level)| *level)
    }

    /// What the first processor in the text of /proc/cpuinfo has.
    pub fn of_processors(cpuinfo: &str) -> Level {
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        let has = |feature: &&str| flags.split_whitespace().any(|flag| flag == *feature);
        let levels = FEATURES.iter().take_while(|(_, features)| features.iter().all(has));
        levels.last().map_or(Level::V1, |(level, _)| *level)
    }

    /// QEMU's model of a processor for its translation.
    pub fn translated_model(self) -> &'static str {
        // Not la57 either: page tables of five levels are as many steps more for each access that is translated.
        if self < Level::V2 { "max,cx16=off,la57=off" } else { "max,la57=off" }
    }

    /// The options of a kernel that runs on that model.
    pub fn translated_kernel_options(self) -> &'static str {
        // cx16 by its number, word 4 and bit 13, which kernels before 5.18 want.
        if self < Level::V2 { "" } else { "clearcpuid=141" }
    }

    /// Whether the translation of this QEMU has the level.
    ///
    /// # Errors
    /// Fails where it does not, and where QEMU does not tell its version.
    pub fn check_translation(self, qemu: &Path) -> Result<()> {
        match self {
            Level::V1 | Level::V2 => Ok(()),
            Level::V3 => {
                let said = Program::new(qemu).args(["--version"]).run()?;
                check_version(version(&said), &said)
            }
            Level::V4 => bail!(
                "the programs of the initrd need a processor with {self}, which neither KVM on this host nor QEMU's translation \
                 has: boot it on a host that has one"
            ),
        }
    }
}

fn check_version(found: Option<(u32, u32)>, said: &str) -> Result<()> {
    if found.is_none_or(|found| found < VERSION_WITH_V3) {
        let (major, minor) = VERSION_WITH_V3;
        bail!(
            "the programs of the initrd need a processor with {}, which KVM on this host does not offer and QEMU's translation has \
             from {major}.{minor} on; this is {}",
            Level::V3,
            said.lines().next().unwrap_or_default()
        );
    }
    Ok(())
}

/// From `QEMU emulator version 7.2.22 (...)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let text = said.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Whether the file at a path, without a leading slash, is a C library, its loader, or what starts first. Variants of libraries
/// for other levels lie in directories of their own, and programs do without.
fn speaks_for_all(path: &[u8]) -> bool {
    let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    };
    let begins = [&b"ld-"[..], b"libc.so", b"libc-"].iter().any(|start| name.starts_with(start));
    let is_first = [&b"init"[..], b"systemd", b"bash", b"dash", b"busybox"].contains(&name);
    (begins || is_first) && !directory.windows(b"hwcaps".len()).any(|part| part == b"hwcaps")
}

/// The bits of the note in a 64-bit ELF file.
fn needed(bytes: &[u8]) -> Option<u32> {
    let file: ElfFile64<'_> = ElfFile64::parse(bytes).ok()?;
    let endian = file.endian();
    for header in file.elf_program_headers() {
        let Ok(Some(mut notes)) = header.notes(endian, bytes) else { continue };
        while let Ok(Some(note)) = notes.next() {
            let properties = note.gnu_properties(endian).into_iter().flatten().flatten();
            let mut needed = properties.filter(|property| property.pr_type() == GNU_PROPERTY_X86_ISA_1_NEEDED);
            if let Some(bits) = needed.next().and_then(|property| property.data_u32(endian).ok()) {
                return Some(bits);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file that is nothing but a header and a note with this property.
    fn program(needed: Option<u32>) -> Vec<u8> {
        let mut property = Vec::new();
        for word in [0xc001_0002, 4, 0xf, 0, 0xc000_8002, 4, needed.unwrap_or_default(), 0_u32] {
            property.extend(word.to_le_bytes());
        }
        let property = &property[..if needed.is_some() { 32 } else { 16 }];
        let mut note = Vec::new();
        for word in [4, u32::try_from(property.len()).unwrap(), 5] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"GNU\0");
        note.extend(property);
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for half in [2_u16, 62] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1_u32.to_le_bytes());
        for long in [0_u64, 64, 0] {
            file.extend(long.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 1, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        // PT_NOTE, readable.
        for word in [4_u32, 4] {
            file.extend(word.to_le_bytes());
        }
        let size = note.len() as u64;
        for long in [120_u64, 0, 0, size, size, 8] {
            file.extend(long.to_le_bytes());
        }
        file.extend(note);
        file
    }

    #[test]
    fn a_program_says_which_level_it_needs() {
        for (bits, level) in
            [(1, Level::V1), (0b11, Level::V2), (0b111, Level::V3), (0b1111, Level::V4), (0b100, Level::V3)]
        {
            assert_eq!(Level::of_program(&program(Some(bits))), level, "{bits:#b}");
        }
        assert_eq!(Level::of_program(&program(None)), Level::V1);
        assert_eq!(Level::of_program(b"#!/bin/sh\n"), Level::V1);
        let mut cut = program(Some(0b111));
        cut.truncate(150);
        assert_eq!(Level::of_program(&cut), Level::V1);
    }

    #[test]
    fn the_c_library_and_the_first_programs_speak_for_all() {
        for path in [
            "usr/lib64/libc.so.6",
            "usr/lib64/ld-linux-x86-64.so.2",
            "lib64/ld-2.34.so",
            "usr/lib/systemd/systemd",
            "init",
        ] {
            assert!(speaks_for_all(path.as_bytes()), "{path}");
        }
        for path in [
            "usr/lib64/glibc-hwcaps/x86-64-v3/libc.so.6",
            "usr/lib64/libm.so.6",
            "usr/bin/systemd-run",
            "etc/systemd/x",
        ] {
            assert!(!speaks_for_all(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_processor_has_a_level_whose_features_and_those_below_it_has_all() {
        let flags = |levels: usize, but: &str| {
            let features = FEATURES.iter().take(levels).flat_map(|(_, features)| features.iter());
            let features: Vec<&str> = features.copied().filter(|feature| *feature != but).collect();
            Level::of_processors(&format!("processor\t: 0\nflags\t\t: fpu {}\nbugs\t\t:\n", features.join(" ")))
        };
        assert_eq!([0, 1, 2, 3].map(|levels| flags(levels, "")), [Level::V1, Level::V2, Level::V3, Level::V4]);
        assert_eq!([flags(3, "avx512f"), flags(3, "movbe"), flags(3, "cx16")], [Level::V3, Level::V2, Level::V1]);
    }

    #[test]
    fn translation_leaves_out_the_instruction_that_it_gets_wrong_or_the_kernel_does() {
        assert_eq!(
            (Level::V1.translated_model(), Level::V1.translated_kernel_options()),
            ("max,cx16=off,la57=off", "")
        );
        for level in [Level::V2, Level::V3] {
            assert_eq!(
                (level.translated_model(), level.translated_kernel_options()),
                ("max,la57=off", "clearcpuid=141")
            );
        }
        let error = Level::V4.check_translation(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("x86-64-v4"), "{error}");
    }

    #[test]
    fn qemu_before_7_2_has_no_third_level() {
        for (said, found) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright\n", Some((7, 2))),
            ("QEMU emulator version 10.0.2 (qemu-10.0.2-1.fc42)\n", Some((10, 0))),
            ("QEMU emulator version 6.2.0\n", Some((6, 2))),
            ("QEMU\n", None),
        ] {
            assert_eq!(version(said), found, "{said}");
            assert_eq!(check_version(found, said).is_ok(), found.is_some_and(|found| found >= (7, 2)), "{said}");
        }
        let error = check_version(Some((6, 2)), "QEMU emulator version 6.2.0\nCopyright\n").unwrap_err().to_string();
        assert!(
            error.contains("x86-64-v3") && error.ends_with("from 7.2 on; this is QEMU emulator version 6.2.0"),
            "{error}"
        );
    }
}
