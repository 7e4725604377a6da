//! `ocinitrd kernel-install hook`: what the hooks of kernel packages call on Debian and Ubuntu, where no kernel-install runs.
//!
//! In: the words that run-parts(8) gives each hook, and what the packages say in the environment. Out: `/boot/initrd.img-KVER`, where
//! initramfs-tools or dracut has just written its own, or nobody has. Their hooks ask nobody who is to make it, so ours comes after
//! them, and once more whenever they write it again. The hook of a kernel that goes is a script alone.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Error, Result};

use super::base;
use super::environment::Environment;
use super::{Installation, Product, is_for_dracut};
use crate::host::{self, Configuration};
use crate::migration::{Caller, InstallConf, POSTINST, Source, Survey, systemd_version};
use ocinitrd_support::output::TemporaryDirectory;
use ocinitrd_support::progress::Progress;

/// What is locked while a hook makes an initrd, so that what is recorded is what is there.
const LOCK: &str = "hook.lock";
/// The parameters of the maintainer script of a kernel's package that runs the hooks.
const PARAMETERS: &str = "DEB_MAINT_PARAMS";
/// `No` for a kernel that needs no initrd.
const NEEDS_INITRD: &str = "INITRD";
/// The hooks of kernels, as they are named where run-parts is started.
const HOOKS_OF_KERNELS: &str = "kernel/postinst.d";
/// More processes are not above one.
const MOST_ANCESTORS: usize = 64;

/// Make the initrd of a kernel of Debian's or Ubuntu's, as its hooks ask for it
///
/// The hooks in /etc/kernel/postinst.d and /etc/initramfs/post-update.d call this. Where install.conf(5) has
/// initrd_generator=ocinitrd, and no kernel-install makes the boot entries, /boot/initrd.img-KVER is made in the place of the one that
/// initramfs-tools or dracut has just written; else nothing is done. Where it cannot be made, what is there stays, and this fails,
/// unless /etc/ocinitrd has on_failure = "dracut".
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What happened
    #[arg(value_enum)]
    event: Event,
    /// The kernel, as `uname -r` prints it
    #[arg(value_name = "KVER")]
    kernel_version: String,
    /// The kernel's image, or the initrd that was written
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The root of the machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Event {
    /// A kernel was installed
    Postinst,
    /// Another generator has written an initrd
    PostUpdate,
}

/// Runs the command.
///
/// # Errors
/// Fails when the initrd is asked for and cannot be made or written; what was there stays.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let value = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let parameters = value(PARAMETERS);
    if !is_about_initrd(arguments, parameters.as_deref(), value(NEEDS_INITRD).as_deref()) {
        return Ok(ExitCode::SUCCESS);
    }
    let hook = Hook { arguments, progress };
    match asked(&arguments.root)? {
        None => hook.forget()?,
        Some(Survey { caller: Caller::KernelInstall, layout, layout_by, .. }) => {
            // Whoever calls it by hand waits for something.
            if arguments.event == Event::Postinst && parameters.is_none() {
                progress.note(&format!(
                    "nothing was done: boot entries are kernel-install's here, whose layout is {layout} ({layout_by})"
                ));
            }
        }
        Some(_) if hook.is_done_by_another()? => {}
        Some(_) => hook.make().with_context(|| format!("making an initrd for {}", arguments.kernel_version))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the event is one after which `/boot/initrd.img-KVER` is to be there.
fn is_about_initrd(arguments: &Arguments, parameters: Option<&str>, needs_initrd: Option<&str>) -> bool {
    let Arguments { event, kernel_version, file, .. } = arguments;
    match event {
        Event::PostUpdate => {
            // Into other places initrds are written by those who want to look at them.
            file.as_deref() == Some(&Path::new("/boot").join(format!("initrd.img-{kernel_version}")))
        }
        Event::Postinst => {
            let is_in_boot = file.as_deref().is_none_or(|file| file.parent() == Some(Path::new("/boot")));
            // Quoted by old packages; none where somebody calls the hook by hand.
            let action = parameters.and_then(|words| words.split_ascii_whitespace().next());
            let is_configured = action.is_none_or(|action| action.trim_matches('\'') == "configure");
            is_in_boot && is_configured && needs_initrd != Some("No")
        }
    }
}

/// The machine, where ours is asked for.
fn asked(root: &Path) -> Result<Option<Survey>> {
    let source = Source::open(root)?;
    let conf = InstallConf::read(&source, systemd_version(&source)?, |_| None)?;
    if conf.names_ours() { Survey::of(&source, &conf).map(Some) } else { Ok(None) }
}

/// A call of a hook that is about the initrd.
struct Hook<'a> {
    arguments: &'a Arguments,
    progress: &'a Progress,
}

