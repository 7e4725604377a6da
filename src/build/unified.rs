//! A kernel, its segments and the base's stub to a unified kernel image.

use anyhow::{Context, Result};
use std::path::PathBuf;

use crate::image::manifest::{Output, OutputPath};
use crate::image::tree;
use crate::image::uki::{self, Bank, Content, KernelImage, NamedContent, Parts, Plan, Predictions};
use ocinitrd_format::digest::Hasher;
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};

use super::Build;
use super::outputs::{WrittenFile, place};
use super::part::Part;
use super::plan::Format;
use super::stub::Stub;

/// The bank of PCRs that every TPM 2.0 has.
const BANK: Bank = Bank::Sha256;

/// What a unified kernel image is made of beside what the definition says.
pub struct Ingredients<'a> {
    /// What `uname -r` says under the kernel.
    pub version: &'a str,
    /// The kernel's image.
    pub kernel: tree::Content,
    /// The segments of the initrd in their order.
    pub segments: &'a [&'a Part],
    /// What starts it.
    pub stub: &'a Stub,
}

/// Writes the image. Also says what a TPM's PCR 11 will be.
///
/// # Errors
/// Fails when parts do not fit each other, and when something cannot be read or written.
pub fn write(build: &Build<'_>, ingredients: &Ingredients<'_>) -> Result<(WrittenFile, Predictions)> {
    let name = build.plan.output_name(Format::Uki, build.recipe.suffix(ingredients.version));
    let stage = build.context.progress.stage(&format!("joining {name}"), None);
    let parts = parts(build, ingredients)?;
    let plan = Plan::new(&parts)?;
    let predictions = plan.predict(&[BANK])?.pop().context("an image without boot profiles is one")?;
    let mut hasher = Hasher::new(OutputFile::create(&place(build.plan, &name), MODE_PRIVATE)?);
    plan.write(&[], &mut hasher)?;
    let (file, sha256, size_bytes) = hasher.finish();
    stage.finish("");
    Ok((WrittenFile { file, output: Output { path: OutputPath::new(name)?, size_bytes, sha256 } }, predictions))
}

fn parts(build: &Build<'_>, ingredients: &Ingredients<'_>) -> Result<Parts> {
    let (uki, stub) = (&build.plan.uki, ingredients.stub);
    let kernel = PathBuf::from(format!("/usr/lib/modules/{}/vmlinuz", ingredients.version));
    let segments = ingredients.segments.iter().map(|segment| segment.content.clone());
    Ok(Parts {
        stub: NamedContent { name: format!("/{}", stub.path).into(), content: stub.program.clone() },
        kernel: KernelImage::new(NamedContent { name: kernel, content: ingredients.kernel.clone() })?,
        // Microcode is its first segment: older stubs know no section for it.
        initrd: Some(Content::segments(segments)),
        microcode: None,
        command_line: uki.cmdline.clone(),
        os_release: Some(stub.os_release.clone()),
        uname: Some(ingredients.version.to_owned()),
        splash: uki.splash.as_deref().map(Content::file).transpose().context("reading [uki] splash")?,
        device_tree: None,
        sbat: uki.sbat.clone(),
        pcr_public_key: uki.pcrpkey.as_deref().map(uki::open_public_key).transpose()?.map(|key| key.to_pem()),
        profiles: Vec::new(),
    })
}
