//! Repository metadata: fetched by us, verified, and given as files to the dnf that has no network.
//!
//! Enters: a [`Source`]. Leaves: [`Metadata`], the files in the store that make up `repodata/` for dnf, the base URLs
//! to fetch packages from, and, once dnf has chosen, each [`Package`] with its checksum and location.
//!
//! A metalink vouches for `repomd.xml`; without one, the signature does (`repo_gpgcheck`), or else the transport alone.
//! `repomd.xml` vouches for all other metadata, and that for the packages, which are signed besides.

mod metalink;
mod primary;
mod repomd;
mod source;
mod xml;

use std::collections::BTreeSet;
use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::packages::download::{Downloader, Meter};
use crate::packages::store::{Expected, Size, Store};
use ocinitrd_format::checksum::Checksum;
use ocinitrd_format::compress::MultiDecoder;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::Escaped;
use ocinitrd_support::progress::Progress;
use ocinitrd_support::regular_file;

pub use primary::{Package, find};
pub(crate) use source::join;
pub use source::{Location, Source, Variables, substitute};

const REPOMD_PATH: &str = "repodata/repomd.xml";
const SIGNATURE_PATH: &str = "repodata/repomd.xml.asc";
/// 4 MiB: metalinks, mirror lists, `repomd.xml` and signatures have some kilobytes.
const TEXT_MAX_BYTES: u64 = 4 << 20;
/// As many mirrors of a list are asked: a longer list would only delay the error.
const MIRRORS_MAX: usize = 100;
/// 4 GiB: what a metadata file may become when it is decompressed. The greatest become a tenth of it.
const UNPACKED_MAX_BYTES: u64 = 4 << 30;

/// A repository's metadata, in the store.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Metadata {
    /// The repository's id.
    pub id: String,
    /// The digest of its `repomd.xml`, which vouches for all other files.
    pub repomd: Digest,
    /// All files for dnf, `repomd.xml` and its signature included, sorted by path.
    pub files: Vec<MetadataFile>,
    /// Where packages are, the server that had `repomd.xml` first.
    pub base_urls: Vec<String>,
}

/// One metadata file.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct MetadataFile {
    /// Relative to the repository: `repodata/...`.
    pub path: String,
    /// What it is: `repomd`, `signature`, or a type of `repomd.xml` such as `primary`.
    pub kind: String,
    /// Where the store has it.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl Metadata {
    /// The packages `wanted`, in libsolv's form `name-[epoch:]version-release.arch`, sorted by name.
    ///
    /// # Errors
    /// As [`find`]; and when the store does not have the metadata any more.
    pub fn packages(&self, store: &Store, wanted: &BTreeSet<String>) -> Result<Vec<Package>> {
        let primary = self.files.iter().find(|file| file.kind == "primary");
        let primary = primary.with_context(|| format!("repository {} has no primary metadata", self.id))?;
        find(store.read(&primary.digest)?, &self.id, wanted)
    }
}

/// Fetches what dnf needs of a repository to solve into the store; what is there is not fetched again.
///
/// # Errors
/// Fails when no mirror has a `repomd.xml` that is right, or one of the files it lists, naming each with its cause;
/// when `repo_gpgcheck` is on and there is no signature; on metadata that cannot be verified; when the store fails.
pub async fn fetch(source: &Source, store: &Store, downloader: &Downloader, progress: &Progress) -> Result<Metadata> {
    source.check()?;
    let blobs = Blobs { store, progress, repository: &source.id };
    let index = fetch_index(source, &blobs, downloader).await?;
    let mut files = vec![blobs.keep("repomd", REPOMD_PATH, &index.repomd)?];
    if source.repo_gpgcheck {
        let signature = fetch_signature(source, &index.base_urls[0], downloader).await?;
        files.push(blobs.keep("signature", SIGNATURE_PATH, &signature)?);
    }
    let listed = repomd::parse(&index.repomd, |kind| is_wanted(kind, source.filelists));
    let listed = listed.with_context(|| format!("reading repomd.xml of repository {}", source.id))?;
    let total_bytes = listed.iter().filter_map(|file| file.expected.size.exact_bytes()).sum();
    let meter = Meter::new(progress.stage(&format!("fetching metadata of {}", source.id), Some(total_bytes)));
    for file in listed {
        let what = format!("{} of repository {}", file.path, source.id);
        let locations: Vec<String> = index.base_urls.iter().map(|base_url| join(base_url, &file.path)).collect();
        if let Some(digest) = store.find(&file.expected.checksum) {
            blobs.discard_damaged(&digest, &file.path)?;
        }
        let digest = downloader.store(&what, &locations, &file.expected, store, &meter).await?;
        check_unpacked(store, &digest).with_context(|| format!("reading {what}"))?;
        let size_bytes = store.size_bytes(&digest)?;
        files.push(MetadataFile { path: file.path, kind: file.kind, digest, size_bytes });
    }
    meter.into_stage().finish("");
    files.sort();
    Ok(Metadata { id: source.id.clone(), repomd: Digest::of(&index.repomd), files, base_urls: index.base_urls })
}

