//! `ocinitrd kernel-install`: what the plugins of kernel-install(8) call.
//!
//! In: the arguments and the environment that kernel-install gives its plugins. Out: an initrd or a unified kernel image in its
//! staging area, which other plugins put into the boot entry. Nothing else of the machine is written to, so there is nothing to
//! remove.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use indicatif::DecimalBytes;

use crate::host::{self, Configuration, Made, OnFailure};
use crate::needs::Holdings;
use crate::output::{MODE_PRIVATE, OutputFile};
use crate::process::Program;
use crate::progress::Progress;
use crate::uki::{Content, KernelImage, NamedContent, Parts, Plan};

/// What the generators are called in install.conf.
const NAME: &str = "ocinitrd";
/// The layout whose entries are unified kernel images.
const UKI: &str = "uki";
/// dracut's own plugin, which the administrator's may hide.
const DRACUT_PLUGINS: [&str; 2] =
    ["etc/kernel/install.d/50-dracut.install", "usr/lib/kernel/install.d/50-dracut.install"];
/// Room that stays free for what other plugins put beside the initrd, in bytes.
const SPARE_BYTES: u64 = 1 << 20;

/// Make the initrd, or the unified kernel image, of a kernel that is being installed
///
/// Called by the plugins 50-ocinitrd.install and 60-ocinitrd.install of kernel-install(8), which give it their arguments. They do
/// nothing unless install.conf(5) has initrd_generator=ocinitrd or uki_generator=ocinitrd. The base comes from
/// /usr/lib/ocinitrd/bases, /var/lib/ocinitrd/bases or /etc/ocinitrd/bases, the modules from the kernel, the rest from the
/// machine: no container and no network is used. /etc/ocinitrd/*.toml configures it.
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

/// What kernel-install tells its plugins in the environment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Environment {
    initrd_generator: String,
    uki_generator: String,
    layout: String,
    image_type: String,
    staging_area: Option<PathBuf>,
    boot_root: Option<PathBuf>,
    configuration_root: Option<PathBuf>,
}

