//! Images of the store: made of bytes, found, damaged, out to an archive and in again.

use serde_json::{Value, json};

use super::*;
use ocinitrd_support::progress::Verbosity;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_TYPES: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Place { directory, store }
    }

    fn put(&self, document: &Value) -> (Digest, usize) {
        let bytes = serde_json::to_vec(document).unwrap();
        (self.store.insert(&bytes).unwrap(), bytes.len())
    }

    fn descriptor(&self, media_type: &str, bytes: &[u8]) -> Value {
        json!({"mediaType": media_type, "digest": self.store.insert(bytes).unwrap().to_string(), "size": bytes.len()})
    }

    fn manifest(&self, media_type: &str) -> (Digest, usize) {
        let configuration = self.descriptor("application/vnd.oci.image.config.v1+json", b"{}");
        let layer = self.descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"layer");
        self.put(&json!({"schemaVersion": 2, "mediaType": media_type, "config": configuration, "layers": [layer]}))
    }

    /// An index over a platform that is not there, and amd64.
    fn index(&self, types: [&str; 2]) -> (Digest, Digest) {
        let (manifest, size) = self.manifest(types[1]);
        let of = |architecture: &str, digest: String| json!({"mediaType": types[1], "digest": digest, "size": size, "platform": {"os": "linux", "architecture": architecture}});
        let manifests = [of("arm64", format!("sha256:{}", "ab".repeat(32))), of("amd64", manifest.to_string())];
        let (index, _) = self.put(&json!({"schemaVersion": 2, "mediaType": types[0], "manifests": manifests}));
        (index, manifest)
    }

    fn find(&self, pinned: Digest) -> Result<Option<StoredImage>> {
        StoredImage::find(&self.store, pinned, "amd64", &Progress::new(Verbosity::Quiet))
    }

    fn export(&self, image: &StoredImage) -> std::path::PathBuf {
        let path = self.directory.path().join(file_name(&image.pinned));
        let file = std::fs::File::create(&path).unwrap();
        image.write_archive(&self.store, file).unwrap();
        path
    }
}

fn oci_types() -> [&'static str; 2] {
    [INDEX_TYPE, "application/vnd.oci.image.manifest.v1+json"]
}

#[test]
fn an_image_is_what_its_index_has_for_the_platform() {
    for types in [oci_types(), DOCKER_TYPES] {
        let place = Place::new();
        let (index, manifest) = place.index(types);
        let image = place.find(index).unwrap().unwrap();
        assert_eq!((image.pinned, image.manifest, image.media_type.as_str()), (index, manifest, types[0]));
        assert_eq!((image.digests().len(), image.size_bytes()), (4, 7));
        let pinned_to_platform = place.find(manifest).unwrap().unwrap();
        assert_eq!((pinned_to_platform.manifest, pinned_to_platform.digests().len()), (manifest, 3));
    }
}

#[test]
fn an_image_for_other_processors_is_told_with_those_it_is_for() {
    let place = Place::new();
    let (index, _) = place.index(oci_types());
    let error = StoredImage::find(&place.store, index, "s390x", &Progress::new(Verbosity::Quiet)).unwrap_err();
    assert_eq!(error.downcast_ref::<Unavailable>().unwrap().kind, Kind::OtherArchitecture);
    let message = error.to_string();
    assert!(
        message.starts_with("the image has none for linux/s390x; it has: linux/arm64, linux/amd64\nhint: "),
        "{message}"
    );
}

#[test]
fn an_image_that_is_not_whole_is_none_and_what_is_damaged_is_removed() {
    let place = Place::new();
    let (index, _) = place.index(oci_types());
    let layer = place.store.path(&Digest::of(b"layer"));
    let overwrite = |bytes: &[u8]| {
        std::fs::remove_file(&layer).unwrap();
        std::fs::write(&layer, bytes).unwrap();
        std::fs::set_permissions(&layer, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    };
    overwrite(b"LAYER");
    let again =
        Place { store: Store::open(&place.directory.path().join("store")).unwrap(), directory: place.directory };
    assert_eq!(again.find(index).unwrap(), None);
    assert!(!layer.exists());
    assert_eq!(again.find(Digest::of(b"nothing")).unwrap(), None);
}

#[test]
fn exported_images_come_back() {
    for types in [oci_types(), DOCKER_TYPES] {
        let place = Place::new();
        let (index, manifest) = place.index(types);
        for pinned in [index, manifest] {
            let image = place.find(pinned).unwrap().unwrap();
            let path = place.export(&image);
            assert!(is_archive(&path));
            let other = Place::new();
            assert_eq!(import(&path, &other.store).unwrap(), (pinned, image.digests().len()));
            assert_eq!(import(&path, &other.store).unwrap(), (pinned, 0));
            assert_eq!(other.find(pinned).unwrap().unwrap(), image);
        }
    }
}

#[test]
fn archives_that_are_damaged_or_lack_something_are_refused() {
    let place = Place::new();
    let (index, manifest) = place.index(oci_types());
    let whole = std::fs::read(place.export(&place.find(index).unwrap().unwrap())).unwrap();
    let refusal = |bytes: &[u8]| {
        let other = Place::new();
        let path = other.directory.path().join("x.oci.tar");
        std::fs::write(&path, bytes).unwrap();
        format!("{:#}", import(&path, &other.store).unwrap_err())
    };
    let start = whole.windows(5).position(|window| window == b"layer").unwrap();
    let flip = whole.windows(6).rposition(|window| window == b"layer\0").unwrap();
    assert!(start <= flip);
    let mut damaged = whole.clone();
    damaged[flip] = b'L';
    assert!(refusal(&damaged).contains("the archive is damaged at the blob"), "{}", refusal(&damaged));
    let renamed = |from: &Digest| {
        let mut bytes = whole.clone();
        let at = bytes.windows(64).position(|window| window == from.hex().as_bytes()).unwrap();
        bytes[at - 7] = b'x';
        bytes
    };
    // A header whose checksum is wrong ends the archive.
    assert!(refusal(&renamed(&manifest)).contains("reading the archive"));
    assert!(refusal(&whole[..1024]).contains("reading"));
    assert!(refusal(b"no archive").contains("index.json") || refusal(b"no archive").contains("reading the archive"));
}

#[test]
fn documents_beyond_reason_are_refused() {
    let place = Place::new();
    let layer = |size: u64| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::of(b"layer").to_string(), "size": size});
    let configuration = place.descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    for (layers, expected) in [
        (vec![layer(5); 501], "501 layers"),
        (vec![layer(u64::MAX / 2); 3], "come to more than"),
        (vec![layer(17 << 30)], "come to more than"),
        (vec![json!({"mediaType": "x", "digest": "md5:00", "size": 1})], "is not a sha256 digest"),
    ] {
        let (digest, _) = place.put(&json!({"schemaVersion": 2, "config": configuration, "layers": layers}));
        let error = format!("{:#}", place.find(digest).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    let text = place.store.insert(b"<html>").unwrap();
    assert!(place.find(text).is_err());
}
