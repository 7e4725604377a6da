//! The definition as dnf's configuration; what dnf, its solver and rpm print as values. Pure: no program runs here.
//!
//! Both dnfs are spoken to in what they have in common: `dnf.conf(5)` options, and the solver's result, which
//! `--debugsolver` writes in libsolv's test-case format, one `install NAME-[EPOCH:]VERSION-RELEASE.ARCH@REPOSITORY`
//! a line, the epoch left out where it is 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::definition::{BUILDER_FILE, Repository, Selection};

/// Where everything that is handed to a container lies in it.
pub const CONTAINER_DIRECTORY: &str = "ocinitrd";

/// A package that dnf chose: where from, and its name as libsolv writes it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Chosen {
    /// The repository's id.
    pub repository: String,
    /// `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
    pub nevra: String,
}

/// A package as the installed tree's database has it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct InstalledPackage {
    /// The package's name.
    pub name: String,
    /// 0 where the package has none.
    pub epoch: u64,
    /// Upstream's version.
    pub version: String,
    /// The distribution's release.
    pub release: String,
    /// `x86_64`, `noarch`, ...
    pub arch: String,
    /// The file name of the source rpm.
    pub source_rpm: String,
    /// The licence as the package states it.
    pub license: String,
    /// What it takes when installed, in bytes.
    pub installed_size_bytes: u64,
    /// When it was built, in seconds since 1970-01-01 UTC.
    pub build_time: u64,
}

/// The `[main]` section that both the solve and the installation use.
///
/// dnf4 does not know `system_cachedir` and dnf5 ignores `zchunk` for local repositories: neither minds.
pub fn configuration(selection: &Selection) -> String {
    let excluded = selection.exclude.join(" ");
    let directory = CONTAINER_DIRECTORY;
    format!(
        "[main]\n\
         cachedir=/{directory}/cache\n\
         system_cachedir=/{directory}/cache\n\
         logdir=/{directory}/log\n\
         persistdir=/{directory}/persist\n\
         best=True\n\
         install_weak_deps=False\n\
         metadata_expire=-1\n\
         plugins=False\n\
         skip_if_unavailable=False\n\
         tsflags=nodocs\n\
         zchunk=False\n\
         excludepkgs={excluded}\n"
    )
}

/// The file in `repos.d`: every repository is a local directory that holds the metadata which was fetched and verified.
pub fn repositories_file(repositories: &BTreeMap<String, Repository>) -> String {
    let directory = CONTAINER_DIRECTORY;
    let mut text = String::new();
    for (position, (id, repository)) in repositories.iter().enumerate() {
        let keys: Vec<String> = (0..repository.gpg_keys.len())
            .map(|key| format!("file:///{directory}/keys/{}", key_file_name(id, key)))
            .collect();
        // The cost makes the choice between repositories that hold the same package the same in both dnfs.
        let _ = write!(
            text,
            "[{id}]\nname={id}\nbaseurl=file:///{directory}/repos/{id}\nenabled=1\npriority={}\ncost={}\n\
             gpgcheck=1\nrepo_gpgcheck={}\ngpgkey={}\n\n",
            repository.priority,
            1000 + position,
            u8::from(repository.repo_gpgcheck),
            keys.join(" ")
        );
    }
    text
}

/// The name in the container of a repository's key.
pub fn key_file_name(repository: &str, position: usize) -> String {
    format!("{repository}-{position}.asc")
}

/// Lines `NAME PATH` for the keys that are files of the builder image.
pub fn builder_keys(repositories: &BTreeMap<String, Repository>) -> String {
    let mut text = String::new();
    for (id, repository) in repositories {
        for (position, key) in repository.gpg_keys.iter().enumerate() {
            if let Some(path) = key.strip_prefix(BUILDER_FILE) {
                let _ = writeln!(text, "{} {path}", key_file_name(id, position));
            }
        }
    }
    text
}

/// Lines `NAME [KVER]` for the kernel packages to be found: the newest, or those of one kernel.
pub fn kernel_packages(packages: &[String], kernel_version: Option<&str>) -> String {
    packages.iter().map(|package| format!("{package} {}\n", kernel_version.unwrap_or_default())).collect()
}

