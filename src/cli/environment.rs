//! The environment as values: what decides about the engine, and this machine for the doctor.
//!
//! In: the process's environment and the option `--engine`. Out: [`EngineOptions`] and a [`Host`].

#![expect(clippy::disallowed_methods, reason = "here the environment is read")]

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::geteuid;

use crate::boot::uefi::{self, Firmware};
use crate::container::engine::{Endpoint, EngineChoice, EngineOptions};
use crate::container::registry::Settings;
use crate::doctor::Host;
use ocinitrd_support::own_directory;
use ocinitrd_support::process::find;

/// What asks for no engine at all.
const IN_PLACE: &str = "in-place";

/// The option that names the engine.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EngineOption {
    /// The container engine: "podman" (the local one, started if need be), unix:///PATH or tcp://HOST:PORT; or "in-place",
    /// to run dnf and rpm right here, without containers: inside the builder image, or in the root of a build system.
    ///
    /// Without it, the first of these counts: $CONTAINER_HOST, $DOCKER_HOST, $XDG_RUNTIME_DIR/podman/podman.sock (not for
    /// root), /run/podman/podman.sock, and a podman service that is started for this run and ended after it.
    /// Example: --engine unix:///run/podman/podman.sock
    #[arg(long, value_name = "podman|in-place|URL", value_parser = engine)]
    pub engine: Option<String>,
}

impl EngineOption {
    /// What is needed to open the engine.
    ///
    /// # Errors
    /// Fails when the current directory of a relative `PATH` entry cannot be told, and when `XDG_RUNTIME_DIR` is in the hands of
    /// somebody else.
    pub fn surroundings(&self) -> Result<EngineOptions> {
        let user_id = geteuid().as_raw();
        let runtime_directory = absolute("XDG_RUNTIME_DIR").filter(|path| user_id != 0 && path.exists());
        if let Some(directory) = &runtime_directory {
            // Whoever owns the socket in it is the engine.
            own_directory::check(directory)
                .context("using XDG_RUNTIME_DIR, which has to be this user's own; unset it")?;
        }
        let mut socket_directories: Vec<PathBuf> = runtime_directory.iter().cloned().collect();
        socket_directories.extend([env::temp_dir(), PathBuf::from("/tmp")]);
        Ok(EngineOptions {
            in_place: self.engine.as_deref() == Some(IN_PLACE),
            wish: EngineChoice {
                engine: self.engine.clone(),
                container_host: text("CONTAINER_HOST")?,
                docker_host: text("DOCKER_HOST")?,
                runtime_directory,
                user_id,
            },
            podman: find("podman").context("looking for podman")?,
            socket_directories,
        })
    }
}

/// Refuses at once what names no engine.
fn engine(text: &str) -> Result<String> {
    match text {
        "podman" | IN_PLACE => {}
        url => drop(Endpoint::parse(url)?),
    }
    Ok(text.to_owned())
}

/// This machine and user.
///
/// # Errors
/// As [`cache_directory`].
pub fn host() -> Result<Host> {
    let search_path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    Ok(Host {
        root: PathBuf::from("/"),
        user_id: geteuid().as_raw(),
        search_path: env::split_paths(&search_path).collect(),
        cache: cache_directory()?,
        temporary: env::temp_dir(),
        configuration: configuration_directory(),
        architecture: env::consts::ARCH.to_owned(),
    })
}

/// `$XDG_CACHE_HOME/ocinitrd`, by the XDG base directory specification below `$HOME/.cache` where it is unset.
///
/// # Errors
/// Fails where both are unset: a directory for everybody is no place for it.
pub fn cache_directory() -> Result<PathBuf> {
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let base = base.context(
        "finding a place for the cache: neither XDG_CACHE_HOME nor HOME is set to an absolute path; set XDG_CACHE_HOME to a \
         directory of this user's own",
    )?;
    Ok(base.join("ocinitrd"))
}

