//! Archives made by hand, member by member: what is read right and what is refused, with the words of the refusal.

use proptest::prelude::*;

use super::*;
use crate::image::tree::arbitrary;
use crate::image::tree::{Content, Kind};

/// An archive under construction.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// A member with its name and target as they stand in the header, cut at 100 bytes.
    fn member(mut self, typeflag: u8, name: &[u8], target: &[u8], content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.linkflag = [typeflag];
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..target.len()].copy_from_slice(target);
        header.set_mode(0o100_640);
        header.set_uid(998);
        header.set_gid(997);
        header.set_mtime(1234);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.member(b'0', name.as_bytes(), b"", content.as_bytes())
    }

    fn directory(self, name: &str) -> Self {
        self.member(b'5', name.as_bytes(), b"", b"")
    }

    fn link(self, typeflag: u8, name: &str, target: &str) -> Self {
        self.member(typeflag, name.as_bytes(), target.as_bytes(), b"")
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            pax::write(&mut data, key.as_bytes(), value);
        }
        self.member(b'x', b"x", b"", &data)
    }

    /// Patches the last header, which stands `back` blocks before the end.
    fn patch(mut self, back: usize, patch: impl FnOnce(&mut tar::Header)) -> Self {
        let start = self.0.len() - back * 512;
        let mut header = tar::Header::from_byte_slice(&self.0[start..start + 512]).clone();
        patch(&mut header);
        header.set_cksum();
        self.0[start..start + 512].copy_from_slice(header.as_bytes());
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    fn read(self) -> Result<Layer> {
        read(&self.end())
    }

    fn refusal(self) -> String {
        format!("{:#}", self.read().unwrap_err())
    }
}

fn read(bytes: &[u8]) -> Result<Layer> {
    Layer::read(bytes, &std::env::temp_dir(), &Rules::root_filesystem())
}

fn text(layer: &Layer, path: &str) -> String {
    String::from_utf8(layer.tree.content(path.as_bytes()).unwrap().read_all().unwrap()).unwrap()
}

#[test]
fn entries_keep_what_their_headers_say() {
    let layer = Tar::default().directory("./").directory("./etc/").file("./etc/shadow", "root").link(b'2', "s", "/etc");
    let layer =
        layer.member(b'3', b"null", b"", b"").patch(1, |header| header.set_device_minor(3).unwrap()).read().unwrap();
    let paths: Vec<_> = layer.tree.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["etc", "etc/shadow", "null", "s"]);
    let shadow = layer.tree.get(b"etc/shadow").unwrap();
    assert_eq!((shadow.permissions, shadow.uid, shadow.gid, shadow.mtime), (0o640, 998, 997, 1234));
    assert_eq!(text(&layer, "etc/shadow"), "root");
    assert!(matches!(layer.tree.get(b"null").unwrap().kind, Kind::CharacterDevice(0, 3)));
    assert!(matches!(&layer.tree.get(b"s").unwrap().kind, Kind::Symlink { target } if target == b"/etc"));
}

#[test]
fn names_that_are_not_utf8_are_kept() {
    let layer = Tar::default().member(b'0', b"\xff\xfe", b"", b"x").read().unwrap();
    assert!(layer.tree.get(b"\xff\xfe").is_some());
}

#[test]
fn gnu_and_pax_extensions_replace_header_fields() {
    let long = "d/".to_owned() + &"n".repeat(200);
    let gnu = Tar::default().member(b'L', b"././@LongLink", b"", format!("{long}\0").as_bytes()).file("cut", "1");
    let gnu =
        gnu.member(b'K', b"././@LongLink", b"", format!("{long}\0").as_bytes()).link(b'2', "s", "cut").read().unwrap();
    assert_eq!(text(&gnu, &long), "1");
    assert!(matches!(&gnu.tree.get(b"s").unwrap().kind, Kind::Symlink { target } if target == long.as_bytes()));

    let records: &[(&str, &[u8])] = &[
        ("path", long.as_bytes()),
        ("uid", b"3000000"),
        ("mtime", b"77.999"),
        ("atime", b"1"),
        ("SCHILY.xattr.security.capability", b"\x01\n\x00="),
    ];
    let pax = Tar::default().pax(records).file("cut", "1").file("after", "2").read().unwrap();
    let entry = pax.tree.get(long.as_bytes()).unwrap();
    assert_eq!((entry.uid, entry.gid, entry.mtime), (3_000_000, 997, 77));
    assert_eq!(entry.xattrs[&b"security.capability"[..]], b"\x01\n\x00=");
    assert_eq!(pax.tree.get(b"after").unwrap().uid, 998);
}

