use std::collections::BTreeMap;

use super::*;
use crate::image::tree::{Content, Entry};

const EPOCH: u64 = 7;

/// An ELF file that is linked to `needed` and holds `texts`; with `note`, one on libraries that it loads.
fn elf(needed: &[&str], texts: &str, note: Option<&str>) -> Vec<u8> {
    let mut strings = vec![0];
    let mut dynamic = Vec::new();
    for name in needed {
        dynamic.extend([1u64, strings.len() as u64].iter().flat_map(|word| word.to_le_bytes()));
        strings.extend(name.bytes().chain([0]));
    }
    dynamic.extend([0; 16]);
    let note = note.map(|json| [&b"\0\0\0\0FDO\0"[..], json.as_bytes(), b"\0"].concat());
    let section_names = b"\0.dynstr\0.dynamic\0.rodata\0.note.dlopen\0.shstrtab\0".to_vec();
    // Of each: where its name lies, type, flags, content, which section has its strings, how large its entries are.
    let sections = [
        (1u32, 3u32, 2u64, strings, 0u32, 0u64),
        (9, 6, 2, dynamic, 1, 16),
        (18, 1, 2, texts.as_bytes().to_vec(), 0, 0),
        (26, 7, 2, note.clone().unwrap_or_default(), 0, 0),
        (39, 3, 0, section_names, 0, 0),
    ];
    let skipped = |number: usize| number == 3 && note.is_none();
    let mut body = Vec::new();
    let mut headers = vec![0; 64];
    for (number, (name, kind, flags, content, link, entry_size)) in sections.into_iter().enumerate() {
        let kind = if skipped(number) { 0 } else { kind };
        body.resize(body.len().next_multiple_of(8), 0);
        headers.extend([name, kind].iter().flat_map(|word| word.to_le_bytes()));
        let words = [flags, 0, 64 + body.len() as u64, content.len() as u64];
        headers.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        headers.extend([link, 0].iter().flat_map(|word| word.to_le_bytes()));
        headers.extend([8, entry_size].iter().flat_map(|word| word.to_le_bytes()));
        body.extend(content);
    }
    body.resize(body.len().next_multiple_of(8), 0);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([3u16, 62].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(1u32.to_le_bytes());
    file.extend([0, 0, 64 + body.len() as u64].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 0, 0, 64, 6, 5].iter().flat_map(|word| word.to_le_bytes()));
    [file, body, headers].concat()
}

/// A tree with what every tree here has: an init that names nothing.
fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    let mut tree = Tree::new();
    let mut add = |path: &str, bytes: Vec<u8>| {
        tree.add_file(path.as_bytes(), Content::from_bytes(bytes), 0o755, EPOCH).unwrap();
    };
    add("usr/lib/systemd/systemd", elf(&["libc.so.6"], "", None));
    add("usr/lib64/libc.so.6", elf(&[], "", None));
    files.iter().for_each(|(path, bytes)| add(path, bytes.clone()));
    tree.add_symlink(b"init", b"usr/lib/systemd/systemd", EPOCH).unwrap();
    tree
}

fn selection() -> Selection {
    Selection { trim: true, ..Selection::default() }
}

/// Which of `paths` are left.
fn left<'p>(tree: &Tree, paths: &[&'p str]) -> Vec<&'p str> {
    paths.iter().copied().filter(|path| tree.get(path.as_bytes()).is_some()).collect()
}

