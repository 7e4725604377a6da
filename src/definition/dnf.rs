//! The definition as dnf's configuration; what dnf, its solver and rpm print as values. Pure: no program runs here.
//!
//! Both dnfs are spoken to in what they have in common: `dnf.conf(5)` options, and the solver's result, which
//! `--debugsolver` writes in libsolv's test-case format, one `install NAME-[EPOCH:]VERSION-RELEASE.ARCH@REPOSITORY`
//! a line, the epoch left out where it is 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::definition::{BUILDER_FILE, Repository};
use crate::names::{Nevra, PackageGlob, PackageName};
use ocinitrd_format::time::Timestamp;

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
    pub epoch: u32,
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
    pub build_time: Timestamp,
}

impl InstalledPackage {
    /// `NAME-[EPOCH:]VERSION-RELEASE.ARCH`, an epoch of 0 left out.
    pub fn nevra(&self) -> String {
        let InstalledPackage { name, epoch, version, release, arch, .. } = self;
        Nevra { name, epoch: *epoch, version, release, arch }.to_string()
    }
}

/// The `[main]` section that both the solve and the installation use; packages in `exclude` are never chosen.
///
/// dnf4 does not know `system_cachedir` and dnf5 ignores `zchunk` for local repositories: neither minds.
pub fn configuration(exclude: &[PackageGlob]) -> String {
    let excluded = exclude.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(" ");
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

/// Lines `REPOSITORY NAME...` with the files of each repository's keys.
pub fn repository_keys(repositories: &BTreeMap<String, Repository>) -> String {
    let mut text = String::new();
    for (id, repository) in repositories {
        let names: Vec<String> = (0..repository.gpg_keys.len()).map(|position| key_file_name(id, position)).collect();
        let _ = writeln!(text, "{id} {}", names.join(" "));
    }
    text
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

/// Lines `KERNEL NAME [KVER]` for the packages to be found for each kernel, which are counted from 0: those of the newest,
/// or those of one version.
pub fn kernel_packages(packages: &[PackageName], kernels: &[Option<String>]) -> String {
    let mut text = String::new();
    for (kernel, version) in kernels.iter().enumerate() {
        for package in packages {
            let _ = writeln!(text, "{kernel} {package} {}", version.as_deref().unwrap_or_default());
        }
    }
    text
}

/// The names of the packages that were asked for, from the table in which both dnfs show what they would do. The others
/// are below the heading `Installing dependencies:`.
pub fn requested(log: &str) -> BTreeSet<String> {
    let table = log.lines().skip_while(|line| *line != "Installing:").skip(1);
    table.map_while(|line| line.strip_prefix(' ')).filter_map(first_word).map(str::to_owned).collect()
}

/// Of a row; a row that was broken goes on further to the right.
fn first_word(row: &str) -> Option<&str> {
    if row.starts_with(' ') { None } else { row.split_whitespace().next() }
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

/// What dnf would change in a root that has packages.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// Packages that come, also in the place of others.
    pub installed: BTreeSet<Chosen>,
    /// Packages that go, as `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
    pub removed: BTreeSet<String>,
}

/// Reads the solver's result for a root that has packages: lines `install NEW@REPOSITORY`, `erase OLD@@System`, and
/// `upgrade OLD@@System NEW@REPOSITORY` with other verbs for other kinds of replacement.
///
/// # Errors
/// Fails on a line of another form.
pub fn parse_change(text: &str) -> Result<Change> {
    let mut change = Change::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let packages = line.split(' ').skip(1);
        for package in packages {
            let (nevra, repository) = package
                .split_once("@@System")
                .map(|(nevra, _)| (nevra, None))
                .or_else(|| package.rsplit_once('@').map(|(nevra, repository)| (nevra, Some(repository))))
                .with_context(|| format!("reading the solver's result: {line:?} names no repository"))?;
            match repository {
                None => drop(change.removed.insert(nevra.to_owned())),
                Some(repository) => {
                    change.installed.insert(Chosen { repository: repository.to_owned(), nevra: nevra.to_owned() });
                }
            }
        }
    }
    Ok(change)
}

/// Reads what was found for [`kernel_packages`]: lines `KERNEL NAME EPOCH VERSION RELEASE ARCH REPOSITORY`. Returns the
/// packages of each of `kernels` kernels.
///
/// # Errors
/// Fails on a line of another form.
pub fn parse_kernel_packages(text: &str, kernels: usize) -> Result<Vec<BTreeSet<Chosen>>> {
    let mut found = vec![BTreeSet::new(); kernels];
    for line in text.lines() {
        let (kernel, package) = parse_kernel_package(line)?;
        found.get_mut(kernel).with_context(|| format!("dnf answered for an unknown kernel: {line:?}"))?.insert(package);
    }
    Ok(found)
}

fn parse_kernel_package(line: &str) -> Result<(usize, Chosen)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [kernel, name, epoch, version, release, arch, repository] = words[..] else {
        bail!("reading dnf's answer to the kernel query: {line:?} does not have seven words");
    };
    let kernel = kernel.parse().with_context(|| format!("reading dnf's answer to the kernel query: {line:?}"))?;
    let epoch = if epoch == "0" { String::new() } else { format!("{epoch}:") };
    let nevra = format!("{name}-{epoch}{version}-{release}.{arch}");
    Ok((kernel, Chosen { repository: repository.to_owned(), nevra }))
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
        field.parse::<u64>().with_context(|| format!("reading the package inventory: {what} {field:?} of {name}"))
    };
    Ok(InstalledPackage {
        name: name.to_owned(),
        epoch: u32::try_from(number(epoch, "epoch")?).context("reading the package inventory: an epoch is too big")?,
        version: version.to_owned(),
        release: release.to_owned(),
        arch: arch.to_owned(),
        source_rpm: source_rpm.to_owned(),
        license: license.to_owned(),
        installed_size_bytes: number(size, "size")?,
        build_time: number(build_time, "build time")?
            .try_into()
            .context("reading the package inventory: a time of build")?,
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
            archive: Vec::new(),
            enabled: true,
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
        assert_eq!(repository_keys(&repositories), "a a-0.asc a-1.asc\n");
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
        let text = "0 kernel-core 0 6.12.1 1 x86_64 f\n0 k 3 1 1 noarch f\n1 kernel-core 0 6.11.9 1 x86_64 f\n";
        let chosen = parse_kernel_packages(text, 2).unwrap();
        let nevras = |kernel: usize| chosen[kernel].iter().map(|one| one.nevra.as_str()).collect::<Vec<_>>();
        assert_eq!(nevras(0), ["k-3:1-1.noarch", "kernel-core-6.12.1-1.x86_64"]);
        assert_eq!(nevras(1), ["kernel-core-6.11.9-1.x86_64"]);
        assert!(parse_kernel_packages("0 kernel-core 6.12.1\n", 1).is_err());
        assert!(parse_kernel_packages(text, 1).is_err());
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
    fn requested_packages_are_those_of_the_first_table() {
        let five = "Package              Arch   Version    Repository      Size\n\
                    Installing:\n bash                x86_64 5.2.37-2   offline      6.9 MiB\n\
                    \x20util-linux-core      x86_64 2.41-5     offline      4.9 MiB\n\
                    Installing dependencies:\n glibc               x86_64 2.41-12    offline     13.9 MiB\n\n\
                    Transaction Summary:\n Installing:  3 packages\n\nOperation aborted by the user.\n";
        let four = "Dependencies resolved.\n=====\n Package      Architecture Version  Repository  Size\n=====\n\
                    Installing:\n bash    x86_64  5.2.37-2  offline  1.6 M\n util-linux-core\n\
                    \x20        x86_64  2.41-5  offline  1.0 M\n\
                    Installing dependencies:\n glibc   x86_64  2.41-12  offline  3.0 M\n\nOperation aborted.\n";
        for log in [five, four] {
            assert_eq!(requested(log).into_iter().collect::<Vec<_>>(), ["bash", "util-linux-core"]);
        }
        assert!(requested("Nothing to do.\n").is_empty());
    }

    #[test]
    fn changes_tell_what_comes_and_what_goes() {
        let text = "upgrade a-1-1.noarch@@System a-2:2-1.noarch@up\nerase b-1-1.x86_64@@System\n\
                    install c@d-1-1.noarch@fedora\n";
        let change = parse_change(text).unwrap();
        let chosen = |repository: &str, nevra: &str| Chosen { repository: repository.into(), nevra: nevra.into() };
        assert_eq!(
            change.installed,
            BTreeSet::from([chosen("up", "a-2:2-1.noarch"), chosen("fedora", "c@d-1-1.noarch")])
        );
        assert_eq!(change.removed, BTreeSet::from(["a-1-1.noarch".to_owned(), "b-1-1.x86_64".to_owned()]));
        assert_eq!(parse_change("").unwrap(), Change::default());
        assert!(parse_change("upgrade a\n").is_err());
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
