//! `primary.xml`: the packages of a repository. Read as a stream: Fedora's has 200 MB, of which few packages are wanted.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail, ensure};
use quick_xml::events::Event;
use serde::{Deserialize, Serialize};

use super::UNPACKED_MAX_BYTES;
use super::source::join;
use super::xml::{Element, Events, element_of};
use crate::names::{Nevra, Place, check_address, is_below};
use ocinitrd_format::checksum::Checksum;
use ocinitrd_format::compress::MultiDecoder;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::{Escaped, quoted};
use ocinitrd_format::time::Timestamp;

const BUFFER_BYTES: usize = 1 << 18;
/// What describes a package has a dozen elements, of which one has all lists.
const CHILDREN_MAX: usize = 100;
/// 8 GiB: four times what the greatest packages have.
const PACKAGE_MAX_BYTES: u64 = 8 << 30;
/// 1 TiB: sums of these do not overflow.
const INSTALLED_MAX_BYTES: u64 = 1 << 40;

/// Elements directly in a package; the format has a dozen.
const FACTS_MAX: usize = 1000;

/// A package as its repository describes it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its epoch; 0 if it has none.
    pub epoch: u32,
    /// Its version.
    pub version: String,
    /// Its release.
    pub release: String,
    /// Its architecture, such as `x86_64` or `noarch`.
    pub arch: String,
    /// The id of the repository that has it.
    pub repository: String,
    /// Where the rpm file is: a path relative to the repository's base URLs, or a whole URL.
    pub location: String,
    /// SHA-256 of the rpm file.
    pub checksum: Digest,
    /// Size of the rpm file in bytes.
    pub size_bytes: u64,
    /// Size of its files when installed, in bytes.
    pub installed_size_bytes: u64,
    /// When it was built, in seconds since 1970-01-01 UTC.
    pub build_time: Timestamp,
    /// File name of the source rpm it was built from; empty if the repository does not tell.
    pub source_rpm: String,
    /// Its licence, as the package states it.
    pub license: String,
}

impl Package {
    /// What tells it from other packages.
    pub fn identity(&self) -> Nevra<'_> {
        let Package { name, epoch, version, release, arch, .. } = self;
        Nevra { name, epoch: *epoch, version, release, arch }
    }

    /// `name-[epoch:]version-release.arch`, as libsolv writes it: an epoch of 0 is left out.
    pub fn nevra(&self) -> String {
        self.identity().to_string()
    }

    /// Refuses what no package is: parts of its identity and places that are none, sizes beyond reason.
    ///
    /// # Errors
    /// Fails naming what is wrong.
    pub fn check(&self) -> Result<()> {
        self.identity().check()?;
        check_location(&self.location)?;
        check_source_rpm(&self.source_rpm)?;
        ensure!(
            (1..=PACKAGE_MAX_BYTES).contains(&self.size_bytes),
            "its rpm file is said to have {} bytes; at most {PACKAGE_MAX_BYTES} are taken",
            self.size_bytes
        );
        ensure!(
            self.installed_size_bytes <= INSTALLED_MAX_BYTES,
            "it is said to have {} bytes when installed; at most {INSTALLED_MAX_BYTES} are taken",
            self.installed_size_bytes
        );
        Ok(())
    }

    fn order(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name).then_with(|| self.nevra().cmp(&other.nevra()))
    }
}

/// Relative to the repository, or an address, whose scheme decides who may name it: [`crate::packages::fetch::Places::of`].
fn check_location(location: &str) -> Result<()> {
    let is_place = match Place::of(location) {
        Place::Remote | Place::FileUrl => check_address(location, false).is_ok(),
        Place::OtherUrl | Place::Path => is_below(location),
    };
    ensure!(is_place, "its location {} is outside the repository", quoted(location.as_bytes()));
    Ok(())
}