/// Trims a tree of `files`, and tells which of them are left.
fn trimmed<'p>(files: &[(&'p str, Vec<u8>)], selection: &Selection) -> Vec<&'p str> {
    let mut tree = tree(files);
    trim(&mut tree, selection).unwrap();
    left(&tree, &files.iter().map(|(path, _)| *path).collect::<Vec<_>>())
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn what_is_linked_or_named_stays_and_what_is_data_too() {
    let files = [
        ("usr/lib64/libnone.so.1", elf(&[], "", None)),
        ("usr/lib64/libused.so.1", elf(&[], "", None)),
        ("usr/bin/used", elf(&["libused.so.1"], "/usr/lib/called -x", None)),
        ("usr/lib/called", text("#!/usr/bin/sh\n# not\nword --flag | x\n")),
        ("usr/bin/sh", elf(&[], "", None)),
        ("usr/bin/word", elf(&[], "", None)),
        ("usr/bin/not", elf(&[], "", None)),
        ("usr/share/data", text("not code")),
    ];
    let named = Selection { programs: vec!["us*".to_owned(), "absent".to_owned()], ..selection() };
    let mut tree = tree(&files);
    let size_before = tree.size_bytes();
    let trimmed = trim(&mut tree, &named).unwrap();
    let paths: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
    let (gone, here): (Vec<&str>, Vec<&str>) =
        paths.iter().partition(|path| ["usr/lib64/libnone.so.1", "usr/bin/not"].contains(path));
    assert_eq!(left(&tree, &paths), here);
    assert_eq!((trimmed.files, trimmed.size_bytes), (gone.len(), size_before - tree.size_bytes()));
    assert_eq!(trimmed.unknown_programs, ["absent"]);
}

#[test]
fn libraries_loaded_at_run_time_stay_unless_their_feature_is_unwanted() {
    let note = r#"[{"feature":"a","priority":"suggested","soname":["liba.so.1","liba.so.0"]}]"#;
    let second = r#"[{"feature":"b","soname":["libb.so.1"]}]"#;
    let files = [
        ("usr/bin/noted", elf(&[], "libc.so.9\0libtext.so.1\0", Some(&format!("{note}\0{second}")))),
        ("usr/bin/plain", elf(&[], "libplain.so.1\0libidn2.so.0\0", None)),
        ("usr/lib64/liba.so.0", elf(&[], "", None)),
        ("usr/lib64/libb.so.1", elf(&[], "", None)),
        ("usr/lib64/libidn2.so.0", elf(&[], "", None)),
        ("usr/lib64/libplain.so.1", elf(&[], "", None)),
        ("usr/lib64/libtext.so.1", elf(&[], "", None)),
    ];
    let programs = vec!["noted".to_owned(), "plain".to_owned()];
    let dlopen = vec!["-b".to_owned(), "-libidn2.so.*".to_owned()];
    let here = trimmed(&files, &Selection { programs, dlopen, ..selection() });
    assert_eq!(here, ["usr/bin/noted", "usr/bin/plain", "usr/lib64/liba.so.0", "usr/lib64/libplain.so.1"]);
}

#[test]
fn units_lead_to_units_and_programs_and_masked_ones_nowhere() {
    let files = [
        ("usr/lib/systemd/system/initrd.target", text("[Unit]\nWants=a.socket masked.service\nAfter=late.service\n")),
        ("usr/lib/systemd/system/a.socket", text("[Socket]\n")),
        ("usr/lib/systemd/system/a@.service", text("[Service]\nExecStart=-/usr/bin/a\n")),
        ("usr/lib/systemd/system/a@.service.d/b.conf", text("[Service]\nExecStartPre=/usr/bin/b\n")),
        ("usr/lib/systemd/system/late.service", text("[Service]\nExecStart=/usr/bin/late\n")),
        ("usr/lib/systemd/system/masked.service", text("[Service]\nExecStart=/usr/bin/masked\n")),
        ("usr/bin/a", elf(&[], "", None)),
        ("usr/bin/b", elf(&[], "", None)),
        ("usr/bin/late", elf(&[], "", None)),
        ("usr/bin/masked", elf(&[], "", None)),
        ("usr/bin/linked", elf(&[], "", None)),
        ("usr/lib/systemd/system/linked@.service", text("[Service]\nExecStart=linked %i\n")),
    ];
    let mut tree = tree(&files);
    let wants = "etc/systemd/system/initrd.target.wants/linked@1.service";
    let late = "etc/systemd/system/other.target.wants/late.service";
    tree.add_symlink(wants.as_bytes(), b"/usr/lib/systemd/system/linked@.service", EPOCH).unwrap();
    tree.add_symlink(late.as_bytes(), b"/usr/lib/systemd/system/late.service", EPOCH).unwrap();
    tree.add_symlink(b"etc/systemd/system/masked.service", b"/dev/null", EPOCH).unwrap();
    trim(&mut tree, &selection()).unwrap();
    let gone = [
        "usr/lib/systemd/system/late.service",
        "usr/bin/late",
        "usr/lib/systemd/system/masked.service",
        "usr/bin/masked",
    ];
    for (path, _) in &files {
        assert_eq!(tree.get(path.as_bytes()).is_none(), gone.contains(path), "{path}");
    }
    assert_eq!(
        left(&tree, &[wants, late, "etc/systemd/system/masked.service"]),
        [wants, "etc/systemd/system/masked.service"]
    );
    assert!(!tree.contains_dir(b"etc/systemd/system/other.target.wants"), "a directory that is empty now");
}

