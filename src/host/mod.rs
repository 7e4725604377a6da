//! A machine's own initrd, made on it: a base that was built elsewhere and the machine's kernel in, an initrd out.
//!
//! | module | what it does |
//! |---|---|
//! | [`configuration`] | what the administrator says in `/etc/ocinitrd` |
//! | [`bases`] | the bases that are on the machine |
//! | [`files`] | directories of the machine as trees |
//! | [`selection`], [`families`] | which modules and which microcode; those that may come into use |
//! | [`module_settings`] | what the machine says of its modules in `depmod.d`, `modprobe.d` and `modules-load.d` |
//! | [`kernel`] | the segment of modules |
//! | [`record`] | the manifest of the initrd |
//! | [`uki`] | what the administrator says of unified kernel images |
//! | [`console`] | the keymap and the font that the machine's console has |
//! | [`local`] | the machine's own files: crypttab, keys, what programs of the initrd read, and what the configuration names |
//! | [`plugins`](mod@plugins) | the plugins of kernel-install |
//! | [`installed`] | what went in, kept on the machine beside the entry |
//!
//! No container is run, no program and no network is used, so that it works while packages are being updated. The segments
//! are those of a build: microcode, base, modules; behind them comes what is the machine's own, which may be secret.

mod bases;
mod configuration;
mod console;
mod families;
mod files;
mod installed;
mod kernel;
#[cfg(test)]
mod kmod_tests;
mod local;
mod module_settings;
mod plugins;
mod record;
mod selection;
mod uki;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::analysis::machine::{self, Machine};
use crate::analysis::needs::{self, Derived};
use crate::image::microcode;
use crate::image::segment::Assembler;
use crate::image::tree::{Content, Tree};
use ocinitrd_format::architecture;
use ocinitrd_format::compress::Compression;
use ocinitrd_support::progress::Progress;

use kernel::{MachineKernel, SelectedKernel};
use local::Local;
use record::Record;
use selection::Chosen;

pub use bases::{Base, Search};
pub use configuration::{Configuration, OnFailure, Scope};
pub use console::Console;
pub use installed::{Installed, forget_staged_record, is_recorded, place_record, remove_record};
pub use local::LocalFile;
pub use plugins::{named, plugins};
pub use uki::Uki;

/// The kernel looks for microcode before it can decompress anything.
const MICROCODE: Compression = Compression::None;
/// The machine's own files are few.
const LOCAL: Compression = Compression::None;

/// What an initrd is made for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The root of the machine: `/`, or where it is mounted with its `/proc` and `/sys`.
    pub root: &'a Path,
    /// The kernel, as `uname -r` prints it.
    pub kernel_version: &'a str,
    /// What the administrator says.
    pub configuration: &'a Configuration,
}

/// What an initrd came to.
#[derive(Debug)]
pub struct Made {
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What went in, to be recorded.
    pub installed: Installed,
    /// What the machine needs of it, to be checked against it.
    pub needs: Derived,
    /// What is set of the console, to be checked against it too.
    pub console: Console,
    /// The modules that `modules-load.d` is to load in it, as written.
    pub loaded: Vec<String>,
}

/// Looks for the base that the configuration names, or the one that is there.
///
/// # Errors
/// Fails where several are there and none is named.
pub fn base(root: &Path, configuration: &Configuration) -> Result<Search> {
    bases::find(root, configuration)
}

/// Where a base of that name that is built on the machine is put.
pub fn place_of_built(root: &Path, name: &str) -> PathBuf {
    bases::place_of_built(root, name)
}