#[test]
fn the_size_of_a_pax_record_goes_before_that_of_the_header() {
    let layer =
        Tar::default().pax(&[("size", b"3")]).file("f", "abc").patch(2, |header| header.set_size(0)).file("g", "x");
    let layer = layer.read().unwrap();
    assert_eq!((text(&layer, "f"), text(&layer, "g")), ("abc".to_owned(), "x".to_owned()));
}

#[test]
fn the_later_of_two_members_with_one_path_wins() {
    let layer = Tar::default().file("a", "1").file("./a", "2").directory("b").link(b'2', "b", "a").read().unwrap();
    assert_eq!(text(&layer, "a"), "2");
    assert!(matches!(layer.tree.get(b"b").unwrap().kind, Kind::Symlink { .. }));
}

#[test]
fn hard_links_are_grouped_under_their_first_path_in_byte_order() {
    let layer = Tar::default().file("m", "1").link(b'1', "z", "./m").link(b'1', "a", "z").read().unwrap();
    assert!(matches!(layer.tree.get(b"a").unwrap().kind, Kind::File(_)));
    for path in [b"m", b"z"] {
        assert!(matches!(&layer.tree.get(path).unwrap().kind, Kind::HardLink { target } if target == b"a"));
    }
    let replaced = Tar::default().file("m", "1").link(b'1', "z", "m").file("m", "2").read().unwrap();
    assert_eq!((text(&replaced, "m"), text(&replaced, "z")), ("2".to_owned(), "1".to_owned()));
    assert!(matches!(replaced.tree.get(b"z").unwrap().kind, Kind::File(_)));
    let symlink = Tar::default().link(b'2', "s", "t").link(b'1', "u", "s").read().unwrap();
    assert!(matches!(symlink.tree.get(b"u").unwrap().kind, Kind::Symlink { .. }));
}

#[test]
fn missing_parents_are_added_and_dev_can_be_left_out() {
    let tar = Tar::default().file("usr/bin/x", "").file("dev/null", "").directory("dev/").end();
    let rules = Rules { drop_device_directory: true, add_missing_parents: Some(9), ..Rules::root_filesystem() };
    let layer = Layer::read(&tar[..], &std::env::temp_dir(), &rules).unwrap();
    let paths: Vec<_> = layer.tree.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["dev", "usr", "usr/bin", "usr/bin/x"]);
    assert_eq!(layer.tree.get(b"usr/bin").unwrap().mtime, 9);
}

