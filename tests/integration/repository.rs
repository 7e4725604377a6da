//! Repositories over HTTP as they are and as they fail: metadata, packages, mirrors, resumption.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use ocinitrd::packages::download::{Downloader, MinimumRate, Timeouts};
use ocinitrd::packages::fetch::{self, Places, Wanted};
use ocinitrd::packages::repository::{self, Location, Metadata, Package, Source};
use ocinitrd::packages::store::Store;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::progress::{Progress, Verbosity};
use rpm::{BuildConfig, CompressionType, FileOptions, PackageBuilder};

use crate::http_server::{Fault, Request, Server};

const ALPHA: &str = "alpha-2:1.2-3.fc44.x86_64";
const ALPHA_PATH: &str = "/os/Packages/alpha-1.2-3.fc44.x86_64.rpm";
const REPOMD: &str = "/os/repodata/repomd.xml";

/// A directory with a repository in `os/`: two packages and the metadata of `createrepo_c`.
fn repository_directory() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || {
        let directory = tempfile::tempdir().unwrap();
        let packages = directory.path().join("os/Packages");
        fs::create_dir_all(&packages).unwrap();
        for (name, epoch, size_bytes) in [("alpha", 2, 300_000), ("beta", 0, 10)] {
            let mut builder = PackageBuilder::new(name, "1.2", "MIT", "x86_64", "for the tests");
            builder.release("3.fc44").epoch(epoch).using_config(BuildConfig::v4().compression(CompressionType::None));
            let content = name.repeat(size_bytes / name.len());
            builder.with_file_contents(content, FileOptions::new(format!("/usr/share/{name}"))).unwrap();
            builder.build().unwrap().write_file(packages.join(format!("{name}-1.2-3.fc44.x86_64.rpm"))).unwrap();
        }
        let mut createrepo = Command::new("createrepo_c");
        createrepo.args(["--quiet", "--no-database"]).arg(directory.path().join("os"));
        assert!(createrepo.status().expect("createrepo_c is installed").success());
        directory
    };
    DIRECTORY.get_or_init(make).path()
}

/// What a test needs: a server, a store, a downloader without much patience.
struct Setting {
    server: Server,
    root: tempfile::TempDir,
    store: Store,
    downloader: Downloader,
}

impl Setting {
    fn new() -> Self {
        Setting::serving(repository_directory())
    }

    fn serving(directory: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        Setting {
            server: Server::start(directory),
            store: Store::open(&root.path().join("store")).unwrap(),
            root,
            downloader: Downloader::new(Timeouts {
                connect: Duration::from_secs(5),
                stall: Duration::from_millis(400),
                pause: Duration::from_millis(10),
                minimum_rate: MinimumRate { bytes_per_second: 1000, window: Duration::from_millis(600) },
                ..Timeouts::default()
            }),
        }
    }

    async fn metadata(&self, source: &Source) -> anyhow::Result<Metadata> {
        repository::fetch(source, &self.store, &self.downloader, &Progress::new(Verbosity::Quiet)).await
    }

    async fn metadata_error(&self, source: &Source) -> String {
        format!("{:#}", self.metadata(source).await.unwrap_err())
    }

    /// The package alpha as the repository describes it, without a request that a test would see.
    async fn alpha(&self) -> Package {
        let source = source(Location::BaseUrls(vec![repository_directory().join("os").to_str().unwrap().into()]));
        let metadata = self.metadata(&source).await.unwrap();
        metadata.packages(&self.store, &BTreeSet::from([ALPHA.to_owned()])).unwrap().remove(0)
    }

    async fn fetch(&self, package: &Package, base_urls: &[String]) -> anyhow::Result<()> {
        let base_urls = BTreeMap::from([("fixture".to_owned(), base_urls.to_vec())]);
        let places = Places { base_urls, ..Places::default() };
        let wanted = [Wanted { locations: places.of(package, None)?, package: package.clone() }];
        fetch::fetch(&wanted, "test", &self.store, &self.downloader, &Progress::new(Verbosity::Quiet)).await
    }

    async fn fetch_error(&self, package: &Package, base_urls: &[String]) -> String {
        format!("{:#}", self.fetch(package, base_urls).await.unwrap_err())
    }