#[test]
fn programs_name_units_and_templates() {
    let files = [
        (
            "usr/lib/systemd/system-generators/one",
            elf(&[], "systemd-fsck\0late.service\0[Unit]\nExecStart=/usr/bin/x '%s'\n", None),
        ),
        ("usr/lib/systemd/system/systemd-fsck@.service", text("[Service]\nExecStart=/usr/bin/fsck\n")),
        ("usr/lib/systemd/system/late.service", text("[Service]\nExecStart=/usr/bin/late\n")),
        ("usr/bin/fsck", elf(&[], "", None)),
        ("usr/bin/late", elf(&[], "", None)),
        ("usr/bin/x", elf(&[], "", None)),
    ];
    assert_eq!(trimmed(&files, &selection()).len(), files.len());
}

#[test]
fn rules_and_name_services_lead_to_programs_and_libraries() {
    let files = [
        ("usr/lib/udev/rules.d/60-x.rules", text("SUBSYSTEM==\"block\", IMPORT{program}=\"ata_id $devnode\"\n")),
        ("etc/nsswitch.conf", text("hosts: files [!UNAVAIL=return] resolve # db\n")),
        ("usr/lib/udev/ata_id", elf(&[], "", None)),
        ("usr/lib64/libnss_resolve.so.2", elf(&[], "", None)),
        ("usr/lib64/libnss_db.so.2", elf(&[], "", None)),
        ("usr/lib/udev/scsi_id", elf(&[], "", None)),
    ];
    assert_eq!(trimmed(&files, &selection()).len(), 4);
}

#[test]
fn all_names_of_a_file_stay_or_go_with_links_to_it() {
    let files = [
        ("usr/bin/kept", elf(&[], "", None)),
        ("usr/bin/lost", elf(&[], "", None)),
        ("usr/lib64/plugin.so", elf(&[], "", None)),
    ];
    let mut tree = tree(&files);
    tree.add_hard_link(b"usr/bin/kept2".to_vec(), b"usr/bin/kept").unwrap();
    tree.add_hard_link(b"usr/bin/a-lost".to_vec(), b"usr/bin/lost").unwrap();
    tree.add_symlink(b"usr/bin/link", b"kept", EPOCH).unwrap();
    tree.add_symlink(b"usr/bin/lost-link", b"lost", EPOCH).unwrap();
    tree.add_symlink(b"usr/bin/never", b"nothing", EPOCH).unwrap();
    let selection = Selection {
        programs: vec!["kept2".to_owned()],
        keep_files: vec!["/usr/lib64/plug*".to_owned()],
        ..selection()
    };
    trim(&mut tree, &selection).unwrap();
    let names = ["a-lost", "kept", "kept2", "link", "lost", "lost-link", "never"].map(|name| format!("usr/bin/{name}"));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(left(&tree, &names), ["usr/bin/kept", "usr/bin/kept2", "usr/bin/link", "usr/bin/never"]);
    assert!(tree.get(b"usr/lib64/plugin.so").is_some());
}

#[test]
fn a_program_that_is_damaged_is_named() {
    let mut tree = tree(&[("usr/bin/broken", b"\x7fELF broken".to_vec())]);
    let error = trim(&mut tree, &Selection { programs: vec!["broken".to_owned()], ..selection() }).unwrap_err();
    assert!(format!("{error:#}").starts_with("reading \"usr/bin/broken\": reading it as an ELF file: "), "{error:#}");
}