#[test]
fn entries_that_lead_out_or_cannot_be_held_are_refused_by_name() {
    let cure = "archive the tree from inside its root: tar -C ROOT -c .";
    let ok = || Tar::default().file("fine", "x");
    let long_path = ["n".repeat(250).as_str(); 17].join("/");
    for (tar, message) in [
        (ok().file("/etc/passwd", ""), format!("the archive entry \"/etc/passwd\" has an absolute path; {cure}")),
        (ok().file("a/../../b", ""), format!("the archive entry \"a/../../b\" has a \"..\" in its path; {cure}")),
        (ok().file("..", ""), format!("the archive entry \"..\" has a \"..\" in its path; {cure}")),
        (ok().link(b'2', "l", "/").file("l/x", ""), "the entry \"l/x\" lies below the symlink \"l\"".into()),
        (ok().file("l/x/y", "").link(b'2', "l", "t"), "the entry \"l/x/y\" lies below the symlink \"l\"".into()),
        (ok().file("f", "").file("f/x", ""), "the entry \"f/x\" lies below \"f\", which is no directory".into()),
        (
            ok().file("big", "").patch(1, |header| header.set_size(1 << 32)),
            "the archive entry \"big\" holds 4294967296 bytes; a cpio archive ends at files of 4 GiB: leave it out of the tree".into(),
        ),
        (
            ok().pax(&[("path", long_path.as_bytes())]).file("cut", ""),
            format!("the archive entry \"{}...\" has a path of 4266 bytes; the kernel unpacks none over 4095", &long_path[..120]),
        ),
        (
            ok().pax(&[("path", "m".repeat(256).as_bytes())]).file("cut", ""),
            format!("the archive entry \"{}...\" has a name of 256 bytes in its path; Linux takes 255", "m".repeat(120)),
        ),
        (
            ok().link(b'1', "h", "gone"),
            "the archive entry \"h\" is a hard link to \"gone\", which is not in the archive before it".into(),
        ),
        (ok().directory("d").link(b'1', "h", "d"), "the archive entry \"h\" is a hard link to the directory \"d\"".into()),
        (ok().link(b'2', "s", ""), "the archive entry \"s\" is a symlink with a target of 0 bytes, or with a NUL in it".into()),
        (ok().link(b'D', "dump", ""), "the archive entry \"dump\" is of the type 'D', which no initrd can hold".into()),
        (ok().file("holes", "").patch(1, |header| header.as_old_mut().linkflag = *b"S"), "the archive entry \"holes\" is stored sparse; make the archive without tar's --sparse".into()),
        (
            ok().pax(&[("GNU.sparse.major", b"1")]).file("GNUSparseFile.0/holes", ""),
            "reading the entry \"GNUSparseFile.0/holes\": it is stored sparse; make the archive without tar's --sparse".into(),
        ),
        (ok().pax(&[("uid", b"4294967296")]).file("u", ""), "the archive entry \"u\" has the owner 4294967296:997; ids end at 4294967294".into()),
        (ok().pax(&[("path", b"a\0b")]).file("u", ""), "the path \"a\\x00b\" holds a NUL byte".into()),
    ] {
        assert_eq!(tar.refusal(), message);
    }
}

#[test]
fn a_path_of_4095_bytes_is_the_longest() {
    let longest = ["n".repeat(255).as_str(); 16].join("/");
    assert_eq!(longest.len(), 4095);
    let layer = Tar::default().pax(&[("path", longest.as_bytes())]).file("cut", "").read().unwrap();
    assert!(layer.tree.get(longest.as_bytes()).is_some());
}

#[test]
fn a_stream_that_is_cut_anywhere_is_refused() {
    let whole = Tar::default().directory("d").file("d/f", &"x".repeat(700)).pax(&[("uid", b"1")]).file("g", "y").end();
    assert!(read(&whole).is_ok());
    for length in (0..whole.len()).step_by(128).chain([whole.len() - 1]) {
        let error = format!("{:#}", read(&whole[..length]).unwrap_err());
        assert!(error.starts_with("the tar stream is truncated: it ends at byte "), "{length}: {error}");
    }
    let message = |length: usize| format!("{:#}", read(&whole[..length]).unwrap_err());
    let cure = "export or fetch it again";
    let before = "the tar stream is truncated: it ends at byte";
    assert_eq!(message(0), format!("{before} 0, before any entry, without the end-of-archive mark; {cure}"));
    assert_eq!(message(512), format!("{before} 512, at the entry \"d\", without the end-of-archive mark; {cure}"));
    assert_eq!(message(1100), format!("{before} 1100, at the entry \"d/f\", in the middle of its content; {cure}"));
}

#[test]
fn damage_and_joined_archives_are_refused() {
    let one = Tar::default().file("a", "x").end();
    let mut damaged = one.clone();
    damaged[0] = b'b';
    assert!(read(&damaged).unwrap_err().to_string().starts_with("at byte 0 there is no tar header"));
    let joined = [one.clone(), one.clone()].concat();
    assert!(read(&joined).unwrap_err().to_string().contains("goes on after its end-of-archive mark"));
    assert!(read(&[one, vec![0; 9000]].concat()).is_ok(), "tar pads to its record size");
    assert!(format!("{:#}", read(b"BZh91AY").unwrap_err()).ends_with("bzip2 -dc FILE | ocinitrd convert -"));
    assert!(read(b"070701").unwrap_err().to_string().starts_with("this is a cpio archive"));
}