/// Marks the metadata that a `repomd.xml` vouches for as used, as far as the store has them, so that no clean-up takes them: a
/// lock is added to from the metadata that it was made from.
pub fn touch(store: &Store, repomd: &Digest) {
    // A command that needs them reports what is wrong with them.
    let listed = || -> Result<Vec<Digest>> {
        let bytes = regular_file::read(&store.path(repomd), TEXT_MAX_BYTES)?;
        let listed = repomd::parse(&bytes, |kind| is_wanted(kind, true))?;
        Ok(listed.iter().filter_map(|file| store.find(&file.expected.checksum)).chain([*repomd]).collect())
    };
    listed().unwrap_or_default().iter().for_each(|digest| Store::touch(&store.path(digest)));
}

/// What dnf loads before it solves: dnf4 and dnf5 both fail if one of these is listed and missing, `updateinfo` too.
/// SQLite forms they do not load; zchunk forms dnf prefers unless it runs with `zchunk=False`, as ours must.
fn is_wanted(kind: &str, filelists: bool) -> bool {
    match kind {
        "primary" | "group" | "group_gz" | "group_xz" | "group_zst" | "modules" | "updateinfo" => true,
        "filelists" => filelists,
        _ => false,
    }
}

/// The `repomd.xml` to go by, and who may have what it lists.
struct Index {
    repomd: Vec<u8>,
    /// The one that had it first.
    base_urls: Vec<String>,
}

/// Where the metadata of one repository is kept. What is there already is trusted no more than what is fetched.
struct Blobs<'a> {
    store: &'a Store,
    progress: &'a Progress,
    repository: &'a str,
}

impl Blobs<'_> {
    fn keep(&self, kind: &str, path: &str, bytes: &[u8]) -> Result<MetadataFile> {
        self.discard_damaged(&Digest::of(bytes), path)?;
        let digest = self.store.insert(bytes)?;
        Ok(MetadataFile { path: path.to_owned(), kind: kind.to_owned(), digest, size_bytes: bytes.len() as u64 })
    }

    /// The blob of `digest`, if it is there.
    fn read(&self, digest: &Digest, path: &str) -> Result<Option<Vec<u8>>> {
        self.discard_damaged(digest, path)?;
        if !self.store.contains(digest) {
            return Ok(None);
        }
        let bytes = regular_file::read_all(self.store.read(digest)?, TEXT_MAX_BYTES);
        bytes.map(Some).with_context(|| format!("reading {digest} from the store"))
    }

    fn discard_damaged(&self, digest: &Digest, path: &str) -> Result<()> {
        if self.store.discard_if_damaged(digest)? {
            self.progress.warn(&format!(
                "the store's copy of {} of repository {} was damaged, so it has to be fetched again",
                Escaped::text(path),
                self.repository
            ));
        }
        Ok(())
    }
}

/// Refuses metadata that would fill the memory or the disk of whoever decompresses it. What cannot be decompressed is for
/// who reads it to refuse.
fn check_unpacked(store: &Store, digest: &Digest) -> Result<()> {
    let mut unpacked = MultiDecoder::new(store.read(digest)?).take(UNPACKED_MAX_BYTES + 1);
    let size_bytes = io::copy(&mut unpacked, &mut io::sink()).unwrap_or_default();
    ensure!(size_bytes <= UNPACKED_MAX_BYTES, "it has more than {UNPACKED_MAX_BYTES} bytes when it is decompressed");
    Ok(())
}

