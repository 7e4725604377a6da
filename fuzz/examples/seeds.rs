//! Writes the inputs that the fuzzer starts from: what the tests have as fixtures, and small files made here.
//!
//! `seeds DIRECTORY` writes `DIRECTORY/TARGET/NAME`; run it in the checkout.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use ocinitrd_format::compress::{Compression, Encoder};
use ocinitrd_format::cpio::{Header, Writer};

/// Where parts of an input are cut, as the targets have it.
const CUT: &[u8] = b"\xff";

type Seeds = Vec<(&'static str, String, Vec<u8>)>;

fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).expect("usage: seeds DIRECTORY");
    let mut seeds = Seeds::new();
    add_fixtures(&mut seeds)?;
    add_archives(&mut seeds)?;
    add_layers(&mut seeds)?;
    add_images(&mut seeds);
    add_texts(&mut seeds);
    add_packages(&mut seeds)?;
    for (target, name, bytes) in seeds {
        let path = Path::new(&directory).join(target);
        fs::create_dir_all(&path)?;
        fs::write(path.join(name), bytes)?;
    }
    Ok(())
}

fn add_fixtures(seeds: &mut Seeds) -> anyhow::Result<()> {
    for (target, files) in [
        ("repomd", &["repository/repomd.xml", "repository/metalink.xml"][..]),
        ("primary", &["repository/primary.xml"]),
        ("openpgp", &["openpgp/keys.asc", "openpgp/v6.asc", "openpgp/first.sig.asc", "openpgp/second.sig"]),
    ] {
        for file in files {
            let bytes = fs::read(Path::new("tests/fixtures").join(file))?;
            seeds.push((target, file.replace('/', "-"), bytes));
        }
    }
    for file in ["images/fedora-44.toml", "images/parts/initrd.toml"] {
        seeds.push(("definition", file.replace('/', "-"), fs::read(file)?));
    }
    Ok(())
}

/// An archive with an entry of each type.
fn archive() -> anyhow::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    let entries: [(&[u8], u32, &[u8], u32); 6] = [
        (b"usr", 0o040_755, b"", 2),
        (b"usr/file", 0o100_644, b"content", 1),
        (b"usr/link", 0o120_777, b"file", 1),
        (b"usr/hard", 0o100_644, b"", 2),
        (b"usr/other", 0o100_644, b"shared", 2),
        (b"usr/fifo", 0o010_600, b"", 1),
    ];
    for (path, mode, data, links) in entries {
        let size_bytes = u32::try_from(data.len())?;
        let inode = if links == 2 { 7 } else { 0 };
        let header = Header { path, mode, links, inode, size_bytes, ..Header::default() };
        writer.append(&header, data)?;
    }
    Ok(writer.finish()?)
}

fn add_archives(seeds: &mut Seeds) -> anyhow::Result<()> {
    let plain = archive()?;
    let mut initrds = vec![("none".to_owned(), plain.clone())];
    for name in ["gzip", "zstd:3", "xz:0", "lz4"] {
        let compression: Compression = name.parse()?;
        let mut encoder = Encoder::new(Vec::new(), compression)?;
        encoder.write_all(&plain)?;
        initrds.push((name.replace(':', "-"), encoder.finish()?));
    }
    let segments = [plain.as_slice(), &[0; 8], &initrds[1].1].concat();
    initrds.push(("segments".to_owned(), segments));
    for (name, bytes) in initrds {
        seeds.push(("diff", name.clone(), [bytes.as_slice(), &bytes].concat()));
        seeds.push(("inspect", name.clone(), bytes.clone()));
        seeds.push(("cpio_reader", name, bytes));
    }
    Ok(())
}

/// A tar with an entry of each type and a pax header.
fn layer() -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("SCHILY.xattr.security.capability", &b"\x01"[..]), ("mtime", b"1.5")])?;
    for (path, kind, data) in [
        ("usr/", tar::EntryType::Directory, ""),
        ("usr/file", tar::EntryType::Regular, "content"),
        ("usr/fifo", tar::EntryType::Fifo, ""),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, data.as_bytes())?;
    }
    for (path, kind, target) in
        [("usr/link", tar::EntryType::Symlink, "file"), ("usr/hard", tar::EntryType::Link, "usr/file")]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, path, target)?;
    }
    builder.into_inner()
}

fn add_layers(seeds: &mut Seeds) -> anyhow::Result<()> {
    let layer = layer()?;
    seeds.push(("layer", "plain".to_owned(), layer.clone()));
    for name in ["gzip", "zstd:3"] {
        let mut encoder = Encoder::new(Vec::new(), name.parse()?)?;
        encoder.write_all(&layer)?;
        seeds.push(("layer", name.replace(':', "-"), encoder.finish()?));
    }
    let descriptor = |kind: &str, name: &str| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"@{name}@","size":#{name}#}}"#)
    };
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor("manifest.v1+json", "manifest"));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor("config.v1+json", "config"),
        descriptor("layer.v1.tar", "layer")
    );
    let config =
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["@layer@"]}}"#.to_owned();
    let texts = [index.as_bytes(), manifest.as_bytes(), config.as_bytes(), &layer].join(CUT);
    seeds.push(("oci", "image".to_owned(), texts));
    Ok(())
}