/// The images that were installed with this program, if it was installed: `bin/ocinitrd` has them in `share/ocinitrd/images`.
pub fn shipped_images() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let images = program.parent()?.parent()?.join("share/ocinitrd/images");
    images.is_dir().then_some(images)
}

/// The UEFI firmware that this host has for QEMU's guests, if it has any.
pub fn firmware() -> Option<Firmware> {
    uefi::find(Path::new("/"), configuration_directory().as_deref(), uefi::Boot::Any)
}

/// Firmware with Secure Boot that these variables are for.
pub fn firmware_for(variables: &Path) -> Option<Firmware> {
    uefi::find_for(Path::new("/"), configuration_directory().as_deref(), variables)
}

/// `$XDG_CONFIG_HOME`, by the same specification below `$HOME` where it is unset.
fn configuration_directory() -> Option<PathBuf> {
    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
}

/// Where podman looks for what this user and this machine say of registries: containers-registries.conf(5),
/// containers-auth.json(5), containers-certs.d(5).
pub fn registries() -> Settings {
    let home = |path: &str| configuration_directory().map(|directory| directory.join(path));
    let system = |path: &str| Some(PathBuf::from(path));
    let own = home("containers/registries.conf").filter(|path| path.exists());
    let main = absolute("CONTAINERS_REGISTRIES_CONF").or(own).or_else(|| system("/etc/containers/registries.conf"));
    let drop_ins = [system("/etc/containers/registries.conf.d"), home("containers/registries.conf.d")];
    let named = absolute("REGISTRY_AUTH_FILE");
    let runtime = absolute("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
    let runtime = runtime.or_else(|| credentials_without_session(geteuid().as_raw(), &env::temp_dir()));
    let docker = absolute("HOME").map(|home| home.join(".docker/config.json"));
    let certificates = [
        home("containers/certs.d"),
        system("/etc/containers/certs.d"),
        absolute("HOME").map(|home| home.join(".docker/certs.d")),
        system("/etc/docker/certs.d"),
    ];
    Settings {
        configuration: [main].into_iter().chain(drop_ins).flatten().collect(),
        credentials: match named {
            Some(named) => vec![named],
            None => [runtime, home("containers/auth.json"), docker].into_iter().flatten().collect(),
        },
        certificates: certificates.into_iter().flatten().collect(),
    }
}

/// Where podman keeps credentials without a session: for root below `/run`, for others below a directory that podman makes itself
/// where `XDG_RUNTIME_DIR` is not set. That lies among everybody's temporary files, so it counts only if it is this user's own.
fn credentials_without_session(user_id: u32, temporary: &Path) -> Option<PathBuf> {
    if user_id == 0 {
        return Some(PathBuf::from("/run/containers/0/auth.json"));
    }
    let session = PathBuf::from(format!("/run/user/{user_id}"));
    let own = temporary.join(format!("podman-run-{user_id}"));
    let directory = [session, own].into_iter().find(|directory| own_directory::check(directory).is_ok())?;
    Some(directory.join("containers/auth.json"))
}

/// The specification has relative paths ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn text(variable: &str) -> Result<Option<String>> {
    let value = env::var_os(variable).map(OsString::into_string).transpose();
    value.map_err(|value| anyhow::anyhow!("reading {variable}: {} is not UTF-8", value.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn credentials_without_a_session_are_where_podman_makes_its_own_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let credentials = |user_id| credentials_without_session(user_id, temporary.path());
        assert_eq!(credentials(0), Some(PathBuf::from("/run/containers/0/auth.json")));
        // A user that this machine does not have.
        let user_id = 1_999_999_999;
        assert_eq!(credentials(user_id), None);
        let own = temporary.path().join(format!("podman-run-{user_id}"));
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(credentials(user_id), Some(own.join("containers/auth.json")));
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(credentials(user_id), None, "where others may write, anybody's credentials may lie");
    }
}