#[test]
fn compressed_layers_have_a_digest_and_a_diff_id_of_their_own() {
    let plain = Tar::default().file("a", &"x".repeat(100_000)).end();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).unwrap();
    let gzip = encoder.finish().unwrap();
    for packed in [&plain, &zstd, &gzip] {
        let layer = read(packed).unwrap();
        assert_eq!((layer.digest, layer.size_bytes), (Digest::of(packed), packed.len() as u64));
        assert_eq!(layer.diff_id, Digest::of(&plain));
        assert_eq!(text(&layer, "a").len(), 100_000);
    }
    for packed in [&zstd, &gzip] {
        let error = format!("{:#}", read(&packed[..packed.len() - 3]).unwrap_err());
        assert!(error.contains("truncated"), "{error}");
    }
}

#[test]
fn a_plain_file_is_its_own_spool() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&Tar::default().file("a", "content").end()).unwrap();
    file.rewind().unwrap();
    let layer = Layer::read_file(file, Path::new("/nonexistent"), &Rules::root_filesystem()).unwrap();
    assert!(matches!(layer.tree.content(b"a"), Some(Content::Spooled { offset: 512, length_bytes: 7, .. })));
    assert_eq!(text(&layer, "a"), "content");
}

#[test]
fn reading_only_the_headers_gives_the_same_tree_and_the_same_refusals() {
    let on_disk = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        Contents::read_file(file, &std::env::temp_dir(), &Rules::root_filesystem())
    };
    let content = "x".repeat(10_000);
    let whole = Tar::default().file("a", &content).file("b", "").pax(&[("uid", b"1")]).file("c", &content).end();
    let tree = read(&whole).unwrap().tree;
    assert_eq!(on_disk(&whole).unwrap().tree.digest().unwrap(), tree.digest().unwrap());
    for length in (0..whole.len()).step_by(100) {
        let message = |error: anyhow::Error| format!("{error:#}");
        let expected = message(read(&whole[..length]).unwrap_err());
        assert_eq!(message(on_disk(&whole[..length]).unwrap_err()), expected, "{length}");
    }
    let packed = zstd::encode_all(&whole[..], 1).unwrap();
    assert_eq!(on_disk(&packed).unwrap().tree.digest().unwrap(), tree.digest().unwrap());
}

#[test]
fn a_spool_without_room_says_what_to_do() {
    let full = Arc::new(File::options().write(true).open("/dev/full").unwrap());
    let tar = Tar::default().file("a", "x").end();
    let error =
        Layer::read_plain(&tar[..], Sink::Spool(Arc::clone(&full)), &full, &Rules::root_filesystem()).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.ends_with("set TMPDIR to a directory with more room"), "{error}");
    let error = Layer::read(&tar[..], Path::new("/nonexistent"), &Rules::root_filesystem()).unwrap_err();
    assert!(format!("{error:#}").starts_with("making a temporary file in /nonexistent; set TMPDIR"), "{error:#}");
}

fn global(keys: &[(&str, &[u8])]) -> Tar {
    let mut data = Vec::new();
    for (key, value) in keys {
        pax::write(&mut data, key.as_bytes(), value);
    }
    Tar::default().member(b'g', b"g", b"", &data).file("a", "x")
}