    /// A metalink that vouches for the repository's `repomd.xml` and lists base URLs.
    fn metalink(&self, repomd: &Digest, alternate: Option<&Digest>, base_urls: &[String]) -> Location {
        let hash =
            |digest: &Digest| format!("<verification><hash type=\"sha256\">{}</hash></verification>", digest.hex());
        let alternates = alternate
            .map(|digest| format!("<mm0:alternates><mm0:alternate>{}</mm0:alternate></mm0:alternates>", hash(digest)));
        let urls = base_urls.iter().enumerate().map(|(index, base_url)| {
            format!("<url protocol=\"http\" preference=\"{}\">{base_url}/repodata/repomd.xml</url>", 100 - index)
        });
        let text = format!(
            "<metalink xmlns=\"http://www.metalinker.org/\" xmlns:mm0=\"http://fedorahosted.org/mirrormanager\">\
             <files><file name=\"repomd.xml\">{}{}<resources>{}</resources></file></files></metalink>",
            hash(repomd),
            alternates.unwrap_or_default(),
            urls.collect::<String>()
        );
        let path = self.root.path().join("metalink.xml");
        fs::write(&path, text).unwrap();
        Location::Metalink(path.to_str().unwrap().to_owned())
    }

    fn partials(&self) -> usize {
        fs::read_dir(self.store.root().join("partial")).unwrap().count()
    }
}

fn source(location: Location) -> Source {
    Source { id: "fixture".to_owned(), location, repo_gpgcheck: false, pinned: None, filelists: false }
}

fn repomd_digest() -> Digest {
    Digest::of(&fs::read(repository_directory().join(&REPOMD[1..])).unwrap())
}

fn alpha_bytes() -> Vec<u8> {
    fs::read(repository_directory().join(&ALPHA_PATH[1..])).unwrap()
}

fn ranges(requests: &[Request]) -> Vec<Option<&str>> {
    requests.iter().map(|request| request.range.as_deref()).collect()
}

#[tokio::test]
async fn a_metalink_leads_past_bad_mirrors_to_metadata_and_packages() {
    let setting = Setting::new();
    let broken = Server::start(repository_directory());
    broken.fail_always("/", Fault::Status(503));
    let base_urls = [broken.url("/os"), setting.server.url("/nothing"), setting.server.url("/os")];
    let source = source(setting.metalink(&repomd_digest(), None, &base_urls));
    let metadata = setting.metadata(&source).await.unwrap();
    assert_eq!(metadata.repomd, repomd_digest());
    assert_eq!(metadata.base_urls, [&base_urls[2], &base_urls[0], &base_urls[1]].map(String::clone));
    let kinds: Vec<&str> = metadata.files.iter().map(|file| file.kind.as_str()).collect();
    assert!(kinds.contains(&"primary") && kinds.contains(&"repomd") && !kinds.contains(&"filelists"), "{kinds:?}");
    for file in &metadata.files {
        let served = fs::read(repository_directory().join("os").join(&file.path)).unwrap();
        assert_eq!((Digest::of(&served), served.len() as u64), (file.digest, file.size_bytes), "{}", file.path);
    }
    let packages = metadata.packages(&setting.store, &BTreeSet::from([ALPHA.to_owned()])).unwrap();
    setting.fetch(&packages[0], &metadata.base_urls).await.unwrap();
    assert_eq!(fs::read(setting.store.path(&packages[0].checksum)).unwrap(), alpha_bytes());
    assert_eq!(setting.partials(), 0);
}

#[tokio::test]
async fn what_the_store_has_is_not_asked_for_again() {
    let setting = Setting::new();
    let source = source(Location::BaseUrls(vec![setting.server.url("/os")]));
    let first = setting.metadata(&source).await.unwrap();
    let alpha = setting.alpha().await;
    setting.fetch(&alpha, &first.base_urls).await.unwrap();
    setting.server.take_requests();
    assert_eq!(setting.metadata(&source).await.unwrap(), first);
    setting.fetch(&alpha, &first.base_urls).await.unwrap();
    let paths: Vec<String> = setting.server.take_requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, [REPOMD]);
}

