//! Four texts as an image layout: its index, manifest, config and layer. Digests and sizes are put in where the texts name them,
//! so that what they protect is read too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd_format::digest::Digest;
use ocinitrd::image::oci::image::Image;
use ocinitrd_fuzz::{parts, with_directory};

/// Replaces `@name@` by the digest and `#name#` by the size of what has that name.
fn fill_in(text: &[u8], named: &[(&str, &[u8])]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(text).into_owned();
    for (name, bytes) in named {
        text = text.replace(&format!("@{name}@"), &Digest::of(bytes).to_string());
        text = text.replace(&format!("#{name}#"), &bytes.len().to_string());
    }
    text.into_bytes()
}

/// What the layers may unpack to: far more than the input, but no full disk.
const UNPACKED_LIMIT_BYTES: u64 = 256 << 20;

fuzz_target!(|bytes: &[u8]| {
    let [index, manifest, config, layer] = parts(bytes);
    let config = fill_in(config, &[("layer", layer)]);
    let manifest = fill_in(manifest, &[("layer", layer), ("config", &config)]);
    let index = fill_in(index, &[("manifest", &manifest), ("config", &config), ("layer", layer)]);
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let (layer_path, config_path, manifest_path) = (path(layer), path(&config), path(&manifest));
    let files: [(&str, &[u8]); 5] = [
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", &index),
        (&layer_path, layer),
        (&config_path, &config),
        (&manifest_path, &manifest),
    ];
    with_directory(&files, |directory| {
        if let Ok(image) = Image::open_directory(directory, "amd64") {
            let _ = image.flatten(&std::env::temp_dir(), UNPACKED_LIMIT_BYTES);
        }
    });
});