/// It becomes a part of the address of an archive; empty if the package does not tell.
fn check_source_rpm(name: &str) -> Result<()> {
    let is_file_name = !name.contains(['/', '\\', ' ', '%', '?', '#']) && !name.starts_with('.');
    ensure!(
        is_file_name && !name.chars().any(char::is_control),
        "its source rpm {} is no name of a file",
        quoted(name.as_bytes())
    );
    Ok(())
}

/// Finds the packages `wanted` (in the form of [`Package::nevra`]) in `primary.xml`, plain or compressed (gzip, zstd, xz,
/// bzip2), of the repository with the id `repository`. They come back sorted by name.
///
/// # Errors
/// Fails when one of them is not there, is there in two different builds, or cannot be verified by SHA-256, and on
/// damaged or truncated metadata.
pub fn find(primary: impl Read, repository: &str, wanted: &BTreeSet<String>) -> Result<Vec<Package>> {
    let context = || format!("reading the primary metadata of repository {repository}");
    let mut found = Finder::new(repository, wanted)?;
    let unpacked = BufReader::with_capacity(BUFFER_BYTES, MultiDecoder::new(primary));
    found.read(&mut Events::of(unpacked, UNPACKED_MAX_BYTES)).with_context(context)?;
    let missing: Vec<&str> =
        wanted.iter().filter(|nevra| !found.packages.contains_key(*nevra)).map(String::as_str).collect();
    ensure!(missing.is_empty(), "{}: it does not list {}", context(), missing.join(", "));
    let mut packages: Vec<Package> = found.packages.into_values().collect();
    packages.sort_by(Package::order);
    Ok(packages)
}

struct Finder<'w> {
    repository: &'w str,
    wanted: &'w BTreeSet<String>,
    /// Most packages are told to be unwanted by their name, the first thing that their description has.
    names: BTreeSet<&'w str>,
    packages: BTreeMap<String, Package>,
}

impl<'w> Finder<'w> {
    fn new(repository: &'w str, wanted: &'w BTreeSet<String>) -> Result<Self> {
        let name = |nevra: &'w String| {
            let mut parts = nevra.rsplitn(3, '-');
            parts.nth(2).with_context(|| format!("{nevra:?} is no name-version-release.arch"))
        };
        let names = wanted.iter().map(name).collect::<Result<_>>()?;
        Ok(Finder { repository, wanted, names, packages: BTreeMap::new() })
    }

    fn read<R: BufRead>(&mut self, events: &mut Events<R>) -> Result<()> {
        let mut inside = false;
        loop {
            match events.next()? {
                Event::Start(start) if start.local_name().as_ref() == "metadata" => inside = true,
                Event::Start(start) if inside && start.local_name().as_ref() == "package" => {
                    self.read_package(events)?
                }
                Event::Start(_) if inside => events.skip()?,
                Event::Start(start) => {
                    bail!("it is a <{}> instead of a <metadata>", Escaped::text(start.name().as_ref()))
                }
                Event::Empty(start) if start.local_name().as_ref() == "metadata" => return Ok(()),
                Event::End(_) => return Ok(()),
                Event::Eof => bail!("it is cut off"),
                _ => {}
            }
        }
    }

    fn read_package<R: BufRead>(&mut self, events: &mut Events<R>) -> Result<()> {
        let mut package = Element { name: "package".to_owned(), ..Element::default() };
        loop {
            ensure!(package.children.len() < FACTS_MAX, "a package has more than {FACTS_MAX} elements");
            match events.next()? {
                Event::Start(child) => {
                    let start = element_of(&child)?;
                    let child = events.element(start)?;
                    if child.name == "name" && !self.names.contains(child.text.as_str()) {
                        return events.skip();
                    }
                    package.children.push(child);
                }
                Event::Empty(child) => package.children.push(element_of(&child)?),
                Event::End(_) => return self.keep(&package),
                Event::Eof => bail!("it is cut off inside a package"),
                _ => {}
            }
            ensure!(package.children.len() <= CHILDREN_MAX, "a package has more than {CHILDREN_MAX} elements");
        }
    }

    fn keep(&mut self, element: &Element) -> Result<()> {
        let package = match self.describe(element)? {
            Some(package) => package,
            None => return Ok(()),
        };
        let nevra = package.nevra();
        match self.packages.get(&nevra) {
            Some(other) if other.checksum != package.checksum => bail!(
                "it lists two different builds of {nevra}: {} and {}; it cannot be told which one is meant",
                other.location,
                package.location
            ),
            _ => self.packages.insert(nevra, package),
        };
        Ok(())
    }

    /// The package, if it is wanted.
    fn describe(&self, element: &Element) -> Result<Option<Package>> {
        let name = &element.child("name")?.text;
        let arch = &element.child("arch")?.text;
        let number = element.child("version")?;
        let (version, release) = (number.attribute("ver")?, number.attribute("rel")?);
        let epoch = match number.attributes.get("epoch").map(String::as_str) {
            None | Some("") => 0,
            Some(epoch) => epoch.parse().with_context(|| format!("{name} has the epoch {epoch:?}"))?,
        };
        let nevra = Nevra { name, epoch, version, release, arch }.to_string();
        if !self.wanted.contains(&nevra) {
            return Ok(None);
        }
        let context = || format!("reading what it says of {}", Escaped::text(&nevra));
        let facts = Facts::of(element).with_context(context)?;
        let package = Package {
            name: name.clone(),
            epoch,
            version: version.to_owned(),
            release: release.to_owned(),
            arch: arch.clone(),
            repository: self.repository.to_owned(),
            location: facts.location,
            checksum: facts.checksum,
            size_bytes: facts.size_bytes,
            installed_size_bytes: facts.installed_size_bytes,
            build_time: facts.build_time,
            source_rpm: facts.source_rpm,
            license: facts.license,
        };
        package.check().with_context(context)?;
        Ok(Some(package))
    }
}