#[tokio::test]
async fn directories_and_file_urls_are_repositories_and_mirror_lists_are_followed() {
    let setting = Setting::new();
    let directory = repository_directory().join("os").to_str().unwrap().to_owned();
    let list = setting.root.path().join("mirrors");
    fs::write(&list, format!("# mirrors\n{}\n", setting.server.url("/os/"))).unwrap();
    for location in [
        Location::BaseUrls(vec![directory.clone()]),
        Location::BaseUrls(vec![format!("file://{directory}/")]),
        Location::MirrorList(format!("file://{}", list.display())),
    ] {
        let metadata = setting.metadata(&source(location.clone())).await.unwrap();
        assert_eq!(metadata.repomd, repomd_digest(), "{location:?}");
    }
}

#[tokio::test]
async fn a_repomd_that_the_metalink_does_not_vouch_for_is_refused_and_an_earlier_generation_is_taken() {
    let setting = Setting::new();
    let base_urls = [setting.server.url("/os")];
    let other = Digest::of(b"another generation");
    let message = setting.metadata_error(&source(setting.metalink(&other, None, &base_urls))).await;
    assert!(message.contains("it is none of the 1 that the metalink lists"), "{message}");
    assert!(message.contains(&setting.server.url(REPOMD)), "{message}");
    let location = setting.metalink(&other, Some(&repomd_digest()), &base_urls);
    assert_eq!(setting.metadata(&source(location)).await.unwrap().repomd, repomd_digest());
}

#[tokio::test]
async fn a_signature_is_fetched_when_asked_for_and_missed_when_absent() {
    let setting = Setting::new();
    let signed = Source { repo_gpgcheck: true, ..source(Location::BaseUrls(vec![setting.server.url("/os")])) };
    let message = setting.metadata_error(&signed).await;
    assert!(message.starts_with("repository fixture has repo_gpgcheck on; turn it off"), "{message}");
    assert!(message.contains("/os/repodata/repomd.xml.asc: HTTP status 404 Not Found"), "{message}");
    let signature = b"-----BEGIN PGP SIGNATURE-----\n\n...\n-----END PGP SIGNATURE-----\n".to_vec();
    setting.server.fail_always("/os/repodata/repomd.xml.asc", Fault::Bytes(signature.clone()));
    let metadata = setting.metadata(&signed).await.unwrap();
    let file = metadata.files.iter().find(|file| file.kind == "signature").unwrap();
    assert_eq!((file.path.as_str(), file.digest), ("repodata/repomd.xml.asc", Digest::of(&signature)));
}

#[tokio::test]
async fn metadata_that_was_tampered_with_is_refused() {
    let setting = Setting::new();
    let source = source(Location::BaseUrls(vec![setting.server.url("/os")]));
    let repomd = fs::read_to_string(repository_directory().join(&REPOMD[1..])).unwrap();
    let primary = repomd.split('"').find(|text| text.ends_with("-primary.xml.gz")).unwrap();
    let mut bytes = fs::read(repository_directory().join("os").join(primary)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    setting.server.fail_always(&format!("/os/{primary}"), Fault::Bytes(bytes));
    let message = setting.metadata_error(&source).await;
    assert!(message.contains("the file there is another: its checksum is sha256:"), "{message}");
    assert!(message.contains(&format!("fetching {primary} of repository fixture failed")), "{message}");
    setting.server.fail_always(REPOMD, Fault::Bytes(b"<repomd><data type=\"primary\">".to_vec()));
    let message = setting.metadata_error(&source).await;
    assert!(message.contains("repomd.xml: it is cut off inside <data>"), "{message}");
    assert_eq!(setting.partials(), 0);
}

#[tokio::test]
async fn a_body_that_was_cut_off_is_resumed_where_it_ended() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    setting.server.fail_once(ALPHA_PATH, Fault::CutAfter(100_000));
    setting.server.fail_once(ALPHA_PATH, Fault::CutAfter(50_000));
    setting.fetch(&alpha, &[setting.server.url("/os")]).await.unwrap();
    assert_eq!(ranges(&setting.server.take_requests()), [None, Some("bytes=100000-"), Some("bytes=150000-")]);
    assert_eq!(fs::read(setting.store.path(&alpha.checksum)).unwrap(), alpha_bytes());
}

