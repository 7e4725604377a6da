//! An OCI image of one layer: the tar of a root filesystem in, a tar of an OCI image layout out.
//!
//! The digests follow from the root filesystem alone
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::digest::sha256_hex;

const CREATED: &str = "2025-01-01T00:00:00Z";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes the image `name` with the root filesystem `layer` to `archive`; returns the manifest's digest.
///
/// # Errors
/// Fails when a file cannot be read or written.
pub fn write_archive(layer: &Path, name: &str, archive: &Path) -> Result<String> {
    let (layer_sha256, layer_bytes) = digest_of(layer)?;
    let config = to_bytes(&json!({
        "created": CREATED,
        "architecture": "amd64",
        "os": "linux",
        "config": { "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/bash"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_sha256}")] },
        "history": [{ "created": CREATED, "created_by": "offline-repo" }],
    }));
    let manifest = to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &sha256_hex(&config), config.len() as u64),
        "layers": [descriptor(LAYER, &layer_sha256, layer_bytes)],
    }));
    let mut entry = descriptor(MANIFEST, &sha256_hex(&manifest), manifest.len() as u64);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("{name}:latest") });
    let index = to_bytes(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }));

    let unfinished = archive.with_extension("unfinished");
    let file = File::create(&unfinished).with_context(|| format!("creating {}", unfinished.display()))?;
    let mut tar = tar::Builder::new(io::BufWriter::new(file));
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", &index)?;
    for blob in [&config, &manifest] {
        append(&mut tar, &blob_path(&sha256_hex(blob)), blob)?;
    }
    let mut content = File::open(layer).with_context(|| format!("opening {}", layer.display()))?;
    tar.append_data(&mut header(layer_bytes), blob_path(&layer_sha256), &mut content)?;
    tar.into_inner()?.flush()?;
    std::fs::rename(&unfinished, archive).with_context(|| format!("renaming to {}", archive.display()))?;
    Ok(format!("sha256:{}", sha256_hex(&manifest)))
}

fn descriptor(media_type: &str, sha256: &str, size_bytes: u64) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{sha256}"), "size": size_bytes })
}

fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn blob_path(sha256: &str) -> String {
    format!("blobs/sha256/{sha256}")
}

fn header(size_bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size_bytes);
    header
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, bytes: &[u8]) -> Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), path, bytes)
        .with_context(|| format!("writing {path} to the image"))
}

fn digest_of(path: &Path) -> Result<(String, u64)> {
    const CHUNK_BYTES: usize = 1 << 20;
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let (mut hasher, mut size_bytes, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK_BYTES]);
    loop {
        let read = file.read(&mut chunk).with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
        size_bytes += read as u64;
    }
    Ok((hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn members(archive: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut tar = tar::Archive::new(File::open(archive).unwrap());
        let entries = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
        });
        entries.collect()
    }

    #[test]
    fn every_digest_of_the_layout_names_a_blob_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let (layer, archive) = (directory.path().join("layer.tar"), directory.path().join("image.oci.tar"));
        std::fs::write(&layer, b"a root filesystem").unwrap();
        let digest = write_archive(&layer, "localhost/test", &archive).unwrap();

        let members = members(&archive);
        for (path, bytes) in &members {
            if let Some(sha256) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(sha256, sha256_hex(bytes));
            }
        }
        let index: Value = serde_json::from_slice(&members["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["digest"], digest.as_str());
        let manifest: Value = serde_json::from_slice(&members[&blob_path(&digest[7..])]).unwrap();
        for part in [&manifest["config"], &manifest["layers"][0]] {
            let blob = &members[&blob_path(&part["digest"].as_str().unwrap()[7..])];
            assert_eq!(part["size"], blob.len());
        }
    }

    #[test]
    fn the_same_root_gives_the_same_archive() {
        let directory = tempfile::tempdir().unwrap();
        let layer = directory.path().join("layer.tar");
        std::fs::write(&layer, b"a root filesystem").unwrap();
        let archives = ["a", "b"].map(|name| directory.path().join(name));
        for archive in &archives {
            write_archive(&layer, "localhost/test", archive).unwrap();
        }
        assert_eq!(std::fs::read(&archives[0]).unwrap(), std::fs::read(&archives[1]).unwrap());
    }
}