#[test]
fn a_text_that_nobody_may_run_is_data() {
    let mut tree = tree(&[]);
    let script = Entry::of_root(Kind::File(Content::from_bytes(*b"#!/usr/bin/sh\n")), 0o644, EPOCH);
    tree.insert(b"usr/share/example".to_vec(), script);
    trim(&mut tree, &selection()).unwrap();
    assert!(tree.get(b"usr/share/example").is_some());
}

/// Each unit asks for the next one: on the stack, so many would not find room.
#[test]
fn chains_of_units_are_followed_to_their_end() {
    const UNITS: usize = 20_000;
    let unit = |number: usize| format!("usr/lib/systemd/system/u{number}.service");
    let mut tree = tree(&[]);
    tree.add_symlink(b"usr/lib/systemd/system/initrd.target.wants/u0.service", b"../u0.service", EPOCH).unwrap();
    for number in 0..UNITS {
        tree.add_file(unit(number).as_bytes(), Content::from_bytes(*b"[Unit]\n"), 0o644, EPOCH).unwrap();
        let next = format!("{}.wants/u{}.service", unit(number), number + 1);
        tree.add_symlink(next.as_bytes(), b"nowhere", EPOCH).unwrap();
    }
    tree.add_file(b"usr/lib/systemd/system/unused.service", Content::from_bytes(*b"[Unit]\n"), 0o644, EPOCH).unwrap();
    trim(&mut tree, &selection()).unwrap();
    let (last, unused) = (unit(UNITS - 1), "usr/lib/systemd/system/unused.service");
    assert_eq!(left(&tree, &[&last, unused]), [&last]);
}

/// What a distribution may make of a directory or a file that is looked for by its name: where it lies then.
const LAYOUTS: [(&str, &[(&str, &str)]); 4] = [
    ("plain", &[]),
    ("the file is a link", &[("{file}", "/usr/share/elsewhere/{name}")]),
    ("links to links", &[("{file}", "../../usr/share/first"), ("usr/share/first", "elsewhere/{name}")]),
    ("the directory is a link", &[("{directory}", "/usr/share/elsewhere")]),
];

/// A tree in which `path` has that text and lies as the layout says, with further files.
fn laid_out(links: &[(&str, &str)], path: &str, content: &str, files: &[(&str, Vec<u8>)]) -> Tree {
    let (directory, name) = path.rsplit_once('/').unwrap();
    let fill = |text: &str| text.replace("{file}", path).replace("{directory}", directory).replace("{name}", name);
    let mut tree = tree(files);
    for (link, target) in links {
        // The link `../../` is that of a file two directories deep.
        let target = if target.starts_with("../../") && *link == "{file}" {
            format!("{}{}", "../".repeat(directory.split('/').count()), target.trim_start_matches("../"))
        } else {
            fill(target)
        };
        tree.add_symlink(fill(link).as_bytes(), fill(&target).as_bytes(), EPOCH).unwrap();
    }
    let place = if links.is_empty() { path.to_owned() } else { format!("usr/share/elsewhere/{name}") };
    tree.add_file(place.as_bytes(), Content::from_bytes(text(content)), 0o644, EPOCH).unwrap();
    tree
}