#[test]
fn a_global_header_is_reported_but_for_a_comment() {
    let layer = global(&[("comment", b"commit"), ("mtime", b"5")]).read().unwrap();
    let lines = |layer: &Layer| layer.warnings.lines().collect::<Vec<_>>();
    let warning = "the archive's global header sets keywords for all entries, which are ignored";
    assert_eq!(lines(&layer), [format!("{warning}: \"mtime\"")]);
    let keys: Vec<String> = (0..50_000).map(|number| format!("\x1b]0;{number}\x07")).collect();
    let keys: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b"v"[..])).collect();
    let expected = r#": "\x1b]0;0\x07", "\x1b]0;1\x07", "\x1b]0;2\x07", ... (50000 in all)"#;
    assert_eq!(lines(&global(&keys).read().unwrap()), [format!("{warning}{expected}")]);
}

#[test]
fn a_global_header_that_decides_what_entries_are_is_refused() {
    for key in ["path", "linkpath", "size", "uid", "gid", "GNU.sparse.major", "SCHILY.xattr.user.a", "SCHILY.devminor"]
    {
        let error = global(&[(key, b"1")]).refusal();
        let expected = format!("the archive's global header sets \"{key}\" for all entries, which is not supported");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn numbers_that_mean_no_owner_size_or_time_are_refused_by_name() {
    let field = |set: fn(&mut tar::OldHeader)| {
        Tar::default().file("su", "").patch(1, |header| set(header.as_old_mut())).refusal()
    };
    let entry = |what: &str| format!("the archive entry \"su\" has {what}");
    assert_eq!(field(|header| header.uid = [0xff; 8]), entry("an owner that is negative"));
    assert_eq!(field(|header| header.gid = *b"-1      "), entry("a group that is negative"));
    assert_eq!(field(|header| header.uid = *b"        "), entry("an owner that is not a number"));
    assert_eq!(field(|header| header.uid = *b"0rootoo\0"), entry("an owner that is not a number"));
    assert_eq!(field(|header| header.mode = [0xff; 8]), entry("a mode that is negative"));
    assert_eq!(field(|header| header.size = [0xff; 12]), entry("a size that is negative"));
    assert_eq!(field(|header| header.size = [0xbf; 12]), entry("a size that is beyond 64 bits"));
    assert_eq!(field(|header| header.mtime = *b"soon        "), entry("a time that is not a number"));
    let pax = |key: &str, value: &[u8]| Tar::default().pax(&[(key, value)]).file("su", "").refusal();
    for (key, what) in [("uid", "an owner"), ("gid", "a group"), ("size", "a size"), ("mtime", "a time")] {
        assert_eq!(pax(key, b""), entry(&format!("{what} that is not a number")));
        assert_eq!(pax(key, b"+1"), entry(&format!("{what} that is not a number")));
        assert_eq!(pax(key, b"18446744073709551616"), entry(&format!("{what} that is beyond 64 bits")));
    }
    assert_eq!(pax("uid", b"-1"), entry("an owner that is negative"));
    assert_eq!(pax("gid", b"4294967295"), entry("the owner 998:4294967295; ids end at 4294967294"));
    assert!(pax("mtime", b"4294967296").contains("\"su\" cannot be taken: the time 4294967296 is after the year 2106"));
}

#[test]
fn a_number_of_a_pax_header_stands_for_the_one_that_the_header_has_no_room_for() {
    let tar = Tar::default().pax(&[("uid", b"7"), ("mtime", b"-5.5"), ("SCHILY.devmajor", b"260")]);
    let tar = tar.member(b'3', b"d", b"", b"").patch(1, |header| {
        header.as_old_mut().uid = [0xff; 8];
        header.set_device_minor(3).unwrap();
    });
    let layer = tar.read().unwrap();
    let entry = layer.tree.get(b"d").unwrap();
    assert_eq!((entry.uid, entry.mtime), (7, 0));
    assert!(matches!(entry.kind, Kind::CharacterDevice(260, 3)));
}

#[test]
fn an_entry_without_a_path_is_refused() {
    let unnamed = |tar: Tar| tar.refusal();
    assert_eq!(unnamed(Tar::default().file("", "x")), "the entry before byte 512 of the archive has an empty path");
    let gnu = Tar::default().member(b'L', b"././@LongLink", b"", b"\0").file("cut", "x");
    assert_eq!(unnamed(gnu), "the entry before byte 1536 of the archive has an empty path");
    let pax = |key| Tar::default().pax(&[(key, b"")]).link(b'2', "s", "t").refusal();
    for key in ["path", "linkpath"] {
        assert_eq!(pax(key), format!("reading the entry \"s\": its pax record \"{key}\" is empty"));
    }
}

#[test]
fn only_files_have_a_size() {
    let huge: &[(&str, &[u8])] = &[("size", b"18446744073709551615")];
    for (typeflag, target) in [(b'2', "t"), (b'3', ""), (b'4', ""), (b'5', ""), (b'6', "")] {
        for tar in [
            Tar::default().pax(huge).link(typeflag, "d", target),
            Tar::default().link(typeflag, "d", target).patch(1, |header| header.set_size(1)),
            Tar::default().link(typeflag, "d", target).patch(1, |header| header.set_size(1)).file("inside", ""),
        ] {
            let error = tar.refusal();
            assert!(error.contains("\"d\" has a size of ") && error.contains(" and is not a file; "), "{error}");
        }
    }
    let file = Tar::default().pax(huge).file("f", "").refusal();
    assert!(file.starts_with("the archive entry \"f\" holds 18446744073709551615 bytes; "), "{file}");
    let slash = Tar::default().file("d/", "x").refusal();
    assert!(slash.contains("\"d/\" has a size of 1 bytes and is not a file"), "{slash}");
    let linked =
        Tar::default().file("f", "abc").link(b'1', "g", "f").patch(1, |header| header.set_size(3)).file("h", "");
    assert_eq!(text(&linked.read().unwrap(), "g"), "abc");
}

#[test]
fn extension_headers_that_readers_disagree_on_are_refused() {
    let pax = || Tar::default().file("first", "").pax(&[("path", b"one")]);
    let gnu = |typeflag: u8| Tar::default().file("first", "").member(typeflag, b"L", b"", b"one\0");
    let twice = "after \"first\" there are two";
    assert_eq!(pax().pax(&[("uid", b"0")]).file("f", "").refusal(), format!("{twice} pax headers for one entry"));
    assert_eq!(gnu(b'L').member(b'L', b"L", b"", b"two").refusal(), format!("{twice} GNU name headers for one entry"));
    let targets = gnu(b'K').member(b'K', b"K", b"", b"two").refusal();
    assert_eq!(targets, format!("{twice} GNU link target headers for one entry"));
    let both = "reading the entry \"one\": it has a name in a GNU header and another in a pax header";
    assert!(gnu(b'L').pax(&[("path", b"two")]).file("f", "").refusal().starts_with(both));
    let layer = Tar::default().pax(&[("uid", b"1"), ("uid", b"2")]).file("f", "").read().unwrap();
    assert_eq!(layer.tree.get(b"f").unwrap().uid, 2, "of two records the later counts");
}

#[test]
fn of_extended_attributes_capabilities_stay_and_those_of_the_machine_are_named() {
    let label: (&str, &[u8]) = ("SCHILY.xattr.security.selinux", b"system_u:object_r:container_file_t:s0:c1,c2\0");
    let tar = Tar::default()
        .pax(&[label])
        .directory("d")
        .pax(&[label, ("SCHILY.xattr.security.capability", b"c"), ("SCHILY.xattr.security.ima", b"\x03\x02")])
        .file("d/f", "")
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.user.a", b"")])
        .file("d/g", "")
        .pax(&[("SCHILY.xattr.security.capability.x", b""), ("RHT.security.selinux", b"label")])
        .link(b'2', "d/l", "f");
    let layer = tar.read().unwrap();
    let found = |path: &[u8]| layer.tree.get(path).unwrap().xattrs.clone();
    assert_eq!(found(b"d/f"), [(b"security.capability".to_vec(), b"c".to_vec())].into());
    for path in [&b"d"[..], b"d/g", b"d/l"] {
        assert_eq!(found(path), [].into());
    }
    assert_eq!(
        layer.warnings.lines().collect::<Vec<_>>(),
        ["left out extended attributes that belong to the machine where the archive was made, such as labels: \
          \"security.selinux\", \"security.ima\", \"trusted.overlay.opaque\", ... (6 in all)"]
    );
}

#[test]
fn odd_attributes_and_devices_are_refused() {
    for name in ["", "a\0b"] {
        let error = Tar::default().pax(&[(&format!("SCHILY.xattr.{name}"), b"v")]).file("f", "").refusal();
        assert!(error.starts_with("reading the entry \"f\": it has an extended attribute with the name "), "{error}");
    }
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        let device = Tar::default().member(b'4', b"d", b"", b"").patch(1, |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        });
        assert_eq!(
            device.refusal(),
            format!("the archive entry \"d\" is the device {major}:{minor}, beyond what Linux has")
        );
    }
}