async fn fetch_index(source: &Source, blobs: &Blobs<'_>, downloader: &Downloader) -> Result<Index> {
    let (mut base_urls, mut generations) = locate(source, downloader).await?;
    if let Some(pinned) = &source.pinned {
        if let Some(repomd) = blobs.read(pinned, REPOMD_PATH)? {
            return Ok(Index { repomd, base_urls });
        }
        generations = vec![Expected { checksum: Checksum::Sha256(*pinned), size: Size::AtMost(TEXT_MAX_BYTES) }];
    }
    let vouching = if source.pinned.is_some() { "the lock names" } else { "the metalink lists" };
    let what = format!("repomd.xml of repository {}", source.id);
    let locations: Vec<String> = base_urls.iter().map(|base_url| join(base_url, REPOMD_PATH)).collect();
    let (repomd, server) = downloader
        .read(&what, &locations, TEXT_MAX_BYTES, |bytes| {
            check_generation(bytes, &generations, vouching)?;
            repomd::parse(bytes, |kind| kind == "primary").map(drop)
        })
        .await?;
    base_urls[..=server].rotate_right(1);
    Ok(Index { repomd, base_urls })
}

/// The base URLs, and the `repomd.xml` that a metalink vouches for; none without a metalink.
async fn locate(source: &Source, downloader: &Downloader) -> Result<(Vec<String>, Vec<Expected>)> {
    match &source.location {
        Location::BaseUrls(base_urls) => {
            ensure!(!base_urls.is_empty(), "repository {} has no base URL", source.id);
            Ok((base_urls.clone(), Vec::new()))
        }
        Location::MirrorList(url) => {
            let what = format!("the mirror list of repository {}", source.id);
            let check = |bytes: &[u8]| source::parse_mirror_list(bytes, url).map(drop);
            let (bytes, _) = downloader.read(&what, std::slice::from_ref(url), TEXT_MAX_BYTES, check).await?;
            Ok((source::parse_mirror_list(&bytes, url)?, Vec::new()))
        }
        Location::Metalink(url) => {
            let what = format!("the metalink of repository {}", source.id);
            let check = |bytes: &[u8]| metalink::parse(bytes).map(drop);
            let (bytes, _) = downloader.read(&what, std::slice::from_ref(url), TEXT_MAX_BYTES, check).await?;
            let metalink = metalink::parse(&bytes)?;
            Ok((metalink.base_urls, metalink.generations))
        }
    }
}

/// Refuses what is none of the `repomd.xml` that the metalink or the lock, `vouching` for them, names.
fn check_generation(bytes: &[u8], generations: &[Expected], vouching: &str) -> Result<()> {
    if generations.is_empty() || generations.iter().any(|generation| generation.check(bytes).is_ok()) {
        return Ok(());
    }
    bail!("it is none of the {} that {vouching}: the mirror is out of date, or changed it", generations.len())
}

/// From the server that had `repomd.xml`: another one may have the signature of another generation.
async fn fetch_signature(source: &Source, base_url: &str, downloader: &Downloader) -> Result<Vec<u8>> {
    let what = format!("the signature of the metadata of repository {}", source.id);
    let check = |bytes: &[u8]| {
        let armored = bytes.trim_ascii_start().starts_with(b"-----BEGIN PGP SIGNATURE-----");
        ensure!(armored, "it is no armored OpenPGP signature");
        Ok(())
    };
    let fetched = downloader.read(&what, &[join(base_url, SIGNATURE_PATH)], TEXT_MAX_BYTES, check).await;
    let (bytes, _) = fetched.with_context(|| {
        format!("repository {} has repo_gpgcheck on; turn it off if its metadata is not signed", source.id)
    })?;
    Ok(bytes)
}

/// What the fuzzer reaches the readers of documents by.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Reads any bytes as `repomd.xml`.
    pub fn repomd(bytes: &[u8]) {
        let _ = super::repomd::parse(bytes, |_| true);
    }

    /// Reads any bytes as a metalink.
    pub fn metalink(bytes: &[u8]) {
        let _ = super::metalink::parse(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zchunk_and_sqlite_are_left_out_and_filelists_are_on_request() {
        let wanted = |kind| is_wanted(kind, false);
        assert!(wanted("primary") && wanted("group_gz") && wanted("modules") && wanted("updateinfo"));
        assert!(!wanted("primary_zck") && !wanted("primary_db") && !wanted("filelists") && !wanted("other"));
        assert!(is_wanted("filelists", true));
    }
}