/// Writes an initrd of `base` for a kernel of the machine.
///
/// # Errors
/// Fails when the kernel's modules are not all there, when what the machine's root lies on cannot be told, when a file of the
/// machine cannot be read, and when `writer` fails.
pub fn write(request: &Request<'_>, base: &Base, writer: impl Write, progress: &Progress) -> Result<Made> {
    let Request { root, kernel_version, configuration } = request;
    let epoch = base.manifest.epoch.seconds();
    let needs = needs(request, progress)?;
    let console = Console::read(root)?;
    let local = local::files(root, configuration, &needs, &console, epoch)?;
    local.files.iter().for_each(|file| progress.detail(&file.told()));
    let kernel = MachineKernel::open(root, kernel_version)?;
    let microcode =
        microcode::microcode(&selection::microcode(root, configuration.scope)?, architecture::native(), epoch)?;
    let (selected, modules, for_what_may_come) = select(request, base, &needs, kernel, progress)?;
    let Local { tree, mut files } = local;
    // What is named in files of /etc/ocinitrd is there already.
    let settings =
        selected.configured.listed().into_iter().filter(|file| files.iter().all(|one| one.path != file.path));
    files.extend(settings.collect::<Vec<_>>());
    let local = with_settings(tree, &selected, epoch)?;
    let mut assembler = Assembler::new(writer);
    if let Some(microcode) = &microcode {
        assembler.add_tree("microcode", microcode, MICROCODE)?;
    }
    base.append(&mut assembler)?;
    assembler.add_tree("modules", &selected.tree, configuration.compression.unwrap_or(Compression::None))?;
    if let Some(local) = &local {
        assembler.add_tree("local", local, LOCAL)?;
    }
    let (_, initrd) = assembler.finish();
    let loaded = selected.configured.modules_load.iter().flat_map(|file| file.modules.iter().cloned()).collect();
    let installed = Installed {
        kernel_version: (*kernel_version).to_owned(),
        sha256: initrd.digest,
        base: base.directory.clone(),
        base_sha256: base.digest(),
        modules,
        for_what_may_come,
        files,
    };
    Ok(Made { size_bytes: initrd.size_bytes, installed, needs, console, loaded })
}

/// What the machine needs. Modules for any machine can be chosen where that cannot be told, as in a container that installs a system.
fn needs(request: &Request<'_>, progress: &Progress) -> Result<Derived> {
    let root = request.root;
    let reading = || format!("reading the machine at {}", root.display());
    match Machine::read(root).with_context(reading) {
        Ok(machine) => Ok(needs::of_machine(&machine)),
        Err(error) if request.configuration.scope == Scope::Generic => {
            progress.warn(&format!("{error:#}; the initrd is not checked against what the machine needs"));
            // Any of its files may be read then. What the container is called that it is installed in is none of its business.
            Ok(Derived { own_files: machine::own_files(root)?, ..Derived::default() })
        }
        Err(error) => {
            Err(error.context("choosing the modules for this machine (scope = \"generic\" chooses those for any)"))
        }
    }
}

/// Selects of a kernel what goes in, says what that is, and adds the manifest. Returns the names of the modules too, and a line for
/// those that went in for what may come.
fn select(
    request: &Request<'_>,
    base: &Base,
    needs: &Derived,
    kernel: MachineKernel,
    progress: &Progress,
) -> Result<(SelectedKernel, Vec<String>, Vec<String>)> {
    let Request { root, kernel_version, configuration } = request;
    let epoch = base.manifest.epoch.seconds();
    let Chosen { patterns, in_use, remarks } = selection::choose(root, &kernel, base, configuration, needs)?;
    remarks.iter().for_each(|remark| progress.detail(remark));
    let firmware = selection::firmware_patterns(base, configuration)?;
    let needed: Vec<&str> = needs.wants.iter().flat_map(|wanted| wanted.modules()).collect();
    let mut record = Record::new(kernel_version, &base.manifest.image, base.manifest.inputs);
    let mut selected = kernel.select(&patterns, &firmware, &needed, in_use.as_ref(), epoch, &mut record)?;
    selected.warnings.iter().for_each(|warning| progress.warn(warning));
    record.tell(progress);
    selected.tree.add_file(record::PATH.as_bytes(), Content::from_bytes(record.to_json()?), 0o644, epoch)?;
    let names = record.modules.into_keys().collect();
    Ok((selected, names, remarks))
}

/// The machine's own segment with the configuration of its modules.
fn with_settings(local: Option<Tree>, selected: &SelectedKernel, epoch: u64) -> Result<Option<Tree>> {
    if selected.configured.files.is_empty() {
        return Ok(local);
    }
    let mut local = local.unwrap_or_default();
    selected.configured.add_to(&mut local, epoch)?;
    Ok(Some(local))
}
