use super::*;
use crate::tree::{Content, Entry};

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
    tree.add_file(b"usr/lib/systemd/system/unused.service", Content::from_bytes(*b""), 0o644, EPOCH).unwrap();
    trim(&mut tree, &selection()).unwrap();
    let (last, unused) = (unit(UNITS - 1), "usr/lib/systemd/system/unused.service");
    assert_eq!(left(&tree, &[&last, unused]), [&last]);
}
