//! Programs that the host has too old, or not at all: they run in a container of the builder image, with what the image
//! lacks of Debian's packages. rpm 6 signs a package several times, and a new createrepo_c writes zstd.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::archive::Archive;
use crate::handmade::EPOCH;
use crate::programs::run;
use crate::repository::SIGNING_TIME;

/// What the builder image lacks.
const PACKAGES: [&str; 2] = ["createrepo-c", "zchunk"];
const FINISH: &str = include_str!("../files/fedora44/finish-repository.sh");
/// More processes and files cannot be had where the set-up itself runs in a container.
const OPTIONS: [&str; 6] = [
    "run",
    "--rm",
    "--network=none",
    "--security-opt=label=disable",
    "--ulimit=nofile=4096:4096",
    "--ulimit=nproc=4096:4096",
];

/// The builder image with further packages of the same suite.
#[derive(Debug)]
pub struct Tools {
    image: String,
    debs: PathBuf,
}

impl Tools {
    /// Gets the packages that `image`, which podman has, lacks.
    ///
    /// # Errors
    /// Fails when podman or apt does.
    pub fn fetch(archive: &Archive, image: &str) -> Result<Tools> {
        let mut read_status = Command::new("podman");
        read_status.args(OPTIONS).args([image, "cat", "/var/lib/dpkg/status"]);
        let status = run(&mut read_status).with_context(|| format!("reading what {image} has installed"))?;
        let debs = archive.fetch_beside(&status, &PACKAGES)?;
        Ok(Tools { image: image.to_owned(), debs })
    }

    /// Signs the packages of `repository`, with the secret keys in `gnupg`, and makes its metadata: all with the key of the
    /// first of `users`, and those called `twice` with that of the second, too.
    ///
    /// # Errors
    /// Fails when a program in the container does.
    pub fn finish(&self, repository: &Path, gnupg: &Path, users: [&str; 2], twice: &[String]) -> Result<()> {
        let mount = |from: &Path, to: &str| format!("--volume={}:{to}", from.display());
        let mut command = Command::new("podman");
        command.args(OPTIONS).arg(mount(repository, "/repository"));
        command.args([mount(&self.debs, "/debs:ro"), mount(gnupg, "/gnupg:ro")]);
        command.args([&self.image, "sh", "-c", FINISH, "finish-repository", &EPOCH.to_string(), SIGNING_TIME]);
        run(command.args(users).args(twice)).with_context(|| format!("finishing {}", repository.display()))?;
        Ok(())
    }
}
