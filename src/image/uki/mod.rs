//! Unified kernel images: a kernel, its initrd and what belongs to them in one EFI program, and what a TPM measures of it.
//!
//! In: the parts as files and text, and the stub that starts them. Out: a PE image in which each part is a section, and the
//! values that PCR 11 has while it boots. Specification:
//! <https://uapi-group.org/specifications/specs/unified_kernel_image/>; the stub is systemd-stub(7).

mod assemble;
mod command_line;
mod content;
mod findings;
mod image;
mod kernel;
mod keys;
mod measure;
mod policy;
mod sbat;
mod secure_boot;
mod stub;
mod token;

pub use assemble::{Parts, Plan, Profile, attach};
pub use content::{Content, NamedContent};
pub use image::{InspectedProfile, InspectedSection, Inspection, inspect, section};
pub use kernel::KernelImage;
pub use keys::{PolicyKeys, open_public_key};
pub use measure::{Bank, PHASES, Prediction, Predictions};
pub use policy::{
    Policy, PolicySignature, Signatures, faults as signature_faults, policies, policy_digest, signatures,
};
pub use secure_boot::{SignTool, Signer};

/// The sections with a meaning, in the order in which the stub measures them, whatever their order in the file: systemd's
/// `src/fundamental/uki.h`, which says not to change it. [`PCR_SIGNATURES`] is not measured, as it signs the measurements.
const MEASURED: [&str; 14] = [
    LINUX,
    OS_RELEASE,
    COMMAND_LINE,
    INITRD,
    MICROCODE,
    SPLASH,
    DEVICE_TREE,
    UNAME,
    SBAT,
    PCR_PUBLIC_KEY,
    PROFILE,
    ".dtbauto",
    ".hwids",
    ".efifw",
];

/// The kernel.
pub const LINUX: &str = ".linux";
/// The text of an os-release(5), which boot loaders take the name and the version from.
pub const OS_RELEASE: &str = ".osrel";
/// The kernel's command line.
pub const COMMAND_LINE: &str = ".cmdline";
/// The initrd.
pub const INITRD: &str = ".initrd";
/// A cpio with the processors' microcode, which goes before the initrd.
pub const MICROCODE: &str = ".ucode";
/// A picture in the format BMP, which is shown while it boots.
pub const SPLASH: &str = ".splash";
/// A compiled device tree.
pub const DEVICE_TREE: &str = ".dtb";
/// What `uname -r` says under that kernel.
pub const UNAME: &str = ".uname";
/// What generation its parts are of, for revocation: <https://github.com/rhboot/shim/blob/main/SBAT.md>.
pub const SBAT: &str = ".sbat";
/// Signatures of the values of PCR 11, in JSON.
pub const PCR_SIGNATURES: &str = ".pcrsig";
/// The public key that those signatures are checked with, in PEM.
pub const PCR_PUBLIC_KEY: &str = ".pcrpkey";
/// Begins a profile: the sections behind it take the place of those of the same name before the first profile.
pub const PROFILE: &str = ".profile";

/// What UEFI calls an architecture that rpm calls so, if there are unified kernel images for it.
pub fn machine(architecture: &str) -> Option<&'static str> {
    match architecture {
        "x86_64" => Some("x64"),
        "aarch64" => Some("aa64"),
        "riscv64" => Some("riscv64"),
        _ => None,
    }
}
