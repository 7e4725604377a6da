//! `ocinitrd kernel-install`: what the plugins of kernel-install(8) call.
//!
//! In: the arguments and the environment that kernel-install gives its plugins. Out: an initrd or a unified kernel image in its
//! staging area, which other plugins put into the boot entry. Where GRUB's plugin makes the entry, which takes nothing from there, the
//! initrd is put into `/boot` as well; the plugin itself removes it. Beside that a record of what went in is kept,
//! which goes with the entry, and a base that is built where that is allowed.
//!
//! | module | what it does |
//! |---|---|
//! | [`environment`] | what kernel-install says |
//! | [`finish`] | whether an entry comes of what is made |
//! | [`call`], [`setup`] | who calls; how a machine moves over, and back |
//! | [`base`] | the base of an initrd |
//! | [`unified`], [`device_tree`] | a unified kernel image and its parts |
//! | [`grub`] | the initrd of GRUB's entries |
//! | [`hook`] | the initrd of a kernel of Debian's, where hooks of packages make it and no kernel-install runs |
//! | [`space`], [`mounts`] | whether entries can be written |
//! | [`loading`] | whether the initrd loads what modules-load.d names |

mod base;
pub(crate) mod call;
mod device_tree;
mod environment;
mod finish;
mod grub;
mod hook;
mod loading;
mod mounts;
mod setup;
mod space;
mod unified;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Error, Result, bail, ensure};
use indicatif::DecimalBytes;

use crate::analysis::inspect::Limits;
use crate::analysis::needs::Holdings;
use crate::container::engine::Interrupted;
use crate::host::{self, Configuration, Made, OnFailure};
use crate::migration::Caller;
use base::Bases;
use environment::{Environment, Layout};
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};
use ocinitrd_support::process::Program;
use ocinitrd_support::progress::Progress;

/// How far a file system's times may be behind: FAT has seconds by twos.
const COARSEST_TIME: Duration = Duration::from_secs(2);

/// dracut's own plugin, in whose place the administrator may have another; a link to /dev/null hides it from kernel-install.
const DRACUT_PLUGINS: [&str; 2] =
    ["etc/kernel/install.d/50-dracut.install", "usr/lib/kernel/install.d/50-dracut.install"];

/// The arguments of a plugin; [`call`] has the help.
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
    /// The root of the machine [default: that of kernel-install, or /]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Product {
    /// The initrd in the staging area, where GRUB's plugin is about to make an entry
    Prepare,
    /// The initrd
    Initrd,
    /// The unified kernel image, of the initrds that are there
    Uki,
    /// Nothing: whether a boot entry came of it
    Check,
}