impl Environment {
    /// Reads it by `get`: systemd 252 lacks the image's type and the generator of images.
    fn read(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| get(&format!("KERNEL_INSTALL_{name}")).filter(|value| !value.is_empty());
        let text = |name| value(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
        Environment {
            initrd_generator: text("INITRD_GENERATOR"),
            uki_generator: text("UKI_GENERATOR"),
            layout: text("LAYOUT"),
            image_type: text("IMAGE_TYPE"),
            staging_area: value("STAGING_AREA").map(PathBuf::from),
            boot_root: value("BOOT_ROOT").map(PathBuf::from),
            configuration_root: value("CONF_ROOT").map(PathBuf::from),
        }
    }

    /// Whether the product is asked for, of us, and not there already.
    fn wants(&self, product: Product, has_initrds: bool) -> bool {
        if self.image_type == UKI {
            return false;
        }
        match product {
            Product::Initrd => self.initrd_generator == NAME && !has_initrds,
            Product::Uki => self.layout == UKI && self.uki_generator == NAME,
        }
    }
}

/// Makes what is asked for.
///
/// # Errors
/// Fails when it cannot be made and the administrator does not have dracut make it; then nothing was written.
pub fn run(arguments: &Arguments, progress: &Progress) -> Result<ExitCode> {
    let environment = Environment::read(|name| env::var_os(name));
    if arguments.action != "add" || !environment.wants(arguments.product, !arguments.initrds.is_empty()) {
        return Ok(ExitCode::SUCCESS);
    }
    let installation = Installation { arguments, environment, progress };
    match arguments.product {
        Product::Initrd => installation.initrd()?,
        Product::Uki => installation.uki().context("making a unified kernel image")?,
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
        if configuration.on_failure == OnFailure::Fail {
            return Err(error);
        }
        self.progress.warn(&format!("{error:#}; dracut makes one instead, as on_failure in /etc/ocinitrd says"));
        self.hand_over_to_dracut()
    }

    fn make_initrd(&self, configuration: &Configuration) -> Result<()> {
        let Arguments { root, kernel_version, .. } = self.arguments;
        let base = host::base(root, configuration)?;
        let path = self.staging_area()?.join("initrd");
        let mut output = OutputFile::create(&path, MODE_PRIVATE)?;
        let request = host::Request { root, kernel_version, configuration };
        let made = host::write(&request, &base, &mut output, self.progress)?;
        self.check_space(made.size_bytes)?;
        output.commit()?;
        check_needs(&made, &path).inspect_err(|_| _ = fs::remove_file(&path))?;
        let (size, count) = (DecimalBytes(made.size_bytes), made.modules);
        self.progress.note(&format!("initrd for {kernel_version}: {size}, {count} modules"));
        Ok(())
    }

    fn staging_area(&self) -> Result<&Path> {
        let area = self.environment.staging_area.as_deref();
        area.context("KERNEL_INSTALL_STAGING_AREA is not set: this is called by kernel-install(8)")
    }

    /// Entries that are there stay until the new one is complete: there has to be room for both.
    fn check_space(&self, initrd_bytes: u64) -> Result<()> {
        let (Some(boot_root), Some(image)) = (&self.environment.boot_root, &self.arguments.image) else {
            return Ok(());
        };
        let image_bytes = fs::metadata(image).with_context(|| format!("reading {}", image.display()))?.len();
        let facts =
            rustix::fs::statvfs(boot_root).with_context(|| format!("looking for room in {}", boot_root.display()))?;
        let (free, needed) = (facts.f_bavail * facts.f_frsize, initrd_bytes + image_bytes + SPARE_BYTES);
        ensure!(
            free >= needed,
            "{} has {} free, and the kernel with its initrd takes {}: remove an old kernel",
            boot_root.display(),
            DecimalBytes(free),
            DecimalBytes(needed)
        );
        Ok(())
    }

    /// dracut's plugin has stepped back before ours ran; it is asked once more, as if we were not there.
    fn hand_over_to_dracut(&self) -> Result<()> {
        let Arguments { root, action, kernel_version, entry_directory, image, initrds, .. } = self.arguments;
        let plugin = DRACUT_PLUGINS.map(|path| root.join(path)).into_iter().find(|path| path.exists());
        let plugin = plugin.context("dracut is not installed: it has no plugin of kernel-install")?;
        let mut words: Vec<OsString> = vec![action.into(), kernel_version.into(), entry_directory.into()];
        words.extend(image.iter().chain(initrds).map(OsString::from));
        let dracut = Program::new(&plugin).args(words).env("KERNEL_INSTALL_INITRD_GENERATOR", "dracut");
        let status = dracut.spawn(Stdio::null(), Stdio::inherit(), Stdio::inherit())?.wait();
        let status = status.with_context(|| format!("waiting for {}", plugin.display()))?;
        ensure!(status.success(), "{} failed: {status}", plugin.display());
        Ok(())
    }

    fn uki(&self) -> Result<()> {
        let Arguments { root, kernel_version, image, .. } = self.arguments;
        let image = image.as_deref().context("kernel-install gave no kernel image")?;
        let base = host::base(root, &Configuration::read(root)?)?;
        let stub = base.stub().with_context(|| {
            format!(
                "the base {} has no systemd-stub: build it of packages with systemd-boot-unsigned",
                base.directory.display()
            )
        })?;
        let staging_area = self.staging_area()?;
        let parts = Parts {
            stub: NamedContent::open(&stub)?,
            kernel: KernelImage::open(image)?,
            initrd: self.staged_initrds(staging_area)?,
            microcode: None,
            command_line: Some(self.command_line()?),
            os_release: Some(read(&root.join("etc/os-release"))?),
            uname: Some(kernel_version.clone()),
            splash: None,
            device_tree: None,
            sbat: Vec::new(),
            pcr_public_key: None,
            profiles: Vec::new(),
        };
        let mut output = OutputFile::create(&staging_area.join("uki.efi"), MODE_PRIVATE)?;
        Plan::new(&parts)?.write(&[], &mut output)?;
        output.commit()
    }

    /// Microcode first, then what was given, then what was made: each in the order of the names.
    fn staged_initrds(&self, staging_area: &Path) -> Result<Option<Content>> {
        let reading = || format!("reading {}", staging_area.display());
        let names = fs::read_dir(staging_area).with_context(reading)?;
        let mut staged: Vec<PathBuf> =
            names.map(|entry| Ok(entry.with_context(reading)?.path())).collect::<Result<_>>()?;
        staged.sort();
        let begins = |path: &&PathBuf, prefix: &str| {
            path.file_name().is_some_and(|name| name.as_bytes().starts_with(prefix.as_bytes()))
        };
        let microcode = staged.iter().filter(|path| begins(path, "microcode"));
        let made = staged.iter().filter(|path| begins(path, "initrd"));
        let all: Vec<&PathBuf> = microcode.chain(&self.arguments.initrds).chain(made).collect();
        if all.is_empty() {
            self.progress.warn("there is no initrd for the unified kernel image");
            return Ok(None);
        }
        Content::files(&all).map(Some)
    }

    /// That of `/etc/kernel/cmdline`; the one that the machine runs with is said to be it.
    fn command_line(&self) -> Result<String> {
        let root = &self.arguments.root;
        let configured = self.environment.configuration_root.clone();
        let places = match configured {
            Some(directory) => vec![directory.join("cmdline")],
            None => vec![root.join("etc/kernel/cmdline"), root.join("usr/lib/kernel/cmdline")],
        };
        if let Some(path) = places.iter().find(|path| path.exists()) {
            return Ok(one_line(&read(path)?));
        }
        let running = read(&root.join("proc/cmdline"))?;
        let words = running.split_ascii_whitespace();
        let line = words.filter(|word| !["BOOT_IMAGE=", "initrd="].iter().any(|key| word.starts_with(key)));
        let line = line.collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            bail!("there is no {}, and the running kernel has no options either", places[0].display());
        }
        self.progress.warn(&format!(
            "there is no {}: the image gets the options of the running kernel, {line}",
            places[0].display()
        ));
        Ok(line)
    }
}

