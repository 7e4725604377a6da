//! `ocinitrd kernel-install`: what the plugins of kernel-install(8) call.
//!
//! In: the arguments and the environment that kernel-install gives its plugins. Out: an initrd or a unified kernel image in its
//! staging area, which other plugins put into the boot entry. Nothing else of the machine is written to but a base that is built
//! where that is allowed, so there is nothing to remove.

mod base;
mod console;
mod device_tree;
mod environment;
mod loading;
mod space;
mod unified;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use indicatif::DecimalBytes;

use crate::engine::Interrupted;
use crate::host::{self, Configuration, Made, OnFailure};
use crate::inspect::Limits;
use crate::needs::Holdings;
use crate::output::{MODE_PRIVATE, OutputFile};
use crate::process::Program;
use crate::progress::Progress;
use environment::Environment;

/// dracut's own plugin, in whose place the administrator may have another; a link to /dev/null hides it from kernel-install.
const DRACUT_PLUGINS: [&str; 2] =
    ["etc/kernel/install.d/50-dracut.install", "usr/lib/kernel/install.d/50-dracut.install"];

/// Make the initrd, or the unified kernel image, of a kernel that is being installed
///
/// Called by the plugins 50-ocinitrd.install and 60-ocinitrd.install of kernel-install(8), which give it their arguments. They do
/// nothing unless install.conf(5) has initrd_generator=ocinitrd or uki_generator=ocinitrd. The base comes from
/// /usr/lib/ocinitrd/bases, /var/lib/ocinitrd/bases or /etc/ocinitrd/bases, the modules from the kernel, the rest from the
/// machine: no container and no network is used, unless a base has to be built and is allowed to be. /etc/ocinitrd/*.toml
/// configures it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What is made
    #[arg(value_enum)]
    product: Product,
    /// What happens to the kernel: add, remove, or what later versions of kernel-install know
    #[arg(value_name = "COMMAND")]
    action: String,
    /// The kernel, as `uname -r` prints it
    #[arg(value_name = "KVER")]
    kernel_version: String,
    /// Where the entry's files are to be
    #[arg(value_name = "ENTRY-DIR")]
    entry_directory: PathBuf,
    /// The kernel's image
    #[arg(value_name = "IMAGE")]
    image: Option<PathBuf>,
    /// Initrds that were given to kernel-install
    #[arg(value_name = "INITRD")]
    initrds: Vec<PathBuf>,
    /// The root of the machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Product {
    /// The initrd
    Initrd,
    /// The unified kernel image, of the initrds that are there
    Uki,
}

/// Makes what is asked for.
///
/// # Errors
/// Fails when it cannot be made and the administrator does not have dracut make it, and when it is interrupted; then nothing was
/// written.
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let environment = Environment::read(|name| env::var_os(name));
    if arguments.action != "add" || !environment.wants(arguments.product, !arguments.initrds.is_empty()) {
        return Ok(ExitCode::SUCCESS);
    }
    let installation = Installation { arguments, environment, progress };
    match arguments.product {
        Product::Initrd => installation.initrd()?,
        Product::Uki => installation.unified().context("making a unified kernel image")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A kernel that is being installed.
struct Installation<'a> {
    arguments: &'a Arguments,
    environment: Environment,
    progress: &'a Progress,
}

impl Installation<'_> {
    fn initrd(&self) -> Result<()> {
        let kernel = &self.arguments.kernel_version;
        let configuration = Configuration::read(&self.arguments.root)?;
        let Err(error) = self.make_initrd(&configuration) else { return Ok(()) };
        let error = error.context(format!("making an initrd for {kernel}"));
        // Who ends a build does not wait for dracut.
        if configuration.on_failure == OnFailure::Fail || Interrupted::find(&error).is_some() {
            return Err(error);
        }
        self.progress.warn(&format!("{error:#}; dracut makes one instead, as on_failure in /etc/ocinitrd says"));
        self.hand_over_to_dracut()
    }

    fn make_initrd(&self, configuration: &Configuration) -> Result<()> {
        let Arguments { root, kernel_version, .. } = self.arguments;
        ensure!(
            self.environment.takes_what_is_staged(),
            "with layout={} in install.conf nothing puts an initrd into the boot entry: say layout=bls or layout=uki",
            self.environment.layout
        );
        let base = self.base(configuration)?;
        let path = self.environment.staging_area()?.join("initrd");
        let mut output = OutputFile::create(&path, MODE_PRIVATE)?;
        let request = host::Request { root, kernel_version, configuration };
        let made = host::write(&request, &base, &mut output, self.progress)?;
        self.check_space_of_initrd(made.size_bytes)?;
        output.commit()?;
        let holdings = check_needs(&made, &path).inspect_err(|_| _ = fs::remove_file(&path))?;
        console::remarks(&made.console, &holdings).iter().for_each(|remark| self.progress.warn(remark));
        loading::remark(&made.loaded, &holdings).iter().for_each(|remark| self.progress.warn(remark));
        made.needs.notes.iter().for_each(|note| self.progress.warn(note));
        let (size, count) = (DecimalBytes(made.size_bytes), made.modules);
        self.progress.note(&format!("initrd for {kernel_version}: {size}, {count} modules"));
        Ok(())
    }

    /// dracut's plugin has stepped back before ours ran; it is asked once more, as if we were not there.
    fn hand_over_to_dracut(&self) -> Result<()> {
        let Arguments { root, action, kernel_version, entry_directory, image, initrds, .. } = self.arguments;
        let plugin = DRACUT_PLUGINS.map(|path| root.join(path)).into_iter().find(|path| path.is_file());
        let plugin = plugin.context("dracut is not installed: it has no plugin of kernel-install")?;
        let mut words: Vec<OsString> = vec![action.into(), kernel_version.into(), entry_directory.into()];
        words.extend(image.iter().chain(initrds).map(OsString::from));
        let dracut = Program::new(&plugin).args(words).env("KERNEL_INSTALL_INITRD_GENERATOR", "dracut");
        let status = dracut.spawn(Stdio::null(), Stdio::inherit(), Stdio::inherit())?.child.wait();
        let status = status.with_context(|| format!("waiting for {}", plugin.display()))?;
        ensure!(status.success(), "{} failed: {status}", plugin.display());
        Ok(())
    }
}

/// What the initrd holds.
///
/// # Errors
/// Fails when it lacks something that the machine needs.
fn check_needs(made: &Made, initrd: &Path) -> Result<Holdings> {
    let holdings = Holdings::of_initrd(initrd, &Limits::default())?;
    for wanted in made.needs.wants.iter() {
        let answer = holdings.check(wanted);
        if !answer.ok() {
            let missing: Vec<String> = answer.missing_modules.into_iter().chain(answer.missing_files).collect();
            bail!(
                "the initrd lacks {}, which {} needs for {}: modules and files of /etc/ocinitrd bring it, or a base that was \
                 built with it ({})",
                missing.join(", "),
                answer.need,
                answer.purposes.join(", "),
                answer.brought_by
            );
        }
    }
    Ok(holdings)
}