/// authselect's link in place of /etc/nsswitch.conf is one of these: what is looked for by a name may lie anywhere.
#[test]
fn what_is_looked_for_by_its_name_is_found_behind_links() {
    let program = |name: &'static str| (name, elf(&[], "", None));
    let unit = ("usr/lib/systemd/system/other.service", text("[Service]\nExecStart=/usr/bin/wanted\n"));
    for (path, content, needed) in [
        ("etc/nsswitch.conf", "hosts: files resolve dns\n", vec![program("usr/lib64/libnss_resolve.so.2")]),
        ("etc/udev/rules.d/60-x.rules", "RUN+=\"wanted -x\"\n", vec![program("usr/bin/wanted")]),
        (
            "usr/lib/udev/rules.d/60-x.rules",
            "ENV{SYSTEMD_WANTS}=\"other.service\"\n",
            vec![unit, program("usr/bin/wanted")],
        ),
        ("usr/local/lib/udev/rules.d/60-x.rules", "IMPORT{program}=\"wanted\"\n", vec![program("usr/lib/udev/wanted")]),
        ("etc/modprobe.d/x.conf", "install x /usr/bin/wanted\n", vec![program("usr/bin/wanted")]),
        ("etc/systemd/system/initrd.target", "[Service]\nExecStart=/usr/bin/wanted\n", vec![program("usr/bin/wanted")]),
        ("usr/local/lib/systemd/system/initrd.target", "ExecStart=wanted\n", vec![program("usr/local/bin/wanted")]),
        ("usr/lib/systemd/system/initrd.target.d/x.conf", "ExecStart=wanted\n", vec![program("usr/sbin/wanted")]),
        (
            "usr/lib/systemd/system-generators/x",
            "#!/usr/bin/sh\nwanted\n",
            vec![program("usr/bin/sh"), program("usr/bin/wanted")],
        ),
    ] {
        for (layout, links) in LAYOUTS {
            let mut tree = laid_out(links, path, content, &[&needed[..], &[program("usr/bin/lost")]].concat());
            let before = tree.resolve(path.as_bytes()).expect(layout);
            trim(&mut tree, &selection()).unwrap();
            let needed: Vec<&str> = needed.iter().map(|(path, _)| *path).collect();
            assert_eq!(left(&tree, &needed), needed, "{path}: {layout}");
            assert_eq!(tree.resolve(path.as_bytes()), Some(before), "{path}: {layout}");
            assert!(tree.get(b"usr/bin/lost").is_none());
        }
    }
}

#[test]
fn directories_of_programs_and_of_wanted_units_may_be_links() {
    let files = [
        ("usr/share/wants/alias.service", text("")),
        ("usr/lib/systemd/system/a.service", text("[Service]\nExecStart=called\n")),
        ("usr/lib/systemd/system/alias.service.d/b.conf", text("[Service]\nExecStartPre=/lib/called-too\n")),
        ("usr/lib/systemd/system/second.service.d/b.conf", text("[Service]\nExecStartPre=/usr/sbin/called-last\n")),
        ("opt/bin/called", elf(&[], "", None)),
        ("opt/bin/called-last", elf(&[], "", None)),
        ("opt/bin/named", elf(&[], "", None)),
        ("usr/lib/called-too", elf(&[], "", None)),
    ];
    let mut tree = tree(&files);
    for (link, target) in [
        ("usr/lib/systemd/system/initrd.target.wants", "../../../share/wants"),
        ("usr/sbin", "/opt/bin"),
        ("lib", "usr/lib"),
        ("usr/lib/systemd/system/alias.service", "second.service"),
        ("usr/lib/systemd/system/second.service", "a.service"),
    ] {
        tree.add_symlink(link.as_bytes(), target.as_bytes(), EPOCH).unwrap();
    }
    trim(&mut tree, &Selection { programs: vec!["named".to_owned()], ..selection() }).unwrap();
    let paths = files.map(|(path, _)| path);
    assert_eq!(left(&tree, &paths), paths);
    let names = ["usr/lib/systemd/system/alias.service", "usr/lib/systemd/system/second.service"];
    assert_eq!(left(&tree, &names), names);
}

#[test]
fn units_are_masked_by_any_link_to_null_and_by_an_empty_file() {
    for mask in ["/dev/null", "../../../dev/null", "/usr/lib/null", ""] {
        let files = [
            ("usr/lib/systemd/system/initrd.target", text("[Unit]\nWants=a.service\n")),
            ("usr/lib/systemd/system/a.service", text("[Service]\nExecStart=/usr/bin/a\n")),
            ("usr/bin/a", elf(&[], "", None)),
        ];
        let mut tree = tree(&files);
        tree.add_symlink(b"usr/lib/null", b"../../dev/null", EPOCH).unwrap();
        let path = b"etc/systemd/system/a.service";
        if mask.is_empty() {
            tree.add_file(path, Content::from_bytes(*b""), 0o644, EPOCH).unwrap();
        } else {
            tree.add_symlink(path, mask.as_bytes(), EPOCH).unwrap();
        }
        trim(&mut tree, &selection()).unwrap();
        assert_eq!(left(&tree, &["usr/bin/a", "usr/lib/systemd/system/a.service"]), [] as [&str; 0], "{mask:?}");
        assert!(tree.get(path).is_some(), "the mask {mask:?} stays");
    }
}

