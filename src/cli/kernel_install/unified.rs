//! The kernel and the initrds that are staged to a unified kernel image.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Installation;
use crate::cli::text_arg;
use crate::host::Configuration;
use crate::image::uki::{Content, KernelImage, NamedContent, Parts, Plan, Signer};
use ocinitrd_format::command_line::{self, Reader};
use ocinitrd_format::os_release;
use ocinitrd_support::output::{MODE_PRIVATE, OutputFile};

/// What a boot loader adds to the options of the kernel that runs.
const OF_BOOT_LOADER: [&str; 2] = ["BOOT_IMAGE=", "initrd="];

impl Installation<'_> {
    /// Makes the image in the staging area.
    ///
    /// # Errors
    /// Fails when a part is missing or does not fit the others, and when there is no room.
    pub fn unified(&self) -> Result<()> {
        self.check_layout()?;
        let arguments = self.arguments;
        let image = arguments.image.as_deref().context("kernel-install gave no kernel image")?;
        let configuration = Configuration::read(&self.root)?;
        let (root, uki) = (&self.root, &configuration.uki);
        let base = self.bases().provide(&configuration)?;
        let staging_area = self.environment.staging_area()?;
        // What is wrong with keys is told before anything is made.
        let (keys, signer) = (uki.policy_keys(root)?, uki.signer(root)?);
        let parts = Parts {
            stub: NamedContent::open(&base.stub()?)?,
            kernel: KernelImage::open(image)?,
            initrd: Some(self.staged_initrds(staging_area)?),
            microcode: None,
            command_line: Some(self.command_line()?),
            os_release: Some(self.os_release()?),
            uname: Some(arguments.kernel_version.clone()),
            splash: uki.splash(root)?,
            device_tree: self.device_tree()?.as_deref().map(Content::file).transpose()?,
            sbat: uki.sbat.clone(),
            pcr_public_key: keys.public_pem(),
            profiles: Vec::new(),
        };
        let plan = Plan::new(&parts)?;
        let signatures = if keys.can_sign() { keys.signatures(&plan.predict(&uki.banks())?)? } else { Vec::new() };
        let mut output = OutputFile::create(&staging_area.join("uki.efi"), MODE_PRIVATE)?;
        match signer {
            None => plan.write(&signatures, &mut output)?,
            Some(signer) => write_signed(&plan, &signatures, &signer, staging_area, &mut output)?,
        }
        self.check_space("the unified kernel image", output.size_bytes().context("reading what was written")?)?;
        output.commit()
    }

    /// Microcode first, then what was given, then what was made: each in the order of the names.
    fn staged_initrds(&self, staging_area: &Path) -> Result<Content> {
        let reading = || format!("reading {}", staging_area.display());
        let entries = fs::read_dir(staging_area).with_context(reading)?;
        let paths = entries.map(|entry| Ok(entry.with_context(reading)?.path()));
        let mut staged: Vec<PathBuf> = paths.collect::<Result<_>>()?;
        staged.sort();
        let begins = |path: &&PathBuf, prefix: &str| {
            path.file_name().is_some_and(|name| name.as_bytes().starts_with(prefix.as_bytes()))
        };
        let made: Vec<&PathBuf> =
            self.arguments.initrds.iter().chain(staged.iter().filter(|path| begins(path, "initrd"))).collect();
        ensure!(
            !made.is_empty(),
            "there is no initrd for it: say in install.conf which initrd_generator makes one, ocinitrd or another"
        );
        let microcode = staged.iter().filter(|path| begins(path, "microcode"));
        Content::files(&microcode.chain(made).collect::<Vec<_>>())
    }

    fn os_release(&self) -> Result<String> {
        let paths = os_release::PATHS.map(|path| self.followed(&self.root.join(path.trim_start_matches('/'))));
        text_arg::read(paths.iter().find(|path| path.exists()).unwrap_or(&paths[0]))
    }

    /// That of `/etc/kernel/cmdline`; where the one that the machine runs with is taken, that is said.
    fn command_line(&self) -> Result<String> {
        let configured = self.configured("cmdline");
        let mut words = match &configured {
            Some(path) => words(&command_line::of_file(&text_arg::read(path)?)),
            None => words(&text_arg::read(&self.root.join("proc/cmdline"))?),
        };
        if configured.is_none() {
            words.retain(|word| !OF_BOOT_LOADER.iter().any(|key| word.starts_with(key)));
        }
        if configured.is_none() {
            let place = self.configuration_places()[0].join("cmdline");
            // None are enough where the root is found by the type of its partition.
            let told = match words.join(" ") {
                line if line.is_empty() => "gets no options, as the running kernel has none".to_owned(),
                line => format!("gets the options of the running kernel, {line}"),
            };
            self.progress.warn(&format!("there is no {}: the image {told}", place.display()));
        }
        if !words.iter().any(|word| word.starts_with("systemd.machine_id=")) {
            words.extend(self.environment.machine_id_option());
        }
        Ok(words.join(" "))
    }
}

/// The image as the signer signs it; the keys and what is not signed yet stay out of everybody's sight.
fn write_signed(
    plan: &Plan<'_>,
    signatures: &[String],
    signer: &Signer,
    staging_area: &Path,
    output: &mut OutputFile,
) -> Result<()> {
    let mut unsigned = tempfile::NamedTempFile::new_in(staging_area).context("making a temporary file")?;
    plan.write(signatures, &mut unsigned)?;
    let mut signed = signer.sign(unsigned.path()).context("signing it for Secure Boot")?;
    output.copy_from(&mut signed)?;
    Ok(())
}

/// The words as they are written: the kernel reads the quotes.
fn words(text: &str) -> Vec<String> {
    Reader::Kernel.words(text).into_iter().map(str::to_owned).collect()
}