#[tokio::test]
async fn a_later_run_goes_on_with_what_an_earlier_one_left() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    for _ in 0..3 {
        setting.server.fail_once(ALPHA_PATH, Fault::CutAfter(10_000));
    }
    let message = setting.fetch_error(&alpha, &[setting.server.url("/os")]).await;
    assert!(message.contains("check the network"), "{message}");
    assert!(!setting.store.contains(&alpha.checksum));
    setting.server.take_requests();
    setting.fetch(&alpha, &[setting.server.url("/os")]).await.unwrap();
    assert_eq!(ranges(&setting.server.take_requests()), [Some("bytes=30000-")]);
}

#[tokio::test]
async fn a_server_without_ranges_and_leftovers_of_other_bytes_still_give_the_right_file() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    setting.server.fail_once(ALPHA_PATH, Fault::CutAfter(100_000));
    setting.server.fail_once(ALPHA_PATH, Fault::WithoutRanges);
    setting.fetch(&alpha, &[setting.server.url("/os")]).await.unwrap();
    assert_eq!(fs::read(setting.store.path(&alpha.checksum)).unwrap(), alpha_bytes());

    fs::remove_file(setting.store.path(&alpha.checksum)).unwrap();
    let leftover = setting.store.root().join("partial").join(alpha.checksum.to_string().replace(':', "-"));
    fs::write(&leftover, vec![0; 5000]).unwrap();
    setting.server.take_requests();
    setting.fetch(&alpha, &[setting.server.url("/os")]).await.unwrap();
    assert_eq!(ranges(&setting.server.take_requests()), [Some("bytes=5000-"), None]);
    assert_eq!(fs::read(setting.store.path(&alpha.checksum)).unwrap(), alpha_bytes());
    assert_eq!(setting.partials(), 0);
}

#[tokio::test]
async fn a_server_that_stalls_is_left_for_the_next_mirror() {
    let setting = Setting::new();
    let slow = Server::start(repository_directory());
    slow.fail_always(ALPHA_PATH, Fault::StallAfter(70_000));
    let alpha = setting.alpha().await;
    setting.fetch(&alpha, &[slow.url("/os"), setting.server.url("/os")]).await.unwrap();
    assert_eq!(ranges(&setting.server.take_requests()), [Some("bytes=70000-")]);
    fs::remove_file(setting.store.path(&alpha.checksum)).unwrap();
    let message = setting.fetch_error(&alpha, &[slow.url("/os")]).await;
    assert!(message.contains("no byte for 0.4 s"), "{message}");
}

#[tokio::test]
async fn server_errors_are_tried_again_and_named_when_they_stay() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    setting.server.fail_once(ALPHA_PATH, Fault::Status(500));
    setting.fetch(&alpha, &[setting.server.url("/os")]).await.unwrap();
    assert_eq!(setting.server.take_requests().len(), 2);
    fs::remove_file(setting.store.path(&alpha.checksum)).unwrap();
    setting.server.fail_always(ALPHA_PATH, Fault::Status(500));
    let message = setting.fetch_error(&alpha, &[setting.server.url("/os"), setting.server.url("/nothing")]).await;
    let (first, second) = (setting.server.url(ALPHA_PATH), setting.server.url(&ALPHA_PATH.replace("/os", "/nothing")));
    assert_eq!(
        message,
        format!(
            "fetching package {ALPHA} of repository fixture failed:\n  {first}: HTTP status 500 Internal Server Error\n  \
             {second}: HTTP status 404 Not Found\n\
             check the network, the proxy (https_proxy, no_proxy) and the certificates (SSL_CERT_FILE)\n\
             if the repository has replaced the package meanwhile, renew it with: ocinitrd update test alpha; or give a \
             directory that has its rpm file with --rpm-dir"
        )
    );
}

