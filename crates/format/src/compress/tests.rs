use std::fmt::Write as _;
use std::io::{Cursor, Read, Write};

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;

const ALL: [Compression; 4] = [Compression::Zstd(3), Compression::Xz(1), Compression::Gzip(6), Compression::Lz4];

/// Neither constant nor random: words from a small set in an order made by a linear congruence.
fn text(length: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 4] = [b"kernel", b"initrd ", b"module", b"\0\x01\x02"];
    let mut state = 1_u32;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(WORDS[(state >> 30) as usize]);
        bytes.push((state >> 16) as u8);
    }
    bytes.truncate(length);
    bytes
}

fn compress(data: &[u8], compression: Compression, workers: u32, write_bytes: usize) -> Vec<u8> {
    let mut encoder = Encoder::with_workers(Vec::new(), compression, workers).unwrap();
    for chunk in data.chunks(write_bytes) {
        encoder.write_all(chunk).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

fn decompress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    Decoder::new(Input::new(bytes))?.read_to_end(&mut data)?;
    Ok(data)
}

#[test]
fn spelling_goes_round() {
    for text in ["zstd:1", "zstd:22", "xz:0", "xz:9", "gzip:1", "lz4", "none"] {
        assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
    }
    for (text, full) in [("zstd", "zstd:3"), ("xz", "xz:6"), ("gzip", "gzip:6")] {
        assert_eq!(text.parse::<Compression>().unwrap().to_string(), full);
    }
}

#[test]
fn bad_spelling_is_refused_with_the_choices() {
    for text in
        ["", "zstd:", "zstd:0", "zstd:23", "zstd:+3", "zstd:03", "xz:10", "gzip:0", "lz4:1", "none:0", "ZSTD", "brotli"]
    {
        let error = text.parse::<Compression>().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{text:?} is no compression: use one of zstd[:1-22], xz[:0-9], gzip[:1-9], lz4, none")
        );
    }
}

#[test]
fn every_codec_goes_round_and_leaves_what_follows() {
    let data = text(3 << 20);
    for compression in ALL {
        for length in [0, 1, data.len()] {
            let member = compress(&data[..length], compression, 2, 1 << 16);
            for rest in [&b""[..], b"\0\0\0\0", b"\0\0\0\x00070701", b"070701 and more"] {
                let mut decoder = Decoder::new(Input::new(Cursor::new([&member, rest].concat()))).unwrap();
                let mut unpacked = Vec::new();
                if compression == Compression::Lz4 && rest.starts_with(b"0") {
                    // It has no mark of its end: the kernel fails too.
                    let error = decoder.read_to_end(&mut unpacked).unwrap_err();
                    assert!(error.to_string().contains("no zeros, with which the kernel would see its end"), "{error}");
                    continue;
                }
                decoder.read_to_end(&mut unpacked).unwrap();
                let (mut input, consumed_bytes) = decoder.finish().unwrap();
                assert_eq!(unpacked, data[..length], "{compression} {length}");
                assert_eq!(consumed_bytes, member.len() as u64, "{compression} {length}");
                let mut left = Vec::new();
                input.read_to_end(&mut left).unwrap();
                assert_eq!(left, rest, "{compression} {length}");
            }
        }
    }
}

#[test]
fn one_byte_missing_is_an_error_in_every_codec() {
    let data = text(100_000);
    for compression in ALL {
        let member = compress(&data, compression, 1, 1 << 16);
        for length in [member.len() - 1, member.len() / 2, 5] {
            assert!(decompress(&member[..length]).is_err(), "{compression} {length} of {}", member.len());
        }
    }
}

#[test]
fn workers_and_cut_of_writes_do_not_change_the_bytes() {
    let large = text(36 << 20);
    // More than one of xz's blocks, most of it quick to compress.
    let two_blocks = [vec![0; 24 << 20], text(2 << 20)].concat();
    let mut digests = String::new();
    for (compression, data) in [
        (Compression::Zstd(3), &large[..]),
        (Compression::Xz(0), &two_blocks),
        (Compression::Gzip(1), &large[..3 << 20]),
        (Compression::Gzip(6), &large[..3 << 20]),
        (Compression::Lz4, &large[..20 << 20]),
    ] {
        let reference = Digest::of(&compress(data, compression, 1, 1 << 20));
        for (workers, write_bytes) in [(2, 1 << 20), (4, 12_345)] {
            let digest = Digest::of(&compress(data, compression, workers, write_bytes));
            assert_eq!(digest, reference, "{compression} {workers} workers, writes of {write_bytes}");
        }
        writeln!(digests, "{compression} {reference}").unwrap();
    }
    insta::assert_snapshot!(digests, @"
    zstd:3 sha256:a6d21d66a79d71112a1526cf2f6c71b318e933fcf8877a56955906c556c26066
    xz:0 sha256:9ee51730d3b81fbd12d9e3bf1e9ba5f89d1fb4c6b7871f054a8877d0142ccba2
    gzip:1 sha256:a23057f7b673a72160d9eac91c88862b6fa376419e1bc8d3a4237f995752689b
    gzip:6 sha256:71251cd8c71dfe0159b9489910a296d29c1e1127f19c88a341449b7fe001c289
    lz4 sha256:d17c47643436f10ee3154fafc0774ab5226c9eb85600a79d7dc321c9f15deb7b
    ");
}

#[test]
fn bytes_are_those_of_the_day_the_format_was_fixed() {
    let data = text(1 << 20);
    let digests: String = ALL
        .iter()
        .map(|compression| format!("{compression} {}\n", Digest::of(&compress(&data, *compression, 2, 4096))))
        .collect();
    insta::assert_snapshot!(digests, @"
        zstd:3 sha256:22b784bab8b6ad2272a967bcbd23e257425feb34ce76de28ada303e5bb1e12d9
        xz:1 sha256:63778648826d5ac3b799a407e66cd444ad8f2d125c404ecfead12286026fa75c
        gzip:6 sha256:6c1226eb56ad7ebac465140560fe34f513db7c1ae5ebfda2feee3ba98b3d240c
        lz4 sha256:cd3df8ea6f29820e5275ed441452ec539722f1bb0384e5c9b709126ed9f13a45
        ");
}

#[test]
fn xz_carries_the_check_that_the_kernel_verifies() {
    assert_eq!(compress(b"data", Compression::Xz(6), 2, 4)[7], 1, "1 stands for CRC32");
}

#[test]
fn gzip_has_neither_name_nor_time() {
    let member = compress(b"data", Compression::Gzip(6), 1, 4);
    assert_eq!((member[3], &member[4..8]), (0, &[0; 4][..]));
}

#[test]
fn what_the_kernel_cannot_read_is_named() {
    for (start, name) in [
        (&[0x04, 0x22, 0x4d, 0x18, 0, 0][..], "lz4 -l"),
        (&[0x5e, 0x2a, 0x4d, 0x18, 0, 0], "skippable"),
        (b"\x89LZO\0\r", "lzop"),
        (b"hello", "68 65 6c 6c 6f"),
    ] {
        let error = Decoder::new(Input::new(start)).err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
}

proptest! {
    #[test]
    fn damaged_members_end_in_an_error_or_in_data(codec in 0..ALL.len(), at in 0_usize..2000, bit in 0_u8..8) {
        let mut member = compress(&text(5000), ALL[codec], 1, 1 << 16);
        let length = member.len();
        member[at % length] ^= 1 << bit;
        let _ = decompress(&member);
    }
}