#[test]
fn what_is_unpacked_and_what_is_kept_in_memory_have_a_limit() {
    let read = |bytes: &[u8], unpacked_limit_bytes, memory_limit_bytes| {
        let rules = Rules { unpacked_limit_bytes, memory_limit_bytes, ..Rules::root_filesystem() };
        Layer::read(bytes, &std::env::temp_dir(), &rules).map(drop).map_err(|error| format!("{error:#}"))
    };
    let whole = Tar::default().file("a", &"x".repeat(100_000)).end();
    let packed = zstd::encode_all(&whole[..], 1).unwrap();
    let zeros = zstd::encode_all(&[&whole[..], &vec![0; 1 << 20]].concat()[..], 1).unwrap();
    assert_eq!(read(&packed, whole.len() as u64, 1000), Ok(()));
    for (bytes, limit_bytes) in [(&packed, whole.len() as u64 - 1), (&zeros, 1 << 20)] {
        let error = read(bytes, limit_bytes, 1000).unwrap_err();
        assert!(error.contains(&format!("it unpacks to more than {limit_bytes} bytes")), "{error}");
    }
    let attribute: &[(&str, &[u8])] = &[("SCHILY.xattr.security.capability", &[b'v'; 10_000])];
    let linked = |count: usize| {
        let tar = Tar::default().pax(attribute).file("f", "");
        (0..count).fold(tar, |tar, number| tar.link(b'1', &format!("link{number}"), "f")).end()
    };
    assert_eq!(read(&linked(1), u64::MAX, 30_000), Ok(()));
    let error = read(&linked(2), u64::MAX, 30_000).unwrap_err();
    assert!(error.starts_with("up to the entry \"link1\" the names and attributes"), "{error}");
    let names = (0..100).fold(Tar::default(), |tar, number| tar.file(&format!("name{number}"), "")).end();
    assert!(
        read(&names, u64::MAX, 10_000).unwrap_err().contains("more than 10000 bytes, the most that is kept in memory")
    );
}