#[tokio::test]
async fn redirects_are_followed_but_not_in_circles() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    setting.server.fail_always("/mirror/", Fault::Redirect(setting.server.url(ALPHA_PATH)));
    setting.fetch(&alpha, &[setting.server.url("/mirror")]).await.unwrap();
    fs::remove_file(setting.store.path(&alpha.checksum)).unwrap();
    setting.server.fail_always(ALPHA_PATH, Fault::Redirect(setting.server.url(ALPHA_PATH)));
    let message = setting.fetch_error(&alpha, &[setting.server.url("/os")]).await;
    assert!(message.contains("the server redirects in circles, or too often"), "{message}");
}

#[tokio::test]
async fn pages_and_other_files_in_place_of_a_package_are_called_what_they_are() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    let mut tampered = alpha_bytes();
    tampered[200_000] ^= 1;
    let longer = [alpha_bytes(), vec![0]].concat();
    for (fault, words) in [
        (Fault::Html, "the server sent an HTML page instead of the file"),
        (Fault::Bytes(tampered), "the file there is another: its checksum is sha256:"),
        (Fault::Bytes(longer), "bytes instead of"),
        (Fault::Bytes(b"short".to_vec()), "the file there has 5 bytes instead of"),
        (Fault::Status(403), "HTTP status 403 Forbidden"),
    ] {
        setting.server.fail_always(ALPHA_PATH, fault);
        let message = setting.fetch_error(&alpha, &[setting.server.url("/os")]).await;
        assert!(message.contains(words), "{message}");
        assert!(!setting.store.contains(&alpha.checksum));
        assert_eq!(setting.partials(), 0);
    }
    let source = source(Location::BaseUrls(vec![setting.server.url("/portal")]));
    setting.server.fail_always("/portal/", Fault::Html);
    assert!(setting.metadata_error(&source).await.contains("HTML page"));
}

#[tokio::test]
async fn nobody_listening_is_named_with_its_cause() {
    let setting = Setting::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = source(Location::BaseUrls(vec![format!("http://127.0.0.1:{port}/os")]));
    let message = setting.metadata_error(&source).await;
    assert!(message.contains("Connection refused") && message.contains("check the network"), "{message}");
}

#[tokio::test]
async fn two_fetches_of_one_package_into_one_store_ask_the_server_once() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    let base_urls = [setting.server.url("/os")];
    let (one, other) = tokio::join!(setting.fetch(&alpha, &base_urls), setting.fetch(&alpha, &base_urls));
    one.unwrap();
    other.unwrap();
    assert_eq!(setting.server.take_requests().len(), 1);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_not_blamed_on_the_mirrors() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    let partial: PathBuf = setting.store.root().join("partial");
    fs::remove_dir(&partial).unwrap();
    let message = setting.fetch_error(&alpha, &[setting.server.url("/os")]).await;
    assert!(message.contains(partial.to_str().unwrap()), "{message}");
    assert_eq!(setting.server.take_requests(), []);
}

/// The repository's `repomd.xml` without the sizes of what it lists.
fn repomd_without_sizes() -> String {
    let text = fs::read_to_string(repository_directory().join(&REPOMD[1..])).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("<size>")).collect();
    assert!(lines.len() < text.lines().count());
    lines.join("\n")
}

/// The path of the primary metadata on the server.
fn primary_path() -> String {
    let repomd = fs::read_to_string(repository_directory().join(&REPOMD[1..])).unwrap();
    format!("/os/{}", repomd.split('"').find(|text| text.ends_with("-primary.xml.gz")).unwrap())
}

#[tokio::test]
async fn texts_and_packages_without_an_end_are_left_at_their_bounds() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    setting.server.fail_always("/endless/", Fault::Endless);
    let endless = setting.server.url("/endless/os");
    let source_of = |location| source(location);
    for location in [
        Location::BaseUrls(vec![endless.clone()]),
        Location::Metalink(endless.clone()),
        Location::MirrorList(endless.clone()),
    ] {
        let message = setting.metadata_error(&source_of(location)).await;
        assert!(message.contains("it is longer than 4194304 bytes"), "{message}");
    }
    let message = setting.fetch_error(&alpha, &[endless]).await;
    assert!(message.contains(&format!("bytes instead of {}", alpha.size_bytes)), "{message}");
    assert_eq!(setting.partials(), 0);
    // What is under way in buffers of the network comes on top of what was taken.
    let bound = 3 * (4 << 20) + alpha.size_bytes + 5 * (16 << 20);
    assert!(setting.server.sent_bytes() < bound, "{}", setting.server.sent_bytes());
}