fn reading(lists: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let list = |(data, readers): &(&str, &[&str])| {
        ((*data).to_owned(), readers.iter().map(|reader| (*reader).to_owned()).collect())
    };
    lists.iter().map(list).collect()
}

#[test]
fn data_goes_where_none_of_its_readers_is_reached() {
    let files = [
        ("usr/bin/kept", elf(&["libread.so.1"], "", None)),
        ("usr/lib64/libread.so.1.2", elf(&[], "", None)),
        ("usr/lib64/libunread.so.1", elf(&[], "", None)),
        ("etc/read/a", text("a")),
        ("etc/other/b", text("b")),
        ("etc/unread/deep/c", text("c")),
        ("etc/unread/deep/kept", text("d")),
        ("etc/gone/e", text("e")),
        ("usr/share/x/one.txt", text("f")),
        ("usr/share/x/two.txt", text("g")),
    ];
    let mut tree = tree(&files);
    tree.add_symlink(b"usr/lib64/libread.so.1", b"libread.so.1.2", EPOCH).unwrap();
    tree.add_symlink(b"usr/bin/alias", b"kept", EPOCH).unwrap();
    tree.add_symlink(b"etc/link", b"/usr/share/x/two.txt", EPOCH).unwrap();
    tree.add_hard_link(b"usr/share/y".to_vec(), b"etc/gone/e").unwrap();
    tree.add_directory(b"etc/gone/empty", 0o755, EPOCH).unwrap();
    let selection = Selection {
        programs: vec!["kept".to_owned()],
        keep_files: vec!["/etc/unread/**/kept".to_owned()],
        read_by: reading(&[
            ("/etc/read", &["libnone.so", "libread.so.1"]),
            ("/etc/other", &["alias"]),
            ("/etc/unread", &["libunread.so*"]),
            ("/etc/gone", &["nobody"]),
            ("/usr/share/*/two.txt", &["libunread.so*"]),
        ]),
        ..selection()
    };
    let trimmed = trim(&mut tree, &selection).unwrap();
    let paths = ["etc/read/a", "etc/other/b", "etc/unread/deep/kept", "usr/share/x/one.txt", "usr/share/y"];
    assert_eq!(left(&tree, &paths), paths);
    let gone = ["etc/unread/deep/c", "etc/gone/e", "etc/gone/empty", "etc/gone", "usr/share/x/two.txt", "etc/link"];
    assert_eq!(left(&tree, &gone), [] as [&str; 0]);
    assert_eq!(trimmed.files, 4, "a library and three files");
    assert_eq!(tree.content(b"usr/share/y").unwrap().read_all().unwrap(), b"e");
}

#[test]
fn a_malformed_pattern_of_readers_is_named() {
    let selection = Selection { read_by: reading(&[("/etc/x", &["a["])]), ..selection() };
    let error = trim(&mut tree(&[]), &selection).unwrap_err();
    assert!(format!("{error:#}").starts_with("in read_by of \"/etc/x\": reading the pattern \"a[\""), "{error:#}");
}