/// What a package's description says beside its identity.
struct Facts {
    location: String,
    checksum: Digest,
    size_bytes: u64,
    installed_size_bytes: u64,
    build_time: Timestamp,
    source_rpm: String,
    license: String,
}

impl Facts {
    fn of(element: &Element) -> Result<Self> {
        let checksum = element.child("checksum")?;
        let Checksum::Sha256(checksum) = Checksum::parse(checksum.attribute("type")?, &checksum.text)? else {
            bail!("its checksum is a sha512; packages are supported by sha256 only");
        };
        let size = element.child("size")?;
        let format = element.child("format")?;
        let text = |name| format.children(name).next().map(|child| child.text.clone()).unwrap_or_default();
        Ok(Facts {
            location: location(element.child("location")?)?,
            checksum,
            size_bytes: size.number("package")?,
            installed_size_bytes: size.number("installed")?,
            build_time: element.child("time")?.number("build")?.try_into()?,
            source_rpm: text("sourcerpm"),
            license: text("license"),
        })
    }
}

/// Relative to the repository, or whole when the package says that it lies elsewhere (`xml:base`).
fn location(location: &Element) -> Result<String> {
    let href = location.attribute("href")?;
    ensure!(is_below(href), "its location {} is outside the repository", quoted(href.as_bytes()));
    match location.attributes.get("base") {
        None => Ok(href.to_owned()),
        Some(base) if matches!(Place::of(base), Place::Remote | Place::FileUrl) => Ok(join(base, href)),
        Some(base) => bail!("its location has the base {}, which is no URL", quoted(base.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &str = include_str!("../../../tests/fixtures/repository/primary.xml");

    fn find_in(text: &str, wanted: &[&str]) -> Result<Vec<Package>> {
        find(text.as_bytes(), "fixture", &wanted.iter().map(|&nevra| nevra.to_owned()).collect())
    }

    fn message(text: &str, wanted: &[&str]) -> String {
        format!("{:#}", find_in(text, wanted).unwrap_err())
    }

    #[test]
    fn chosen_packages_are_found_by_nevra_and_sorted_by_name() {
        let wanted = ["beta-1.0-3.fc44.noarch", "alpha-2:1.2-3.fc44.x86_64", "alpha-libs-2:1.2-3.fc44.i686"];
        let packages = find_in(PRIMARY, &wanted).unwrap();
        let nevras: Vec<String> = packages.iter().map(Package::nevra).collect();
        assert_eq!(nevras, ["alpha-2:1.2-3.fc44.x86_64", "alpha-libs-2:1.2-3.fc44.i686", "beta-1.0-3.fc44.noarch"]);
        let beta = &packages[2];
        assert_eq!(beta.license, "MIT AND R&D");
        assert_eq!(beta.source_rpm, "beta-1.0-3.fc44.src.rpm");
        assert_eq!(beta.location, "Packages/b/beta-1.0-3.fc44.noarch.rpm");
        assert_eq!(
            (beta.epoch, beta.build_time, beta.repository.as_str()),
            (0, Timestamp::from_seconds(1_780_000_000), "fixture")
        );
        assert!(beta.size_bytes > 1000 && beta.installed_size_bytes > 0);
    }

    #[test]
    fn a_package_survives_its_json() {
        let package = find_in(PRIMARY, &["beta-1.0-3.fc44.noarch"]).unwrap().remove(0);
        let json = serde_json::to_string(&package).unwrap();
        assert!(json.contains("\"checksum\":\"sha256:"), "{json}");
        assert_eq!(serde_json::from_str::<Package>(&json).unwrap(), package);
    }

    #[test]
    fn the_right_one_of_several_versions_and_architectures_is_taken() {
        let one = |nevra| find_in(PRIMARY, &[nevra]).unwrap().remove(0).location;
        assert_eq!(one("kernel-core-6.12.1-1.x86_64"), "Packages/k/kernel-core-6.12.1-1.x86_64.rpm");
        assert_eq!(one("kernel-core-6.12.2-1.x86_64"), "Packages/k/kernel-core-6.12.2-1.x86_64.rpm");
    }

    #[test]
    fn packages_that_are_not_there_are_named() {
        let wanted = ["alpha-1.2-3.fc44.x86_64", "beta-1.0-3.fc44.noarch", "nosuch-1-1.noarch"];
        assert_eq!(
            message(PRIMARY, &wanted),
            "reading the primary metadata of repository fixture: it does not list alpha-1.2-3.fc44.x86_64, nosuch-1-1.noarch"
        );
        assert!(message(PRIMARY, &["alpha"]).contains("is no name-version-release.arch"));
    }

    #[test]
    fn truncated_metadata_never_passes_for_whole() {
        let wanted = ["alpha-2:1.2-3.fc44.x86_64"];
        let whole = PRIMARY.trim_end();
        for length in (0..whole.len()).step_by(7) {
            let message = message(&whole[..length], &wanted);
            assert!(message.starts_with("reading the primary metadata of repository fixture: "), "{length}: {message}");
            assert!(!message.contains("does not list"), "{length}: {message}");
        }
    }

    #[test]
    fn packages_that_cannot_be_verified_or_told_apart_are_refused() {
        let wanted = ["beta-1.0-3.fc44.noarch"];
        let weak = PRIMARY.replace("checksum type=\"sha256\"", "checksum type=\"sha1\"");
        assert!(
            message(&weak, &wanted).ends_with(
                "beta-1.0-3.fc44.noarch: checksums of type \"sha1\" are not supported, only sha256 and sha512"
            )
        );
        let start = PRIMARY.find("<package ").unwrap();
        let end = PRIMARY.rfind("</metadata>").unwrap();
        let twice = |second: &str| format!("{}{second}</metadata>", &PRIMARY[..end]);
        assert_eq!(find_in(&twice(&PRIMARY[start..end]), &wanted).unwrap().len(), 1);
        let checksum = find_in(PRIMARY, &wanted).unwrap()[0].checksum.hex();
        let other = PRIMARY[start..end].replace(&checksum, &"0".repeat(64));
        assert!(message(&twice(&other), &wanted).contains("two different builds of beta-1.0-3.fc44.noarch"));
        let outside = PRIMARY.replace("href=\"Packages/b/", "href=\"../");
        assert!(message(&outside, &wanted).contains("outside the repository"));
    }

    #[test]
    fn times_and_sizes_beyond_reason_name_the_package_and_the_repository() {
        let wanted = ["beta-1.0-3.fc44.noarch"];
        let build = "build=\"1780000000\"";
        for time in ["9223372036854775807", "100000000000", "18446744073709551616", "-1", ""] {
            let text = PRIMARY.replace(build, &format!("build=\"{time}\""));
            assert_ne!(text, PRIMARY);
            let message = message(&text, &wanted);
            assert!(
                message.starts_with(
                    "reading the primary metadata of repository fixture: reading what it says of beta-1.0-3.fc44.noarch: "
                ),
                "{message}"
            );
            // The package that is not wanted does not matter, nor the time of the file.
            find_in(&PRIMARY.replace("file=\"", &format!("file=\"{time}")), &wanted).unwrap();
        }
        for (attribute, number) in [("package", "8589934593"), ("package", "0"), ("installed", "1099511627777")] {
            let text = replaced_numbers(attribute, number);
            assert!(message(&text, &wanted).contains(&format!("said to have {number} bytes")), "{attribute}");
        }
    }

    /// The metadata with this number for the size of every package.
    fn replaced_numbers(attribute: &str, number: &str) -> String {
        let mut text = String::new();
        for (position, part) in PRIMARY.split(&format!("{attribute}=\"")).enumerate() {
            if position == 0 || !part.starts_with(|first: char| first.is_ascii_digit()) {
                text += part;
            } else {
                text += &format!("{attribute}=\"{number}{}", &part[part.find('"').unwrap()..]);
            }
        }
        assert_ne!(text, PRIMARY);
        text
    }

    #[test]
    fn a_repository_never_names_files_of_this_machine_or_what_is_no_package() {
        let wanted = ["beta-1.0-3.fc44.noarch"];
        for base in ["file", "FILE:", "/dev", "ftp://a.example", "data:x", "file://host/x"] {
            let text = PRIMARY.replace("<location href=", &format!("<location xml:base=\"{base}\" href="));
            let message = message(&text, &wanted);
            assert!(message.contains("which is no URL") || message.contains("outside the repository"), "{message}");
        }
        for href in ["%2e%2e/x", "a/..\\x", "a&#10;b"] {
            let text = PRIMARY.replace("href=\"Packages/b/", &format!("href=\"{href}/"));
            assert!(message(&text, &wanted).contains("outside the repository"), "{href}");
        }
        let text = PRIMARY.replace("beta-1.0-3.fc44.src.rpm", "../beta.src.rpm");
        assert!(message(&text, &wanted).contains("its source rpm \"../beta.src.rpm\" is no name of a file"));
        let text = PRIMARY.replace("<name>beta</name>", "<name>be ta</name>");
        assert!(message(&text, &["be ta-1.0-3.fc44.noarch"]).contains("\"be ta\" is not the name of a package"));
    }

    #[test]
    fn packages_elsewhere_keep_their_whole_location() {
        let elsewhere =
            PRIMARY.replace("<location href=\"Packages/b/", "<location xml:base=\"https://a.example/x/\" href=\"");
        let package = find_in(&elsewhere, &["beta-1.0-3.fc44.noarch"]).unwrap().remove(0);
        assert_eq!(package.location, "https://a.example/x/beta-1.0-3.fc44.noarch.rpm");
    }
}
