//! A TPM 2.0 for a guest: swtpm(8), with its state in a directory.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use ocinitrd_support::output::TemporaryDirectory;
use ocinitrd_support::process::{Program, Running, find};

/// swtpm makes its socket within milliseconds; a busy host may take longer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A TPM that does not outlive its guest.
pub struct Tpm {
    process: Running,
    socket: PathBuf,
    /// A socket's path has to be short.
    _directory: TemporaryDirectory,
}

impl Tpm {
    /// Starts a TPM whose state is kept in `state`, a directory that exists.
    ///
    /// # Errors
    /// Fails when swtpm is not installed or does not start.
    pub fn start(state: &Path) -> Result<Self> {
        let Some(program) = find("swtpm").context("looking for swtpm")? else {
            bail!(
                "swtpm is not in PATH, and this needs an emulated TPM: install it with `apt-get install swtpm` (Debian, Ubuntu) or `dnf install swtpm` (Fedora)"
            );
        };
        let directory = TemporaryDirectory::create_in_temporary("ocinitrd-tpm.")?;
        let socket = directory.path().join("socket");
        let process = Program::new(program)
            .args(["socket", "--tpm2", "--tpmstate", &format!("dir={}", state.display())])
            .args(["--ctrl", &format!("type=unixio,path={}", socket.display())])
            .spawn(Stdio::null(), Stdio::null(), Stdio::null())?;
        let mut tpm = Tpm { process, socket, _directory: directory };
        tpm.wait()?;
        Ok(tpm)
    }

    /// Where QEMU finds it.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn wait(&mut self) -> Result<()> {
        let started = Instant::now();
        while !self.socket.exists() {
            if let Some(status) = self.process.child.try_wait().context("waiting for swtpm")? {
                bail!("swtpm ended: {status}");
            }
            if started.elapsed() > START_LIMIT {
                bail!("swtpm makes no socket within {} s", START_LIMIT.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}