#[test]
fn the_canonical_archive_has_pinned_bytes() {
    let tar = Tar::default()
        .pax(&[("SCHILY.xattr.security.capability", b"v"), ("mtime", b"5.5")])
        .file("b", "1")
        .link(b'1', "a", "b");
    let mut canonical = Vec::new();
    write_tar(&tar.read().unwrap().tree, &mut canonical).unwrap();
    assert_eq!(canonical.len(), 512 * 7);
    assert_eq!(
        Digest::of(&canonical).to_string(),
        "sha256:4942d157ae9dfbff5e4b260372a7faf83a208937eab0a8f6c17293ced870778b"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn trees_come_back_from_the_archive_that_is_written_of_them(tree in arbitrary::tree()) {
        let mut bytes = Vec::new();
        write_tar(&tree, &mut bytes).unwrap();
        let layer = read(&bytes).unwrap();
        prop_assert_eq!(layer.tree.digest().unwrap(), tree.digest().unwrap());
        prop_assert_eq!(layer.diff_id, Digest::of(&bytes));
    }

    /// Whatever the bytes: an error or a tree, no panic, no endless loop.
    #[test]
    fn damaged_archives_end_in_an_error_or_a_tree(tree in arbitrary::tree(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = Vec::new();
        write_tar(&tree, &mut bytes).unwrap();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = read(&bytes);
    }
}