/// A PE32+ image with the sections of a unified kernel image, each of 16 bytes.
fn add_images(seeds: &mut Seeds) {
    const SECTIONS: [&str; 7] = [".sbat", ".osrel", ".cmdline", ".uname", ".linux", ".initrd", ".profile"];
    let mut image = vec![0; 0x400];
    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0\x64\x86");
    put(0x46, &(SECTIONS.len() as u16).to_le_bytes());
    put(0x54, &0xf0_u16.to_le_bytes());
    put(0x58, &0x20b_u16.to_le_bytes());
    put(0x58 + 32, &0x1000_u32.to_le_bytes());
    put(0x58 + 36, &0x200_u32.to_le_bytes());
    put(0x58 + 56, &0x9000_u32.to_le_bytes());
    put(0x58 + 60, &0x400_u32.to_le_bytes());
    put(0x58 + 108, &16_u32.to_le_bytes());
    for (number, name) in SECTIONS.iter().enumerate() {
        let header = 0x58 + 0xf0 + number * 40;
        put(header, name.as_bytes());
        for (field, value) in [(8, 16), (12, 0x1000 * (number + 1)), (16, 0x200), (20, 0x400 + 0x200 * number)] {
            put(header + field, &(value as u32).to_le_bytes());
        }
    }
    for name in SECTIONS {
        let mut content = format!("ID={name}\n").into_bytes();
        content.resize(0x200, 0);
        image.extend(content);
    }
    seeds.push(("pe", "image".to_owned(), image));
}

fn add_texts(seeds: &mut Seeds) {
    let digest = "0".repeat(64);
    let lock = format!(
        "schema = 1\nimage = \"fuzz\"\n[digests]\nx86_64 = \"sha256:{digest}\"\n\
         [arch.x86_64.builder]\nimage = \"registry/builder@sha256:{digest}\"\ndigest = \"sha256:{digest}\"\n"
    );
    seeds.push(("lock", "start".to_owned(), lock.into_bytes()));
    let manifest = format!(
        "{{\"schema\": 1, \"ocinitrd_version\": \"0\", \"ocinitrd_source\": \"sha256:{digest}\", \"image\": \"fuzz\",\
         \"architecture\": \"x86_64\", \"locked\": true, \"inputs\": \"sha256:{digest}\", \"epoch\": 7,\
         \"builder\": {{\"image\": \"b\", \"digest\": \"sha256:{digest}\", \"platform_digest\": \"sha256:{digest}\", \"tools\": []}},\
         \"options\": {{\"profiles\": [], \"formats\": [\"cpio\"], \"segments\": false, \"output_name\": null,\
         \"compression\": \"none\", \"modules\": [], \"keep_module_compression\": true}}, \"repositories\": {{}},\
         \"packages\": [], \"kernels\": [{{\"version\": \"6.12\", \"image\": \"vmlinuz\", \"initrd\": \"initrd\", \"segments\": [\
         {{\"name\": \"base\", \"compression\": \"none\", \"entries\": 1, \"size_bytes\": 6, \"unpacked_size_bytes\": 6,\
         \"sha256\": \"sha256:{digest}\"}}], \"packages\": []}}],\
         \"outputs\": [{{\"path\": \"initrd\", \"size_bytes\": 6, \"sha256\": \"sha256:{digest}\"}}]}}"
    );
    seeds.push(("manifest", "start".to_owned(), manifest.into_bytes()));
    let machine: [&[u8]; 5] = [
        b"BOOT_IMAGE=/vmlinuz root=UUID=1 rd.luks.name=1=root resume=/dev/vda2 rd.luks.options=\"discard\"",
        b"20 1 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n21 20 0:5 /sub /usr rw - btrfs /dev/vda2 rw,subvol=/sub\n",
        b"root UUID=1 /etc/root.key luks,x-initrd.attach,tpm2-device=auto\n",
        b"UUID=1 / ext4 defaults 0 1\n/dev/vda2 none swap x-initrd.mount 0 0\n",
        b"scope = \"host\"\nmodules = [\"zram\"]\n",
    ];
    seeds.push(("machine", "start".to_owned(), machine.join(CUT)));
    let modules: [&[u8]; 5] = [
        b"kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio.ko\n",
        b"ext4.license=GPL\0ext4.alias=fs-ext4\0virtio.softdep=pre: one\0",
        b"kernel/one.ko\nkernel/other.ko\n",
        b"\x7fELF\x02\x01\x01",
        b"",
    ];
    seeds.push(("modules", "start".to_owned(), modules.join(CUT)));
    let inventory = "bash\t0\t5.2\t1.fc44\tx86_64\tbash-5.2-1.fc44.src.rpm\tGPL-3.0-or-later\t1000\t1700000000\n";
    seeds.push(("dnf", "inventory".to_owned(), inventory.as_bytes().to_vec()));
    seeds.push(("dnf", "solution".to_owned(), b"bash-0:5.2-1.fc44.x86_64@fedora user\n".to_vec()));
}

/// The header and payload of a small package.
fn add_packages(seeds: &mut Seeds) -> anyhow::Result<()> {
    for (name, compression) in [("gzip", rpm::CompressionType::Gzip), ("zstd", rpm::CompressionType::Zstd)] {
        let mut builder = rpm::PackageBuilder::new("alpha", "1.2", "MIT", "x86_64", "a seed");
        builder.using_config(rpm::BuildConfig::default().compression(compression));
        builder.with_file("Cargo.toml", rpm::FileOptions::new("/usr/share/alpha/file"))?;
        let mut bytes = Vec::new();
        builder.build()?.write(&mut bytes)?;
        let second = 8 + bytes[8..].windows(4).position(|four| four == [0x8e, 0xad, 0xe8, 1]).expect("it has headers");
        let main = second + 4 + bytes[second + 4..].windows(4).position(|four| four == [0x8e, 0xad, 0xe8, 1]).unwrap_or(0);
        seeds.push(("rpm", format!("whole-{name}"), bytes.clone()));
        if main > second + 4 {
            seeds.push(("rpm", format!("header-{name}"), bytes[main..].to_vec()));
        }
    }
    Ok(())
}