/// Fails when the initrd lacks something that the machine needs.
fn check_needs(made: &Made, initrd: &Path) -> Result<()> {
    let holdings = Holdings::of_initrd(initrd)?;
    for wanted in made.needs.wants.iter() {
        let answer = holdings.check(wanted);
        if !answer.ok() {
            let missing: Vec<String> = answer.missing_modules.into_iter().chain(answer.missing_files).collect();
            bail!(
                "the initrd lacks {}, which {} needs for {}: it comes with {}",
                missing.join(", "),
                answer.need,
                answer.purposes.join(", "),
                answer.brought_by
            );
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(values: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            let value = values.iter().find(|(key, _)| format!("KERNEL_INSTALL_{key}") == name);
            value.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn nothing_is_made_unless_we_are_asked_by_name() {
        let nobody = environment(&[]);
        assert!(!nobody.wants(Product::Initrd, false) && !nobody.wants(Product::Uki, false));
        let dracut = environment(&[("INITRD_GENERATOR", "dracut"), ("LAYOUT", "uki"), ("UKI_GENERATOR", "ukify")]);
        assert!(!dracut.wants(Product::Initrd, false) && !dracut.wants(Product::Uki, false));
        let ours = environment(&[("INITRD_GENERATOR", "ocinitrd"), ("LAYOUT", "bls"), ("UKI_GENERATOR", "ocinitrd")]);
        assert!(ours.wants(Product::Initrd, false) && !ours.wants(Product::Uki, false));
        let uki = environment(&[("LAYOUT", "uki"), ("UKI_GENERATOR", "ocinitrd")]);
        assert!(uki.wants(Product::Uki, false) && !uki.wants(Product::Initrd, false));
    }

    #[test]
    fn what_is_there_already_is_not_made_again() {
        let ours = [("INITRD_GENERATOR", "ocinitrd"), ("LAYOUT", "uki"), ("UKI_GENERATOR", "ocinitrd")];
        assert!(!environment(&ours).wants(Product::Initrd, true) && environment(&ours).wants(Product::Uki, true));
        let of_image = environment(&[&ours[..], &[("IMAGE_TYPE", "uki")]].concat());
        assert!(!of_image.wants(Product::Initrd, false) && !of_image.wants(Product::Uki, false));
    }
}