/// Makes what is asked for.
///
/// # Errors
/// Fails when it cannot be made and the administrator does not have dracut make it, and when it is interrupted; then nothing was
/// written.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let environment = Environment::read(|name| env::var_os(name));
    let root = arguments.root.clone().or_else(|| environment.root.clone()).unwrap_or_else(|| PathBuf::from("/"));
    if arguments.action != "add" || !environment.wants(arguments.product, !arguments.initrds.is_empty()) {
        return Ok(ExitCode::SUCCESS);
    }
    let progress = &environment.progress(*progress);
    let caller = Caller::KernelInstall;
    let installation = Installation { arguments, environment, caller, root, progress };
    match arguments.product {
        Product::Prepare => installation.prepare()?,
        Product::Initrd => installation.initrd()?,
        Product::Uki => installation.unified().context("making a unified kernel image")?,
        Product::Check => {
            installation.check_entry().with_context(|| format!("installing {}", arguments.kernel_version))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A kernel that is being installed.
struct Installation<'a> {
    arguments: &'a Arguments,
    environment: Environment,
    /// Who has it made.
    caller: Caller,
    /// The root of the machine.
    root: PathBuf,
    progress: &'a Progress,
}

impl Installation<'_> {
    /// Makes the initrd before GRUB's plugin makes the entry that names it: that plugin replaces the kernel, and an entry without
    /// its initrd may be the one that boots next.
    fn prepare(&self) -> Result<()> {
        self.check_layout().with_context(|| self.making())?;
        if self.environment.layout() != Layout::Grub {
            return Ok(());
        }
        self.check_grub_place().with_context(|| self.making())?;
        let configuration = Configuration::read(&self.root)?;
        match self.make_initrd(&configuration) {
            // It is tried again, and dracut asked, where dracut's plugin has its turn: it takes what others make before it.
            Err(error) if is_for_dracut(&configuration, &error) => Ok(()),
            made => made.with_context(|| self.making()),
        }
    }

    fn initrd(&self) -> Result<()> {
        // Where no entry comes of it, dracut's would be in none either.
        self.check_layout().with_context(|| self.making())?;
        let configuration = Configuration::read(&self.root)?;
        let is_grubs = self.environment.layout() == Layout::Grub;
        let staged = self.staged_initrd()?;
        let is_prepared = is_grubs && staged.is_file();
        let made = if is_prepared { Ok(()) } else { self.make_initrd(&configuration) };
        let placed = made.and_then(|()| if is_grubs { self.place_for_grub(&staged) } else { Ok(()) });
        let Err(error) = placed else {
            if is_grubs {
                self.record_placed();
            }
            return Ok(());
        };
        let error = error.context(self.making());
        if !is_for_dracut(&configuration, &error) {
            return Err(error);
        }
        self.progress.warn(&format!("{error:#}; dracut makes one instead, as on_failure in /etc/ocinitrd says"));
        self.hand_over_to_dracut()
    }

    fn bases(&self) -> Bases<'_> {
        Bases { root: &self.root, progress: self.progress }
    }

    fn making(&self) -> String {
        format!("making an initrd for {}", self.arguments.kernel_version)
    }

    fn staged_initrd(&self) -> Result<PathBuf> {
        Ok(self.environment.staging_area()?.join("initrd"))
    }

    /// Makes it in the staging area.
    fn make_initrd(&self, configuration: &Configuration) -> Result<()> {
        let (root, kernel_version) = (&self.root, &self.arguments.kernel_version);
        let base = self.bases().provide(configuration)?;
        let path = self.staged_initrd()?;
        let mut output = OutputFile::create(&path, MODE_PRIVATE)?;
        let request = host::Request { root, kernel_version, configuration };
        let made = host::write(&request, &base, &mut output, self.progress)?;
        self.check_space_of_initrd(made.size_bytes)?;
        output.commit()?;
        let holdings = check_needs(&made, &path).inspect_err(|_| _ = fs::remove_file(&path))?;
        warnings(&made, &holdings).iter().for_each(|warning| self.progress.warn(warning));
        self.warn_of_record(made.installed.stage(self.environment.staging_area()?));
        let (size, count) = (DecimalBytes(made.size_bytes), made.installed.modules.len());
        self.progress.note(&format!("initrd for {kernel_version}: {size}, {count} modules"));
        Ok(())
    }

    /// Records what went into the initrd that is in its place by now; that of an initrd which came to no entry would say what is
    /// not there.
    fn record_placed(&self) {
        let kernel_version = &self.arguments.kernel_version;
        let token = self.environment.entry_token();
        let place = |staging_area: &Path| host::place_record(&self.root, staging_area, token, kernel_version);
        self.warn_of_record(self.environment.staging_area().and_then(place));
    }

    fn warn_of_record(&self, written: Result<()>) {
        written.unwrap_or_else(|error| {
            self.progress.warn(&format!("what went into the initrd is not recorded: {error:#}"))
        });
    }

    /// dracut's plugin has stepped back before ours ran; it is asked once more, as if we were not there.
    fn hand_over_to_dracut(&self) -> Result<()> {
        let Arguments { action, kernel_version, entry_directory, image, initrds, .. } = self.arguments;
        let plugin = DRACUT_PLUGINS.map(|path| self.root.join(path)).into_iter().find(|path| path.is_file());
        let plugin = plugin.context("dracut is not installed: it has no plugin of kernel-install")?;
        let mut words: Vec<OsString> = vec![action.into(), kernel_version.into(), entry_directory.into()];
        words.extend(image.iter().chain(initrds).map(OsString::from));
        let dracut = Program::new(&plugin).args(words).env("KERNEL_INSTALL_INITRD_GENERATOR", "dracut");
        let staged = self.staged_initrd()?;
        host::forget_staged_record(self.environment.staging_area()?)?;
        let is_grubs = self.environment.layout() == Layout::Grub;
        if is_grubs {
            // Ours, if it could not be put into its place, is not dracut's.
            let _ = fs::remove_file(&staged);
        }
        let start = SystemTime::now() - COARSEST_TIME;
        let status = dracut.spawn(Stdio::null(), Stdio::inherit(), Stdio::inherit())?.child.wait();
        let status = status.with_context(|| format!("waiting for {}", plugin.display()))?;
        ensure!(status.success(), "{} failed: {status}", plugin.display());
        // What went into an earlier initrd of ours is said of this entry no more.
        let removed = host::remove_record(&self.root, self.environment.entry_token(), kernel_version);
        removed.unwrap_or_else(|error| self.progress.warn(&format!("{error:#}")));
        if is_grubs { self.place_dracut_s(&staged, start) } else { Ok(()) }
    }
}

/// What a person should know of an initrd that holds all that the machine needs.
fn warnings(made: &Made, holdings: &Holdings) -> Vec<String> {
    let mut warnings = made.console.remarks(holdings, made.needs.somebody_types());
    warnings.extend(loading::remark(&made.loaded, holdings));
    warnings.extend(made.needs.notes.iter().cloned());
    warnings.extend(made.needs.missed(holdings));
    warnings
}

/// Whether dracut is to make the initrd after this error. Who ends a build does not wait for it.
fn is_for_dracut(configuration: &Configuration, error: &Error) -> bool {
    configuration.on_failure == OnFailure::Dracut && Interrupted::find(error).is_none()
}

/// What the initrd holds.
///
/// # Errors
/// Fails when it lacks something that the machine needs, and when nothing would have it open a volume of the root: initramfs-tools
/// opens what the running root lies on, systemd what it is told.
fn check_needs(made: &Made, initrd: &Path) -> Result<Holdings> {
    if let Some(volume) = made.needs.unopened.first() {
        bail!("the initrd would not find the root: {volume}");
    }
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
