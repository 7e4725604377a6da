//! Initrds that `ocinitrd convert` makes of small tars, and output directories with manifests made by hand around them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ocinitrd::definition::dnf::InstalledPackage;
use ocinitrd::image::manifest::{Builder, Kernel, Manifest, Options, Output, OutputPath, Segment};
use ocinitrd::image::segment::Assembler;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::time::Timestamp;
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::fixture::{ocinitrd, succeed};

/// A member of a tar: its path, how its header departs from a file of root's with mode 0644, and its content or target.
pub struct Member {
    path: &'static str,
    header: Header,
    data: Vec<u8>,
}

impl Member {
    /// Changes the header.
    pub fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }
}

pub fn member(path: &'static str, entry_type: EntryType, mode: u32, data: impl Into<Vec<u8>>) -> Member {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_mode(mode);
    for set in [Header::set_uid, Header::set_gid, Header::set_mtime] {
        set(&mut header, 0);
    }
    Member { path, header, data: data.into() }
}

pub fn file(path: &'static str, content: impl Into<Vec<u8>>) -> Member {
    member(path, EntryType::Regular, 0o644, content)
}

pub fn directory(path: &'static str) -> Member {
    member(path, EntryType::Directory, 0o755, "")
}

pub fn link(path: &'static str, entry_type: EntryType, target: &'static str) -> Member {
    member(path, entry_type, 0o777, target)
}

/// Where the tests' files lie.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `text` without the path of this place.
    pub fn shortened(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().unwrap(), "DIR")
    }

    /// What `ocinitrd convert` makes of the members.
    pub fn initrd(&self, name: &str, members: Vec<Member>, compress: &str) -> PathBuf {
        let (tar, initrd) = (self.path(&format!("{name}.tar")), self.path(name));
        let mut builder = tar::Builder::new(File::create(&tar).unwrap());
        for Member { path, mut header, data } in members {
            if matches!(header.entry_type(), EntryType::Symlink | EntryType::Link) {
                header.set_size(0);
                builder.append_link(&mut header, path, std::str::from_utf8(&data).unwrap()).unwrap();
            } else {
                header.set_size(data.len() as u64);
                builder.append_data(&mut header, path, data.as_slice()).unwrap();
            }
        }
        builder.finish().unwrap();
        succeed(ocinitrd().args(["convert", "--compress", compress]).arg(&tar).arg("-o").arg(&initrd));
        initrd
    }

    /// An output directory as `build -t cpio,oci` leaves it: two segments, a kernel, a layout.
    pub fn output(&self, name: &str, segments: [&Path; 2]) -> PathBuf {
        let output = self.path(name);
        fs::create_dir_all(output.join("oci/blobs/sha256")).unwrap();
        let mut assembler = Assembler::new(File::create(output.join("initrd")).unwrap());
        for (name, segment) in ["base", "modules"].into_iter().zip(segments) {
            let bytes = fs::read(segment).unwrap();
            assembler.add_finished(name, Digest::of(&bytes), &bytes[..]).unwrap();
        }
        let (_, initrd) = assembler.finish();
        fs::write(output.join("vmlinuz"), "the kernel").unwrap();
        fs::write(output.join("oci/index.json"), "{}").unwrap();
        fs::write(output.join("oci/blobs/sha256/layer"), "layer").unwrap();
        let paths = ["initrd", "oci/blobs/sha256/layer", "oci/index.json", "vmlinuz"];
        let segments = initrd.segments.iter().map(|segment| Segment {
            name: segment.name.clone(),
            compression: "zstd:3".to_owned(),
            entries: 1,
            size_bytes: segment.size_bytes,
            unpacked_size_bytes: 1,
            sha256: segment.digest,
        });
        let kernel = Kernel {
            version: "6.12.1".to_owned(),
            image: OutputPath::new("vmlinuz").unwrap(),
            initrd: Some(OutputPath::new("initrd").unwrap()),
            uki: None,
            segments: segments.collect(),
            packages: Vec::new(),
        };
        let manifest = Manifest {
            kernels: vec![kernel],
            outputs: paths.into_iter().map(|path| listed(&output, path)).collect(),
            ..manifest()
        };
        write_manifest(&output, &manifest);
        output
    }
}

/// What a manifest lists of a file.
pub fn listed(output: &Path, path: &str) -> Output {
    let (sha256, size_bytes) = Digest::of_reader(File::open(output.join(path)).unwrap()).unwrap();
    Output { path: OutputPath::new(path).unwrap(), size_bytes, sha256 }
}

pub fn write_manifest(output: &Path, manifest: &Manifest) {
    fs::write(output.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
}

pub fn read_manifest(output: &Path) -> Manifest {
    Manifest::parse(&fs::read(output.join("manifest.json")).unwrap()).unwrap()
}

fn manifest() -> Manifest {
    Manifest {
        schema: ocinitrd::image::manifest::SCHEMA,
        ocinitrd_version: "0.1.0".to_owned(),
        ocinitrd_source: Digest::of(b"source"),
        image: "handmade".to_owned(),
        architecture: "x86_64".to_owned(),
        locked: false,
        inputs: Digest::of(b"inputs"),
        epoch: Timestamp::default(),
        builder: Builder {
            image: "builder".to_owned(),
            digest: Digest::of(b"builder"),
            platform_digest: Digest::of(b"platform"),
            tools: Vec::new(),
        },
        options: Options {
            profiles: Vec::new(),
            formats: vec!["cpio".to_owned(), "oci".to_owned()],
            segments: false,
            output_name: None,
            compression: "zstd:3".to_owned(),
            modules: Vec::new(),
            firmware: Vec::new(),
            keep_module_compression: false,
            cmdline: None,
        },
        repositories: BTreeMap::new(),
        packages: vec![InstalledPackage {
            name: "bash".to_owned(),
            epoch: 0,
            version: "5.2".to_owned(),
            release: "1".to_owned(),
            arch: "x86_64".to_owned(),
            source_rpm: "bash-5.2-1.src.rpm".to_owned(),
            license: "GPL-3.0-or-later".to_owned(),
            installed_size_bytes: 1000,
            build_time: Timestamp::default(),
        }],
        kernels: Vec::new(),
        outputs: Vec::new(),
    }
}
