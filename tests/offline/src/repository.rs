//! Signed repositories: packages in, a directory with `Packages`, `repodata` and their signatures out.
//!
//! The signatures have a fixed time, so that the same packages signed with the same key give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::handmade::EPOCH;
use crate::package::Package;
use crate::programs::run;
use crate::rpm;

/// Little is gained above, and the kernel's modules are compressed already.
const COMPRESSION_LEVEL: i32 = 3;
/// `EPOCH` as gpg's `--faked-system-time` reads it; the `!` keeps the clock from running on.
pub const SIGNING_TIME: &str = "20250101T000000!";

/// A key pair in a gpg home of its own, outside the project: the path of its agent's socket must be short.
#[derive(Debug)]
pub struct Signer {
    home: TempDir,
    user: String,
}

impl Signer {
    /// The key kept in the file `secret`, which is made with a new key where there is none.
    ///
    /// # Errors
    /// Fails when gpg does, or when `secret` cannot be written.
    pub fn open(secret: &Path, user: &str) -> Result<Signer> {
        let home = tempfile::Builder::new().prefix("offline-gpg").tempdir().context("creating a home for gpg")?;
        let signer = Signer { home, user: user.to_owned() };
        if secret.is_file() {
            run(signer.gpg().arg("--import").arg(secret)).context("importing the signing key")?;
        } else {
            run(signer.gpg().args(["--quick-generate-key", user, "rsa3072", "sign", "never"]))
                .context("making a signing key")?;
            run(signer.gpg().arg("--armor").arg("--output").arg(secret).args(["--export-secret-keys", user]))
                .context("keeping the signing key")?;
        }
        Ok(signer)
    }

    /// The armored public key.
    ///
    /// # Errors
    /// Fails when gpg does.
    pub fn public_key(&self) -> Result<String> {
        run(self.gpg().args(["--armor", "--export", &self.user])).context("exporting the public key")
    }

    fn gpg(&self) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path());
        command.args(["--batch", "--yes", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]);
        command.args(["--faked-system-time", SIGNING_TIME]);
        command
    }

    fn sign_packages(&self, packages: &[PathBuf]) -> Result<()> {
        let mut command = Command::new("rpmsign");
        for definition in [
            format!("_gpg_path {}", self.home.path().display()),
            format!("_gpg_name {}", self.user),
            // Or it would make one in the home directory.
            format!("_dbpath {}", self.home.path().join("rpmdb").display()),
            "__gpg /usr/bin/gpg".to_owned(),
            format!("_gpg_sign_cmd_extra_args --faked-system-time {SIGNING_TIME}"),
        ] {
            command.arg("--define").arg(definition);
        }
        run(command.arg("--addsign").args(packages)).context("signing the packages")?;
        Ok(())
    }

    fn sign_metadata(&self, repository: &Path) -> Result<()> {
        let metadata = repository.join("repodata/repomd.xml");
        run(self.gpg().args(["--local-user", &self.user, "--armor", "--detach-sign"]).arg(metadata))
            .context("signing the repository's metadata")?;
        Ok(())
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // The agent would outlive its home by a moment and print about it.
        let _ = run(Command::new("gpgconf").env("GNUPGHOME", self.home.path()).args(["--kill", "all"]));
    }
}

/// A repository in the making; it appears under its name only when it is complete.
#[derive(Debug)]
pub struct Repository {
    destination: PathBuf,
    unfinished: PathBuf,
    written: Vec<PathBuf>,
}

impl Repository {
    /// Begins the repository at `destination`.
    ///
    /// # Errors
    /// Fails when a directory cannot be made.
    pub fn begin(destination: &Path) -> Result<Repository> {
        let unfinished = destination.with_extension("unfinished");
        remove_directory(&unfinished)?;
        let packages = unfinished.join("Packages");
        fs::create_dir_all(&packages).with_context(|| format!("creating {}", packages.display()))?;
        Ok(Repository { destination: destination.to_owned(), unfinished, written: Vec::new() })
    }

    /// Adds a package.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn add(&mut self, package: &Package) -> Result<()> {
        let name = format!("{}-{}.{}.rpm", package.name, package.evr.without_epoch(), package.arch);
        let path = self.unfinished.join("Packages").join(&name);
        let bytes = rpm::write(package, COMPRESSION_LEVEL).with_context(|| format!("making {name}"))?;
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        self.written.push(path);
        Ok(())
    }

    /// How many packages it has.
    pub fn len(&self) -> usize {
        self.written.len()
    }

    /// Signs the packages with `packages`, if it is given, and the metadata with `metadata`, and puts all in its place.
    ///
    /// # Errors
    /// Fails when one of the programs does.
    pub fn finish(self, packages: Option<&Signer>, metadata: &Signer) -> Result<()> {
        if let Some(signer) = packages {
            signer.sign_packages(&self.written)?;
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH.into());
        for path in &self.written {
            let file = fs::File::options().append(true).open(path)?;
            file.set_modified(time).with_context(|| format!("setting the time of {}", path.display()))?;
        }
        let mut createrepo = Command::new("createrepo_c");
        createrepo.args(["--quiet", "--no-database", "--general-compress-type=gz", "--set-timestamp-to-revision"]);
        run(createrepo.arg(format!("--revision={EPOCH}")).arg(&self.unfinished)).context("making repodata")?;
        metadata.sign_metadata(&self.unfinished)?;
        self.put_in_place()
    }

    /// Has `make` sign the packages and make the metadata in the directory that it is given, with the file names of the
    /// packages, and puts all in its place.
    ///
    /// # Errors
    /// Fails when `make` does, or the directory cannot be renamed.
    pub fn finish_by(self, make: impl FnOnce(&Path, &[String]) -> Result<()>) -> Result<()> {
        let names = self.written.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        make(&self.unfinished, &names.collect::<Vec<_>>())?;
        self.put_in_place()
    }

    fn put_in_place(self) -> Result<()> {
        remove_directory(&self.destination)?;
        fs::rename(&self.unfinished, &self.destination)
            .with_context(|| format!("renaming to {}", self.destination.display()))
    }
}

fn remove_directory(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}