impl Hook<'_> {
    fn place(&self) -> PathBuf {
        self.arguments.root.join("boot").join(format!("initrd.img-{}", self.arguments.kernel_version))
    }

    /// Whether the initrd that is there is the one that was recorded as ours; nothing where none was.
    fn is_ours(&self) -> Result<Option<bool>> {
        host::is_recorded(&self.arguments.root, "", &self.arguments.kernel_version, &self.place())
    }

    /// Removes what was recorded of an initrd of ours, where another has taken its place.
    fn forget(&self) -> Result<()> {
        if self.is_ours()? == Some(false) {
            host::remove_record(&self.arguments.root, "", &self.arguments.kernel_version)?;
        }
        Ok(())
    }

    /// Whether another call of a hook makes it, or has: while a kernel is installed, initramfs-tools writes its initrd, and ours comes
    /// when all hooks before it have run; and some versions of dracut report the same initrd twice.
    fn is_done_by_another(&self) -> Result<bool> {
        if self.arguments.event != Event::PostUpdate {
            return Ok(false);
        }
        let own = Source::open(&self.arguments.root)?.path(POSTINST);
        let kernel_version = &self.arguments.kernel_version;
        let comes_later = is_executable(&own) && is_run_for_kernel(Path::new("/proc"), kernel_version);
        Ok(comes_later || self.is_ours()? == Some(true))
    }

    fn make(&self) -> Result<()> {
        let root = &self.arguments.root;
        let _alone = base::lock(root, LOCK)?;
        let directory = TemporaryDirectory::create_in_temporary("ocinitrd-hook-")?;
        let arguments = super::Arguments {
            product: Product::Initrd,
            action: "add".to_owned(),
            kernel_version: self.arguments.kernel_version.clone(),
            entry_directory: PathBuf::new(),
            image: None,
            initrds: Vec::new(),
            root: None,
        };
        let installation = Installation {
            arguments: &arguments,
            environment: Environment::of_hooks(directory.path()),
            caller: Caller::DebianHooks,
            root: root.clone(),
            progress: self.progress,
        };
        let configuration = Configuration::read(root)?;
        let made = installation.check_grub_place().and_then(|()| installation.make_initrd(&configuration));
        let placed = made.and_then(|()| installation.place_for_grub(&installation.staged_initrd()?));
        placed.map(|()| installation.record_placed()).or_else(|error| self.leave_to_others(&configuration, error))
    }

    /// Lets what another generator has written stay, where the administrator wants that rather than a failure.
    fn leave_to_others(&self, configuration: &Configuration, error: Error) -> Result<()> {
        let place = self.place();
        let is_another_s = place.is_file() && self.is_ours()? != Some(true);
        if !is_for_dracut(configuration, &error) || !is_another_s {
            return Err(error);
        }
        self.progress.warn(&format!(
            "{error:#}; the {} that another generator has written stays, as on_failure in /etc/ocinitrd says",
            place.display()
        ));
        self.forget()
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// Whether a run of the hooks of this kernel's package is above this process. Where that cannot be told, it is none.
fn is_run_for_kernel(proc: &Path, kernel_version: &str) -> bool {
    let mut process = "self".to_owned();
    for _ in 0..MOST_ANCESTORS {
        let place = proc.join(&process);
        let Some(parent) = fs::read_to_string(place.join("stat")).ok().as_deref().and_then(parent_of) else { break };
        let words = fs::read(proc.join(&parent).join("cmdline")).unwrap_or_default();
        if runs_hooks_of_kernel(&words, kernel_version) {
            return true;
        }
        process = parent;
    }
    false
}

/// The parent in a line of `stat`, whose second word is a name of any characters in parentheses; proc_pid_stat(5).
fn parent_of(stat: &str) -> Option<String> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1).filter(|parent| *parent != "0").map(str::to_owned)
}