/// How the lines begin by which both dnfs tell how they get on, and the advice for people at a terminal.
const NARRATION: &[&str] = &[
    " Fingerprint",
    " From  ",
    " UserID",
    " Userid",
    "  --skip-unavailable",
    "Debug data written",
    "Error: Unable to find a match",
    "Failed to resolve the transaction",
    "Importing GPG key",
    "Importing OpenPGP key",
    "Last metadata expiration check",
    "Metadata cache created",
    "Repositories loaded",
    "The key was successfully imported",
    "Updating and loading repositories",
    "You can try to add to command line",
];

/// What dnf complains of, in its own words: its log without the lines that only tell how it got on. All of the log if
/// nothing would be left.
pub fn complaints(log: &str) -> String {
    let is_progress = |line: &str| line.contains("B/s |");
    let is_narration = |line: &str| NARRATION.iter().any(|start| line.starts_with(start)) || is_progress(line);
    let kept: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty() && !is_narration(line)).collect();
    if kept.is_empty() { log.trim_end().to_owned() } else { kept.join("\n") }
}

/// Reads the solver's result for an empty root.
///
/// # Errors
/// Fails on a line that is not an installation: an empty root has nothing to replace.
pub fn parse_solution(text: &str) -> Result<BTreeSet<Chosen>> {
    let mut chosen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let package = line
            .strip_prefix("install ")
            .with_context(|| format!("reading the solver's result: {line:?} is no installation"))?;
        let (nevra, repository) = package
            .rsplit_once('@')
            .with_context(|| format!("reading the solver's result: {line:?} names no repository"))?;
        chosen.insert(Chosen { repository: repository.to_owned(), nevra: nevra.to_owned() });
    }
    if chosen.is_empty() {
        bail!("dnf chose no package at all");
    }
    Ok(chosen)
}

/// Reads what was found for [`kernel_packages`]: lines `NAME EPOCH VERSION RELEASE ARCH REPOSITORY`.
///
/// # Errors
/// Fails on a line of another form.
pub fn parse_kernel_packages(text: &str) -> Result<BTreeSet<Chosen>> {
    text.lines().map(parse_kernel_package).collect()
}

fn parse_kernel_package(line: &str) -> Result<Chosen> {
    let words: Vec<&str> = line.split(' ').collect();
    let [name, epoch, version, release, arch, repository] = words[..] else {
        bail!("reading dnf's answer to the kernel query: {line:?} does not have six words");
    };
    let epoch = if epoch == "0" { String::new() } else { format!("{epoch}:") };
    Ok(Chosen { repository: repository.to_owned(), nevra: format!("{name}-{epoch}{version}-{release}.{arch}") })
}

/// Reads the inventory that the install script wrote: tab-separated, one package a line.
///
/// # Errors
/// Fails on a line of another form.
pub fn parse_inventory(text: &str) -> Result<Vec<InstalledPackage>> {
    let mut packages = text.lines().map(parse_installed_package).collect::<Result<Vec<_>>>()?;
    packages.sort();
    Ok(packages)
}

