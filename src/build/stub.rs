//! What the base's packages bring for unified kernel images: the program that starts the kernel, and the system's name.
//!
//! Both are in the installed tree. The program is no part of an initrd, so the base segment lacks it; the cache keeps it by
//! itself, as reading the whole tree once more takes a second.

use std::io;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::image::tree::{Content, Tree};
use crate::image::uki;
use crate::packages::cache::{self, Cache, Kind};
use ocinitrd_format::architecture;
use ocinitrd_format::digest::Digest;

use super::Build;

const OS_RELEASE: &[u8] = b"etc/os-release";

/// What the base's packages bring.
#[derive(Clone, Debug)]
pub struct Stub {
    /// Its path in the tree.
    pub path: String,
    /// systemd-stub.
    pub program: Content,
    /// Its digest.
    pub sha256: Digest,
    /// The text of the os-release(5).
    pub os_release: String,
}

/// What the cache keeps of it.
#[derive(Debug, Deserialize, Serialize)]
struct Facts {
    program: Digest,
    os_release: String,
}

/// The stub, if an earlier build of the same base left it.
///
/// # Errors
/// Fails when the cache cannot be read.
pub fn find(build: &Build<'_>) -> Result<Option<Stub>> {
    let cache = &build.context.results;
    let (Some(path), Some(facts)) = (path(), cache.record::<Facts>(Kind::Stub, &key(build))) else { return Ok(None) };
    let Some(file) = cache.data(&facts.program)? else { return Ok(None) };
    let program = Content::of_file(file).context("reading from the cache")?;
    Ok(Some(Stub { path, program, sha256: facts.program, os_release: facts.os_release }))
}

/// Takes the stub out of the installed tree, if that has one, and leaves it in the cache.
///
/// # Errors
/// Fails when the tree has no os-release(5), and when the cache cannot be written.
pub fn take(build: &Build<'_>, tree: &Tree) -> Result<Option<Stub>> {
    let Some(path) = path() else { return Ok(None) };
    let Some(program) = tree.content(path.as_bytes()).cloned() else { return Ok(None) };
    let os_release = tree.resolve(OS_RELEASE).and_then(|path| tree.content(&path).cloned());
    let os_release = os_release.context("the packages of the image bring no /etc/os-release")?;
    let os_release = os_release.read_all().context("reading /etc/os-release of the installed tree")?;
    let os_release = String::from_utf8(os_release).context("reading /etc/os-release of the installed tree")?;
    let sha256 = keep(&build.context.results, &program)?;
    let facts = Facts { program: sha256, os_release };
    build.context.results.keep(Kind::Stub, &key(build), &facts)?;
    Ok(Some(Stub { path, program, sha256, os_release: facts.os_release }))
}

/// What to say where there is none and there has to be one.
pub fn missing(build: &Build<'_>) -> String {
    match path() {
        Some(path) => format!(
            "a unified kernel image needs systemd-stub, and no package of the image {} brings /{path}: {}",
            build.plan.image,
            match build.context.definition.profiles.contains_key("uki") {
                true => "add --profile uki",
                false => "add systemd-boot-unsigned to [packages] install",
            }
        ),
        None => format!("there are no unified kernel images for {}", architecture::native()),
    }
}

fn keep(cache: &Cache, content: &Content) -> Result<Digest> {
    let mut data = cache.new_data()?;
    io::copy(&mut content.reader(), &mut data).context("writing systemd-stub")?;
    let (_, sha256, _) = data.finish()?;
    Ok(sha256)
}

fn key(build: &Build<'_>) -> Digest {
    cache::key(Kind::Stub, &json!({ "layer": build.recipe.layer }))
}

fn path() -> Option<String> {
    Some(format!("usr/lib/systemd/boot/efi/linux{}.efi.stub", uki::machine(architecture::native())?))
}