#[tokio::test]
async fn sizes_that_cannot_be_meant_are_refused_before_the_first_byte_is_taken() {
    let setting = Setting::new();
    setting.server.fail_always(REPOMD, Fault::Bytes(repomd_without_sizes().into_bytes()));
    let source_here = source(Location::BaseUrls(vec![setting.server.url("/os")]));
    // Without a size there is a bound for metadata, which honest ones keep.
    setting.metadata(&source_here).await.unwrap();
    let setting = Setting::new();
    setting.server.fail_always(REPOMD, Fault::Bytes(repomd_without_sizes().into_bytes()));
    setting.server.fail_always(&primary_path(), Fault::Announced((1 << 30) + 1));
    let source_here = source(Location::BaseUrls(vec![setting.server.url("/os")]));
    let message = setting.metadata_error(&source_here).await;
    assert!(message.contains("has 1073741825 bytes, and no more than 1073741824 are taken"), "{message}");
    setting.server.fail_always(REPOMD, Fault::Announced(1 << 40));
    let message = setting.metadata_error(&source_here).await;
    assert!(message.contains("it is longer than 4194304 bytes"), "{message}");
}

#[tokio::test]
async fn a_server_that_sends_a_byte_now_and_then_is_left_for_the_next_mirror() {
    let setting = Setting::new();
    let slow = Server::start(repository_directory());
    let alpha = setting.alpha().await;
    let size_bytes = usize::try_from(alpha.size_bytes).unwrap();
    for fault in [Fault::Trickle(Some(size_bytes)), Fault::Trickle(None), Fault::TrickleHeaders, Fault::EndlessHeaders]
    {
        slow.fail_always("/os/", fault.clone());
        setting.fetch(&alpha, &[slow.url("/os"), setting.server.url("/os")]).await.unwrap();
        assert_eq!(fs::read(setting.store.path(&alpha.checksum)).unwrap(), alpha_bytes());
        fs::remove_file(setting.store.path(&alpha.checksum)).unwrap();
        let base_urls = vec![slow.url("/os"), setting.server.url("/os")];
        let metadata = setting.metadata(&source(Location::BaseUrls(base_urls))).await.unwrap();
        assert_eq!(metadata.base_urls[0], setting.server.url("/os"), "{fault:?}");
    }
    slow.fail_always("/os/", Fault::Trickle(Some(size_bytes)));
    let message = setting.fetch_error(&alpha, &[slow.url("/os")]).await;
    assert!(message.contains("less than 1000 bytes a second"), "{message}");
    slow.fail_always("/os/", Fault::TrickleHeaders);
    let message = setting.fetch_error(&alpha, &[slow.url("/os")]).await;
    assert!(message.contains("no byte for 0.4 s"), "{message}");
}

#[tokio::test]
async fn texts_and_files_have_to_come_whole_within_their_times() {
    let mut setting = Setting::new();
    setting.downloader = Downloader::new(Timeouts {
        pause: Duration::from_millis(10),
        minimum_rate: MinimumRate { bytes_per_second: 1, window: Duration::from_millis(100) },
        text: Duration::from_millis(500),
        file: Duration::from_millis(500),
        ..Timeouts::default()
    });
    setting.server.fail_always("/os/", Fault::Trickle(None));
    let message = setting.metadata_error(&source(Location::BaseUrls(vec![setting.server.url("/os")]))).await;
    assert!(message.contains("the server had not sent all of it after 0.5 s"), "{message}");
    let alpha = setting.alpha().await;
    let message = setting.fetch_error(&alpha, &[setting.server.url("/os")]).await;
    assert!(message.contains("the server had not sent all of it after 0.5 s"), "{message}");
}