fn parse_installed_package(line: &str) -> Result<InstalledPackage> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, epoch, version, release, arch, source_rpm, license, size, build_time] = fields[..] else {
        bail!("reading the package inventory: {line:?} does not have nine fields");
    };
    let number = |field: &str, what: &str| {
        field.parse().with_context(|| format!("reading the package inventory: {what} {field:?} of {name}"))
    };
    Ok(InstalledPackage {
        name: name.to_owned(),
        epoch: number(epoch, "epoch")?,
        version: version.to_owned(),
        release: release.to_owned(),
        arch: arch.to_owned(),
        source_rpm: source_rpm.to_owned(),
        license: license.to_owned(),
        installed_size_bytes: number(size, "size")?,
        build_time: number(build_time, "build time")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(keys: &[&str]) -> Repository {
        Repository {
            baseurl: vec!["/srv/repo".to_owned()],
            metalink: None,
            mirrorlist: None,
            gpg_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            repo_gpgcheck: true,
            filelists: false,
            priority: 99,
        }
    }

    #[test]
    fn repositories_become_local_directories_with_their_keys() {
        let repositories = BTreeMap::from([("a".to_owned(), repository(&["/k.asc", "builder:/etc/k"]))]);
        insta::assert_snapshot!(repositories_file(&repositories), @r"
        [a]
        name=a
        baseurl=file:///ocinitrd/repos/a
        enabled=1
        priority=99
        cost=1000
        gpgcheck=1
        repo_gpgcheck=1
        gpgkey=file:///ocinitrd/keys/a-0.asc file:///ocinitrd/keys/a-1.asc
        ");
        assert_eq!(builder_keys(&repositories), "a-1.asc /etc/k\n");
    }

    #[test]
    fn solution_is_read_with_epochs_and_at_signs_in_place() {
        let chosen = parse_solution("install a-2:1.2-3.fc44.noarch@fedora\ninstall b@c-1.0-1.x86_64@up\n").unwrap();
        let expected = [("fedora", "a-2:1.2-3.fc44.noarch"), ("up", "b@c-1.0-1.x86_64")];
        let expected =
            expected.map(|(repository, nevra)| Chosen { repository: repository.into(), nevra: nevra.into() });
        assert_eq!(chosen, BTreeSet::from(expected));
    }

    #[test]
    fn anything_but_installations_is_refused() {
        assert!(parse_solution("erase a-1-1.noarch@@System\n").is_err());
        assert!(parse_solution("\n").is_err());
    }

    #[test]
    fn kernel_packages_leave_epoch_zero_out() {
        let chosen = parse_kernel_packages("kernel-core 0 6.12.1 1 x86_64 f\nk 3 1 1 noarch f\n").unwrap();
        let nevras: Vec<&str> = chosen.iter().map(|package| package.nevra.as_str()).collect();
        assert_eq!(nevras, ["k-3:1-1.noarch", "kernel-core-6.12.1-1.x86_64"]);
        assert!(parse_kernel_packages("kernel-core 6.12.1\n").is_err());
    }

    #[test]
    fn complaints_are_what_is_left_of_dnfs_narration() {
        let five = "Updating and loading repositories:\n offline 100% |  62.9 KiB/s |   2.2 KiB |  00m00s\n\
                    Importing OpenPGP key 0x64226CC2:\n UserID     : \"tests\"\n Fingerprint: 06\n From       : file\n\
                    The key was successfully imported.\nRepositories loaded.\nMetadata cache created.\n\
                    Failed to resolve the transaction:\nNo match for argument: vim-minimal\n\
                    Debug data written to \"/ocinitrd/debugdata\"\nYou can try to add to command line:\n\
                    \x20 --skip-unavailable to skip unavailable packages\n";
        let four = "offline        14 kB/s | 695  B     00:00    \nImporting GPG key 0x64226CC2:\n Userid     : \"tests\"\n\
                    Metadata cache created.\nLast metadata expiration check: 0:00:03 ago on Sun Nov 22 2026.\n\
                    No match for argument: vim-minimal\nError: Unable to find a match: vim-minimal\n";
        for log in [five, four] {
            assert_eq!(complaints(log), "No match for argument: vim-minimal");
        }
        assert_eq!(complaints("Repositories loaded.\n"), "Repositories loaded.");
    }

    #[test]
    fn inventory_is_sorted_and_exact() {
        let text = "b\t0\t1\t1\tx86_64\tb.src.rpm\tMIT\t10\t5\na\t1\t2\t3\tnoarch\ta.src.rpm\tMIT AND BSD\t20\t6\n";
        let packages = parse_inventory(text).unwrap();
        assert_eq!((packages[0].name.as_str(), packages[0].epoch, packages[1].installed_size_bytes), ("a", 1, 10));
        assert!(parse_inventory("a\tb\n").is_err());
        assert!(parse_inventory("b\tx\t1\t1\tx86_64\tb.src.rpm\tMIT\t10\t5\n").is_err());
    }
}