/// What kbd brings, where Fedora has it: a keymap that includes others, a link to it, fonts.
fn keyboard(configuration: &str, programs: &[&str]) -> (Tree, Trimmed) {
    let keymaps = "usr/lib/kbd/keymaps/legacy";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"include \"qwertz\"\nkeycode 1 = Escape\n").unwrap();
    let files = [
        (format!("{keymaps}/i386/qwertz/de.map.gz"), gzip.finish().unwrap()),
        (format!("{keymaps}/i386/include/qwertz.inc"), text("include \"bare\"\n")),
        (format!("{keymaps}/include/bare.inc"), text("keycode 2 = one\n")),
        (format!("{keymaps}/i386/qwerty/us.map.gz"), text("keycode 3 = two\n")),
        ("usr/lib/kbd/consolefonts/eurlatgr.psfu.gz".to_owned(), text("font")),
        ("usr/lib/kbd/consolefonts/other.psfu.gz".to_owned(), text("font")),
        ("usr/lib/kbd/consoletrans/8859-1.trans".to_owned(), text("table")),
        ("usr/share/settings".to_owned(), text(configuration)),
        ("usr/lib/systemd/systemd-vconsole-setup".to_owned(), elf(&[], "", None)),
        ("usr/bin/loadkeys".to_owned(), elf(&[], "", None)),
        ("usr/bin/setfont".to_owned(), elf(&[], "", None)),
    ];
    let mut tree = tree(&[]);
    for (path, bytes) in files {
        tree.add_file(path.as_bytes(), Content::from_bytes(bytes), 0o755, EPOCH).unwrap();
    }
    tree.add_symlink(b"usr/lib/kbd/keymaps/legacy/i386/qwertz/de-alias.map.gz", b"de.map.gz", EPOCH).unwrap();
    tree.add_symlink(b"usr/share/keymaps", b"../lib/kbd/keymaps", EPOCH).unwrap();
    tree.add_symlink(b"etc/vconsole.conf", b"../usr/share/settings", EPOCH).unwrap();
    let keep_files = programs.iter().map(|path| (*path).to_owned()).collect();
    let trimmed = trim(&mut tree, &Selection { keep_files, ..selection() }).unwrap();
    (tree, trimmed)
}

/// What is left of kbd's data.
fn data_of(tree: &Tree) -> Vec<String> {
    let files = tree.below(b"usr/lib/kbd").filter(|(_, entry)| !matches!(entry.kind, Kind::Directory));
    files.map(|(path, _)| String::from_utf8_lossy(path).replace("usr/lib/kbd/", "")).collect()
}

#[test]
fn the_console_keeps_the_keymap_and_the_font_that_are_named_and_no_other() {
    let programs = ["/usr/lib/systemd/systemd-vconsole-setup", "/usr/bin/{loadkeys,setfont}"];
    for name in ["de", "de-alias"] {
        let (tree, trimmed) = keyboard(&format!("KEYMAP={name}\nFONT=\"eurlatgr\"\n"), &programs);
        let mut expected = vec![
            "consolefonts/eurlatgr.psfu.gz",
            "keymaps/legacy/i386/include/qwertz.inc",
            "keymaps/legacy/i386/qwertz/de-alias.map.gz",
            "keymaps/legacy/i386/qwertz/de.map.gz",
            "keymaps/legacy/include/bare.inc",
        ];
        expected.retain(|path| name == "de-alias" || !path.contains("alias"));
        assert_eq!(data_of(&tree), expected);
        assert_eq!(trimmed.remarks, [] as [&str; 0]);
    }
    let (tree, trimmed) = keyboard("", &programs);
    assert_eq!((data_of(&tree), trimmed.remarks), (vec![], vec![]));
    assert!(!tree.contains_dir(b"usr/lib/kbd") && tree.get(b"usr/share/keymaps").is_none());
    let (tree, _) = keyboard("", &[&programs[..], &["/usr/lib/kbd/keymaps/**/us.*"]].concat());
    assert_eq!(data_of(&tree), ["keymaps/legacy/i386/qwerty/us.map.gz"]);
}

#[test]
fn settings_of_the_console_that_do_not_count_are_told() {
    let programs = ["/usr/lib/systemd/systemd-vconsole-setup", "/usr/bin/loadkeys"];
    let (_, trimmed) = keyboard("KEYMAP=none-such\nFONT=eurlatgr\n", &programs);
    assert_eq!(
        trimmed.remarks,
        [
            "KEYMAP=none-such of /etc/vconsole.conf is in no directory keymaps: install the package that has it, kbd-misc or \
             kbd-legacy",
            "FONT=eurlatgr of /etc/vconsole.conf does not count in the initrd, which has no /usr/bin/setfont: build it with \
             --profile vconsole",
        ]
    );
}
