//! Initrds for `inspect`, `diff` and `check`.

use std::io::Write;

use super::Input;

const DIRECTORY: u32 = 0o40_755;
const FILE: u32 = 0o100_644;
const SYMLINK: u32 = 0o120_777;

/// Every initrd by its name.
pub const INPUTS: &[Input] = &[
    ("chained-symlinks.zst", chained_symlinks),
    ("changing-symlinks.zst", changing_symlinks),
    ("deep.zst", deep),
    ("blocks.lz4", blocks),
    ("without-parents.zst", without_parents),
    ("builtin.zst", builtin),
    ("bomb.zst", bomb),
    ("spellings.zst", spellings),
    ("long-targets.zst", long_targets),
    ("deep-links.zst", deep_links),
    ("million-a.zst", million_a),
    ("million-b.zst", million_b),
    ("million-c.zst", million_c),
];

/// The header and the name of an entry, padded; its data is to follow.
pub fn header(path: &[u8], mode: u32, mtime: u32, size_bytes: u32) -> Vec<u8> {
    let name_bytes = path.len() + 1;
    let mut header = b"070701".to_vec();
    for field in [0, mode, 0, 0, 1, mtime, size_bytes, 0, 0, 0, 0, name_bytes as u32, 0] {
        header.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    header.extend_from_slice(path);
    header.push(0);
    pad(header)
}

/// An entry with its data.
pub fn entry(path: impl AsRef<[u8]>, mode: u32, data: impl AsRef<[u8]>) -> Vec<u8> {
    let (path, data) = (path.as_ref(), data.as_ref());
    pad([header(path, mode, 0, data.len() as u32), data.to_vec()].concat())
}

/// The end of an archive.
pub fn trailer() -> Vec<u8> {
    header(b"TRAILER!!!", 0, 0, 0)
}

fn pad(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Compresses the entries and a trailer.
fn zstd(output: &mut dyn Write, entries: impl IntoIterator<Item = Vec<u8>>) {
    let mut encoder = zstd::Encoder::new(output, 3).unwrap();
    encoder.long_distance_matching(true).unwrap();
    for entry in entries {
        encoder.write_all(&entry).unwrap();
    }
    encoder.write_all(&trailer()).unwrap();
    encoder.finish().unwrap();
}

/// Links from one to the next, each by a way of 4 kB.
fn chain(count: usize) -> Vec<Vec<u8>> {
    let mut entries = vec![entry("d", DIRECTORY, "")];
    for number in 0..count {
        let next = number.checked_sub(1).map_or_else(|| "d".to_owned(), |before| format!("l{before}"));
        entries.push(entry(format!("l{number}"), SYMLINK, "d/../".repeat(815) + &next));
    }
    entries
}

/// 5,000 entries below a chain of 40 symlinks.
fn chained_symlinks(output: &mut dyn Write) {
    let files = (0..5_000).map(|_| entry("l39/x", FILE, ""));
    zstd(output, chain(40).into_iter().chain(files));
}

/// The same, and after each entry one that changes the chain.
fn changing_symlinks(output: &mut dyn Write) {
    let files =
        (0..100_000).map(|_| [entry("l39/x", FILE, ""), entry("l0", SYMLINK, "d/../".repeat(815) + "d")].concat());
    zstd(output, chain(40).into_iter().chain(files));
}

/// 18,000 files below 2,000 directories, one in the other.
fn deep(output: &mut dyn Write) {
    let directory = |depth: usize| "a/".repeat(depth) + "a";
    let directories = (0..2_000).map(move |depth| entry(directory(depth), DIRECTORY, ""));
    let files = (0..18_000).map(move |number| entry(format!("{}/{number}", directory(1_999)), FILE, ""));
    zstd(output, directories.chain(files));
}

/// An archive and 100,000 blocks of five bytes, their length included, which decompress to nothing.
fn blocks(output: &mut dyn Write) {
    let archive = [entry("a", DIRECTORY, ""), trailer()].concat();
    let block = lz4_flex::block::compress(&archive);
    output.write_all(&0x184C_2102_u32.to_le_bytes()).unwrap();
    output.write_all(&(block.len() as u32).to_le_bytes()).unwrap();
    output.write_all(&block).unwrap();
    for _ in 0..100_000 {
        output.write_all(&[1, 0, 0, 0, 0]).unwrap();
    }
}

/// 500,000 entries with long paths, and no directory.
fn without_parents(output: &mut dyn Write) {
    let directory = "d".repeat(200) + "/";
    zstd(output, (0..500_000).map(|number| entry(format!("{}{number}", directory.repeat(20)), FILE, "")));
}

/// A list of the modules that are built in, of nearly 4 GiB.
fn builtin(output: &mut dyn Write) {
    let directories = ["lib", "lib/modules", "lib/modules/1"].map(|path| entry(path, DIRECTORY, ""));
    let size_bytes = u32::MAX - 3;
    let file = [header(b"lib/modules/1/modules.builtin", FILE, 0, size_bytes)];
    let mebibyte = vec![b'\n'; 1 << 20];
    let whole = (0..size_bytes >> 20).map(|_| mebibyte.clone());
    let rest = [vec![b'\n'; size_bytes as usize % (1 << 20)]];
    zstd(output, directories.into_iter().chain(file).chain(whole).chain(rest));
}

/// 64 files of nearly 4 GiB of zeros: every 128 KiB of them are 4 bytes.
fn bomb(output: &mut dyn Write) {
    const BLOCK_BYTES: u32 = 128 << 10;
    // The magic number, no size and no checksum, a window of 1 MiB.
    output.write_all(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50]).unwrap();
    let mut block = |kind: u32, size_bytes: u32, content: &[u8], is_last: bool| {
        let header = u32::from(is_last) | kind << 1 | size_bytes << 3;
        output.write_all(&header.to_le_bytes()[..3]).unwrap();
        output.write_all(content).unwrap();
    };
    for number in 0..64 {
        let header = header(format!("{number}").as_bytes(), FILE, 0, BLOCK_BYTES * 32_767);
        block(0, header.len() as u32, &header, false);
        for _ in 0..32_767 {
            block(1, BLOCK_BYTES, &[0], false);
        }
    }
    block(0, trailer().len() as u32, &trailer(), true);
}

/// 200,000 files whose paths are spelled in 4 kB each.
fn spellings(output: &mut dyn Write) {
    let directories = (0..1_000).map(|number| entry(format!("d{number:03}"), DIRECTORY, ""));
    let path = |number: usize| format!("d{:03}/../{}{number}", number % 1_000, "d000/../".repeat(500));
    zstd(output, directories.chain((0..200_000).map(move |number| entry(path(number), FILE, ""))));
}

/// 500,000 symlinks with targets of 4,095 bytes.
fn long_targets(output: &mut dyn Write) {
    let target = "t".repeat(4_095);
    zstd(output, (0..500_000).map(move |number| entry(format!("{number}"), SYMLINK, &target)));
}

/// Directories 80,000 deep, by means of symlinks, and 100,000 files in the last of them.
fn deep_links(output: &mut dyn Write) {
    let mut entries = Vec::new();
    let mut below = String::new();
    for link in 0..39 {
        for depth in 1..2_000 {
            entries.push(entry(below.clone() + &"a/".repeat(depth), DIRECTORY, ""));
        }
        entries.push(entry(format!("l{link}"), SYMLINK, below.clone() + &"a/".repeat(1_999)));
        below = format!("l{link}/");
    }
    entries.extend((0..100_000).map(|number| entry(format!("{below}{number}"), FILE, "")));
    zstd(output, entries);
}

/// A million honest entries: 2,000 directories of 499 files.
fn million(output: &mut dyn Write, mtime: u32, changed: usize) {
    let mut encoder = zstd::Encoder::new(output, 1).unwrap();
    for path in ["usr", "usr/share", "usr/share/data"] {
        encoder.write_all(&header(path.as_bytes(), DIRECTORY, mtime, 0)).unwrap();
    }
    for number in 0..2_000 {
        let directory = format!("usr/share/data/directory-{number:04}");
        encoder.write_all(&header(directory.as_bytes(), DIRECTORY, mtime, 0)).unwrap();
        for file in 0..499 {
            let path = format!("{directory}/some-file-{file:03}.conf");
            let data =
                if number * 499 + file == changed { "changed!".to_owned() } else { format!("{number:04}-{file:03}") };
            encoder.write_all(&header(path.as_bytes(), FILE, mtime, 8)).unwrap();
            encoder.write_all(data.as_bytes()).unwrap();
        }
    }
    encoder.write_all(&trailer()).unwrap();
    encoder.finish().unwrap();
}

fn million_a(output: &mut dyn Write) {
    million(output, 1, usize::MAX);
}

/// As `million_a`, with another content in one file.
fn million_b(output: &mut dyn Write) {
    million(output, 1, 500_000);
}

/// As `million_a`, with another time in every entry.
fn million_c(output: &mut dyn Write) {
    million(output, 2, usize::MAX);
}