#[tokio::test]
async fn no_server_leads_to_a_file_of_this_machine() {
    let setting = Setting::new();
    let here = repository_directory().join("os");
    let file = format!("file://{}", here.display());
    for target in [format!("{file}/repodata/repomd.xml"), "file://localhost/dev/zero".to_owned(), "FILE:/x".to_owned()]
    {
        setting.server.fail_always("/redirect/", Fault::Redirect(target));
        let source_here = source(Location::BaseUrls(vec![setting.server.url("/redirect")]));
        let message = setting.metadata_error(&source_here).await;
        assert!(message.contains("the server redirects to what is no server (HTTP status 302 Found)"), "{message}");
    }
    setting.server.fail_always("/list", Fault::Bytes(format!("{file}\n").into_bytes()));
    let message = setting.metadata_error(&source(Location::MirrorList(setting.server.url("/list")))).await;
    assert!(message.contains("the mirror list has no line with a URL"), "{message}");
    let location = setting.metalink(&repomd_digest(), None, &[file.clone(), "FILE:///x".to_owned()]);
    let message = setting.metadata_error(&source(location)).await;
    assert!(message.contains("the metalink lists no http or https mirror"), "{message}");
    let alpha = setting.alpha().await;
    let elsewhere = Package { location: format!("{file}{}", &ALPHA_PATH["/os".len()..]), ..alpha };
    let base_urls = BTreeMap::from([("fixture".to_owned(), vec![setting.server.url("/os")])]);
    let message = Places { base_urls, ..Places::default() }.of(&elsewhere, None).unwrap_err().to_string();
    assert!(message.contains("says that package alpha-2:1.2-3.fc44.x86_64 is a file of this machine"), "{message}");
    // A repository of this machine may: its user named it.
    setting.fetch(&elsewhere, &[here.to_str().unwrap().to_owned()]).await.unwrap();
}

#[tokio::test]
async fn a_fifo_or_a_device_in_a_repository_of_this_machine_is_not_opened() {
    let setting = Setting::new();
    let alpha = setting.alpha().await;
    let directory = setting.root.path().join("os");
    fs::create_dir_all(directory.join("Packages")).unwrap();
    fs::create_dir_all(directory.join("repodata")).unwrap();
    let fifo = directory.join("repodata/repomd.xml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", directory.join(&ALPHA_PATH["/os/".len()..])).unwrap();
    let directory = directory.to_str().unwrap().to_owned();
    let message = setting.metadata_error(&source(Location::BaseUrls(vec![directory.clone()]))).await;
    assert!(message.contains("it is a FIFO, not a regular file"), "{message}");
    let message = setting.fetch_error(&alpha, &[directory]).await;
    assert!(message.contains("it is a device, not a regular file"), "{message}");
}

#[tokio::test]
async fn damaged_metadata_in_the_store_is_fetched_again() {
    let setting = Setting::new();
    let signature = b"-----BEGIN PGP SIGNATURE-----\n\n...\n-----END PGP SIGNATURE-----\n".to_vec();
    setting.server.fail_always("/os/repodata/repomd.xml.asc", Fault::Bytes(signature));
    let location = Location::BaseUrls(vec![setting.server.url("/os")]);
    let signed = Source { repo_gpgcheck: true, filelists: true, ..source(location.clone()) };
    let whole = setting.metadata(&signed).await.unwrap();
    let kinds: BTreeSet<&str> = whole.files.iter().map(|file| file.kind.as_str()).collect();
    assert_eq!(kinds, ["filelists", "primary", "repomd", "signature"].into());
    let pinned = Source { pinned: Some(whole.repomd), ..source(location) };
    for file in &whole.files {
        for source in [&signed, &pinned] {
            let blob = setting.store.path(&file.digest);
            let bytes = fs::read(&blob).unwrap();
            let mut damaged = bytes.clone();
            damaged[0] ^= 1;
            fs::remove_file(&blob).unwrap();
            fs::write(&blob, damaged).unwrap();
            // As a run of its own, which has read nothing yet.
            let store = Store::open(setting.store.root()).unwrap();
            let progress = Progress::new(Verbosity::Quiet);
            let fetched = repository::fetch(source, &store, &setting.downloader, &progress).await.unwrap();
            let is_used = fetched.files.iter().any(|used| used.digest == file.digest);
            assert!(!is_used || fs::read(&blob).unwrap() == bytes, "{} {:?}", file.path, source.pinned);
            if !is_used {
                fs::remove_file(&blob).unwrap();
                store.insert(&bytes).unwrap();
            }
        }
    }
}