/// Whether a command line, whose words end with NUL each, is that of run-parts with the hooks of kernels, for this one.
fn runs_hooks_of_kernel(command_line: &[u8], kernel_version: &str) -> bool {
    let words: Vec<&Path> =
        command_line.split(|byte| *byte == 0).map(|word| Path::new(OsStr::from_bytes(word))).collect();
    let is_run_parts = words.first().and_then(|word| word.file_name()) == Some(OsStr::new("run-parts"));
    let is_of_kernel = words.contains(&Path::new(&format!("--arg={kernel_version}")));
    is_run_parts && is_of_kernel && words.iter().any(|word| word.ends_with(HOOKS_OF_KERNELS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(event: Event, file: Option<&str>) -> Arguments {
        Arguments { event, kernel_version: "6.1".to_owned(), file: file.map(PathBuf::from), root: "/".into() }
    }

    #[test]
    fn an_installed_kernel_in_boot_gets_one_unless_it_needs_none() {
        let kernel = arguments(Event::Postinst, Some("/boot/vmlinuz-6.1"));
        for parameters in [None, Some("configure"), Some("configure 6.1-1"), Some("'configure' ''"), Some("")] {
            assert!(is_about_initrd(&kernel, parameters, None), "{parameters:?}");
        }
        for parameters in ["remove", "upgrade 6.1-2", "abort-upgrade", "triggered x", "purge"] {
            assert!(!is_about_initrd(&kernel, Some(parameters), None), "{parameters}");
        }
        assert!(is_about_initrd(&arguments(Event::Postinst, None), None, Some("Yes")));
        assert!(!is_about_initrd(&kernel, None, Some("No")));
        assert!(!is_about_initrd(&arguments(Event::Postinst, Some("/srv/tree/boot/vmlinuz-6.1")), None, None));
    }

    #[test]
    fn an_initrd_that_was_written_elsewhere_is_nobody_s_boot() {
        let is_ours = |file| is_about_initrd(&arguments(Event::PostUpdate, file), None, None);
        assert!(is_ours(Some("/boot/initrd.img-6.1")) && is_ours(Some("/boot//initrd.img-6.1")));
        for file in [None, Some("/tmp/initrd.img-6.1"), Some("/boot/initrd.img-6.2"), Some("initrd.img-6.1")] {
            assert!(!is_ours(file), "{file:?}");
        }
    }

    #[test]
    fn a_run_of_hooks_is_seen_however_far_above() {
        let proc = tempfile::tempdir().unwrap();
        let add = |process: &str, parent: &str, words: &[&str]| {
            let place = proc.path().join(process);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("stat"), format!("7 (a ) 1 b) S {parent} 7 7 0\n")).unwrap();
            fs::write(place.join("cmdline"), words.join("\0") + "\0").unwrap();
        };
        add("self", "30", &["ocinitrd"]);
        add("30", "20", &["run-parts", "--arg=6.1", "/etc/initramfs/post-update.d/"]);
        add("20", "10", &["/bin/sh", "/usr/sbin/update-initramfs", "-c"]);
        add("10", "1", &["/usr/bin/run-parts", "--report", "--arg=6.1", "/etc/kernel/postinst.d"]);
        add("1", "0", &["init"]);
        assert!(is_run_for_kernel(proc.path(), "6.1"));
        assert!(!is_run_for_kernel(proc.path(), "6.0"), "a hook that makes the initrds of all kernels");
        add("10", "1", &["run-parts", "/etc/kernel/header_postinst.d"]);
        assert!(!is_run_for_kernel(proc.path(), "6.1"), "hooks of headers");
        add("10", "1", &["ls", "/etc/kernel/postinst.d"]);
        assert!(!is_run_for_kernel(proc.path(), "6.1"));
        assert!(!is_run_for_kernel(&proc.path().join("none"), "6.1"));
    }
}
