//! What the kernel makes of an initrd, booted, against what `inspect` says of it: entries and segments of every form that Linux
//! treats in a way of its own. Each form that it does not take must be a problem, and none that it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use ocinitrd::analysis::inspect::{Limits, inspect, visit_contents};
use tempfile::TempDir;

use crate::fixture::{checkout, offline_output, succeed};

const DIRECTORY: u32 = 0o40_755;
const FILE: u32 = 0o100_644;
const SYMLINK: u32 = 0o120_777;
const CHARACTER: u32 = 0o20_600;
const BLOCK: u32 = 0o60_600;
const FIFO: u32 = 0o10_644;
const SOCKET: u32 = 0o140_755;
/// As a user or group it is nobody.
const NOBODY: u32 = u32::MAX;

/// An entry, which may be as no program would write it.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    data: Vec<u8>,
    magic: &'static str,
    /// In the order of the header: inode, mode, uid, gid, links, mtime, size, ..., checksum.
    fields: [String; 13],
}

const INODE: usize = 0;
const UID: usize = 2;
const GID: usize = 3;
const LINKS: usize = 4;
const MTIME: usize = 5;
const MAJOR: usize = 9;
const MINOR: usize = 10;
const NAME_SIZE: usize = 11;
const CHECKSUM: usize = 12;

fn entry(path: &str, mode: u32, data: impl Into<Vec<u8>>) -> Entry {
    let data = data.into();
    let name = [path.as_bytes(), &[0]].concat();
    let numbers = [0, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32, 0];
    Entry { name, data, magic: "070701", fields: numbers.map(|number| format!("{number:08x}")) }
}

impl Entry {
    fn with(self, field: usize, value: u32) -> Self {
        self.with_text(field, &format!("{value:08x}"))
    }

    fn with_text(mut self, field: usize, text: &str) -> Self {
        self.fields[field] = text.to_owned();
        self
    }

    fn owned(self, uid: u32, gid: u32) -> Self {
        self.with(UID, uid).with(GID, gid)
    }

    fn device(self, major: u32, minor: u32) -> Self {
        self.with(MAJOR, major).with(MINOR, minor)
    }

    fn linked(self, inode: u32) -> Self {
        self.with(INODE, inode).with(LINKS, 2)
    }

    fn summed(mut self, sum: u32) -> Self {
        self.magic = "070702";
        self.with(CHECKSUM, sum)
    }

    /// The bytes of the name, with what ends it.
    fn named(self, name: &[u8]) -> Self {
        Entry { name: name.to_vec(), ..self }.with(NAME_SIZE, name.len() as u32)
    }

    fn bytes(&self) -> Vec<u8> {
        let header = [self.magic.as_bytes(), self.fields.concat().as_bytes(), &self.name].concat();
        padded([padded(header), self.data.clone()].concat())
    }
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn entries(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(Entry::bytes).collect()
}

fn archive(list: &[Entry]) -> Vec<u8> {
    [entries(list), entry("TRAILER!!!", 0, "").bytes()].concat()
}

fn directory(path: &str) -> Entry {
    entry(path, DIRECTORY, "")
}

/// An archive with an init that lists what was unpacked, and ends the machine.
fn base() -> Vec<u8> {
    static INIT: OnceLock<Vec<u8>> = OnceLock::new();
    let init = INIT.get_or_init(|| {
        let directory = TempDir::new().unwrap();
        let program = directory.path().join("init");
        let source = checkout().join("tests/fixtures/unpacking/init.c");
        succeed(Command::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(source));
        fs::read(program).unwrap()
    });
    archive(&[entry("init", 0o100_755, init.as_slice())])
}

/// What came of a boot.
struct Booted {
    /// The lines of `init` by path; none if it did not start.
    names: Option<BTreeMap<String, String>>,
    /// What the kernel says of the initrd, if anything.
    complaint: Option<String>,
    console: String,
}

fn kernel() -> PathBuf {
    offline_output().join("vmlinuz")
}

/// Boots an initrd. QEMU is called here and not through `ocinitrd boot`, which would refuse most of these. Where a kernel panics before it
/// looks at the initrd, as it does now and then when its instructions are translated, it gets another try.
fn boot(initrd: &[u8]) -> Booted {
    let reached = |booted: &Booted| booted.console.contains("Trying to unpack rootfs image");
    let booted = (0..3).map(|_| boot_once(initrd)).find(reached);
    booted.expect("one of three boots comes as far as the initrd")
}

fn boot_once(initrd: &[u8]) -> Booted {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("initrd");
    fs::write(&file, initrd).unwrap();
    let mut command = Command::new("timeout");
    command.args(["600", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max,cx16=off,la57=off", "-M", "q35"]);
    command.args(["-m", "768M", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel"]);
    command.arg(kernel()).arg("-initrd").arg(file);
    command.args(["-append", "console=ttyS0 panic=-1 rdinit=/init"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(output.status.success(), "{console}\n{}", String::from_utf8_lossy(&output.stderr));
    let complaint =
        console.lines().find_map(|line| Some(line.split_once("Initramfs unpacking failed: ")?.1.to_owned()));
    let listed = console.split_once("\nBEGIN\n").and_then(|(_, rest)| Some(rest.split_once("\nEND\n")?.0));
    let named = |line: &str| {
        let line = line.strip_prefix("L ")?;
        Some((line.split(' ').nth(6)?.to_owned(), line.to_owned()))
    };
    let names = listed.map(|lines| lines.lines().filter_map(named).collect());
    Booted { names, complaint, console }
}

/// As the guest's init writes it.
fn shown(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'\\' => text.push_str("\\x5c"),
            byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            byte => write!(text, "\\x{byte:02x}").unwrap(),
        }
        text
    })
}

/// What `inspect` lists, in the lines of the guest's init.
fn listed(initrd: &[u8]) -> BTreeMap<String, String> {
    let report = inspect(initrd).unwrap();
    let view = &report.view;
    let numbers: BTreeSet<u64> = view.iter().filter_map(|(_, inode)| Some(view.content(inode)?.entry)).collect();
    let mut sums = BTreeMap::new();
    visit_contents(initrd, &Limits::default(), &numbers, |number, data| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        sums.insert(number, bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_add((*byte).into())));
        Ok(())
    })
    .unwrap();
    let line = |(path, inode): (Vec<u8>, &ocinitrd::analysis::inspect::Inode)| {
        let (path, target) = (shown(&path), view.target(inode));
        let is_symlink = inode.mode & 0o170_000 == 0o120_000;
        let content = view.content(inode);
        let size = content.map_or(target.len() as u64, |content| content.size_bytes.into());
        let sum = content.map_or(0, |content| sums[&content.entry]);
        let (major, minor) = inode.device;
        let arrow = if is_symlink { format!(" -> {}", shown(target)) } else { String::new() };
        let line = format!("{:o} {} {} {size} {major}:{minor} {sum} {path}{arrow}", inode.mode, inode.uid, inode.gid);
        (path, line)
    };
    view.iter().map(line).collect()
}

fn problems(initrd: &[u8]) -> String {
    let report = inspect(initrd).unwrap();
    report.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Entries in a directory of their own, and a part of what `inspect` says of them; nothing where they are sound.
struct Form {
    entries: Vec<Entry>,
    told: &'static str,
}

fn form(told: &'static str, entries: impl IntoIterator<Item = Entry>) -> Form {
    Form { entries: entries.into_iter().collect(), told }
}

const NO_PARENT: &str = "no entry before it makes its parent directory";
const DATA: &str = "it has data, and is neither a file nor a symlink";
const TARGET: &str = "the target of the symlink has more than 4095 bytes";
const NAME: &str = "a part of its path has more than 255 bytes";
const TYPE: &str = "its mode has no file type that the kernel knows";
const SLASH: &str = "its name ends in a slash, and it is no directory";
const IN_THE_WAY: &str = "a directory that is not empty is in its place";
const LINK: &str = "the file that it is another name of, by its inode number, is not there";
const DOTS: &str = "its name is that of a directory itself";
const OWNER: &str = "the user or group 4294967295 is none";
const NUMBERS: &str = "major numbers of devices go up to 4095";

fn forms() -> Vec<Form> {
    [types(), names(), symlinks(), links(), replaced(), numbers()].into_iter().flatten().collect()
}

fn types() -> Vec<Form> {
    vec![
        form("", [directory("t1"), entry("t1/fifo", FIFO, ""), entry("t1/socket", SOCKET, "")]),
        form("", [directory("t2"), entry("t2/c", CHARACTER, "").device(1, 3), entry("t2/b", BLOCK, "").device(7, 0)]),
        form(DATA, [directory("t3"), entry("t3/d", DIRECTORY, "data")]),
        form(NO_PARENT, [directory("t4"), entry("t4/d", DIRECTORY, "data"), entry("t4/d/below", FILE, "")]),
        form(DATA, [directory("t5"), entry("t5/fifo", FIFO, "data")]),
        form(DATA, [directory("t6"), entry("t6/socket", SOCKET, "data")]),
        form(DATA, [directory("t7"), entry("t7/c", CHARACTER, "data").device(1, 3)]),
        form(DATA, [directory("t8"), entry("t8/b", BLOCK, "data").device(7, 0)]),
        form(TYPE, [directory("t9"), entry("t9/none", 0o644, "")]),
        form(TYPE, [directory("t10"), entry("t10/all", 0o170_644, "")]),
        form(TYPE, [directory("t11"), entry("t11/other", 0o30_644, "")]),
        form(DATA, [directory("t12"), entry("t12/none", 0o644, "data")]),
        // What has no type removes what is there, if it is not skipped for its data.
        form(TYPE, [directory("t13"), entry("t13/f", FILE, "x"), entry("t13/f", 0o644, "")]),
        form(TYPE, [directory("t14"), directory("t14/d"), entry("t14/d", 0o644, "")]),
        form(DATA, [directory("t15"), entry("t15/f", FILE, "x"), entry("t15/f", 0o644, "data")]),
        form(IN_THE_WAY, [directory("t16"), directory("t16/d"), entry("t16/d/f", FILE, ""), entry("t16/d", 0o644, "")]),
        // Only 16 bits of the mode count.
        form("", [directory("t17"), entry("t17/f", 0o7_100_644 | 1 << 20, "x")]),
        form("", [directory("t18"), entry("t18/f", 0o106_755, "x").owned(5, 6), entry("t18/s", 0o101_777, "")]),
    ]
}

fn names() -> Vec<Form> {
    let long = |length: usize| format!("n1/{}", "n".repeat(length));
    let deep: String = (0..2000).map(|_| "q/").collect();
    vec![
        form("", [directory("n1"), entry(&long(255), FILE, "x")]),
        form(NAME, [directory("n1"), entry(&long(256), FILE, "x")]),
        form(NAME, [directory("n1"), directory(&long(257))]),
        form(NAME, [directory("n1"), entry(&long(258), SYMLINK, "x")]),
        form(NAME, [directory("n1"), entry(&(long(259) + "/below"), FILE, "x")]),
        form(NO_PARENT, [directory("n2"), entry(&format!("n2/{deep}x"), FILE, "x")]),
        form("", [directory("n3/"), directory("n3/d//")]),
        form(SLASH, [directory("n4"), entry("n4/f/", FILE, "x")]),
        form(SLASH, [directory("n5"), entry("n5/l/", SYMLINK, "x")]),
        form(SLASH, [directory("n6"), entry("n6/p/", FIFO, "")]),
        form(SLASH, [directory("n7"), directory("n7/d"), entry("n7/d/", SYMLINK, "x")]),
        form("in its place", [directory("n8"), entry("n8/f", FILE, "x"), directory("n8/f/")]),
        form("in its place", [directory("n9"), entry("n9/l", SYMLINK, "nowhere"), directory("n9/l/")]),
        // With a slash a symlink to a directory stays, and is followed.
        form("", [directory("n10"), directory("n10/d"), entry("n10/l", SYMLINK, "d"), directory("n10/l/").owned(7, 8)]),
        form("", [directory("n11"), directory("n11/d"), entry("n11/l", SYMLINK, "d"), directory("n11/l").owned(7, 8)]),
        form(NO_PARENT, [directory("n12"), directory("n12/new/.")]),
        form(NO_PARENT, [directory("n13"), entry("n13/new/.", FILE, "x")]),
        form(DOTS, [directory("n14"), directory("n14/d"), entry("n14/d/.", FILE, "x")]),
        form("", [directory("n15"), directory("n15/d"), directory("n15/d/.").owned(9, 9)]),
        form("", [directory("n16"), directory("n16/d"), entry("n16/d/./../f", FILE, "x"), directory("n16/d/..")]),
        form(
            "what is in the place of its parent",
            [directory("n17"), entry("n17/f", FILE, "x"), entry("n17/f/../g", FILE, "x")],
        ),
        form(NO_PARENT, [directory("n18"), entry("n18/none/../f", FILE, "x")]),
        form(
            "",
            [directory("/n19"), entry("//n19//f", FILE, "x"), entry("./n19/g", FILE, "x"), entry("../n19/h", FILE, "")],
        ),
        form(DOTS, [entry(".", FILE, "x")]),
        form(DOTS, [entry("/", FIFO, "")]),
        form("", [directory("n20"), entry("", FILE, "x").named(b"n20/na\0me\0")]),
        form("", [directory("n21"), entry("", FILE, "x").named(b"n21/padded\0\0\0\0\0\0\0\0")]),
        form("", [entry("dev/n22", FILE, "x"), entry("root/n22", FILE, "x")]),
        form(NO_PARENT, [entry("nowhere/n23", FILE, "x")]),
        form("", [entry("TRAILER!!!", SYMLINK, "n24")]),
        form(DATA, [entry("TRAILER!!!", DIRECTORY, "n25"), directory("n25")]),
    ]
}

fn symlinks() -> Vec<Form> {
    let target = |length: usize| "t".repeat(length);
    let chain = |count: usize, name: &str| {
        let mut entries = vec![directory(name)];
        for number in 0..count {
            let next = number.checked_sub(1).map_or_else(|| ".".to_owned(), |next| next.to_string());
            entries.push(entry(&format!("{name}/{number}"), SYMLINK, next));
        }
        entries.push(entry(&format!("{name}/{}/f", count - 1), FILE, "x"));
        entries
    };
    vec![
        form("", [directory("s1"), entry("s1/l", SYMLINK, target(4095))]),
        form(TARGET, [directory("s2"), entry("s2/l", SYMLINK, target(4096))]),
        form(TARGET, [directory("s3"), entry("s3/l", SYMLINK, target(4097))]),
        form("", [directory("s4"), entry("s4/l", SYMLINK, "cut\0off")]),
        form("", [directory("s5"), entry("s5/l", SYMLINK, [&b"cut\0"[..], &[b'x'; 4092]].concat())]),
        form("", [directory("s6"), entry("s6/l", SYMLINK, ""), entry("s6/l/f", FILE, "x")]),
        form("", chain(40, "s7")),
        form("more than 40 symlinks", chain(41, "s8")),
        form("", [directory("s9"), directory("s9/d"), entry("s9/l", SYMLINK, "/s9/d"), entry("s9/l/f", FILE, "x")]),
        form(NO_PARENT, [directory("s10"), entry("s10/l", SYMLINK, "none"), entry("s10/l/f", FILE, "x")]),
    ]
}

fn links() -> Vec<Form> {
    let file = |path: &str, inode: u32, data: &str| entry(path, FILE, data).linked(inode);
    vec![
        form("", [directory("h1"), file("h1/a", 1, "data"), file("h1/b", 1, "").owned(3, 4)]),
        form("", [directory("h2"), file("h2/a", 2, ""), file("h2/b", 2, "data")]),
        form("", [directory("h3"), file("h3/a", 3, "longer"), file("h3/b", 3, "data").with(MTIME, 9)]),
        // The same name again is removed for the link, which then leads nowhere.
        form(LINK, [directory("h4"), file("h4/a", 4, "data"), file("h4/b", 4, ""), file("h4/a", 4, "")]),
        form(LINK, [directory("h5"), file("h5/none/a", 5, "data"), file("h5/b", 5, "data")]),
        form(LINK, [directory("h6"), file("h6/a", 6, "data"), directory("h6/a"), file("h6/b", 6, "data")]),
        form("", [directory("h7"), file("h7/a", 7, "data"), entry("h7/b", FIFO, "").linked(7), file("h7/c", 7, "")]),
        form("", [directory("h8"), entry("h8/a", FIFO, "").linked(8), entry("h8/b", FIFO, "").linked(8)]),
        form(
            "",
            [
                directory("h9"),
                entry("h9/a", CHARACTER, "").device(1, 3).linked(9),
                entry("h9/b", CHARACTER, "").device(1, 3).linked(9),
            ],
        ),
        form(
            "a device with other numbers is there",
            [
                directory("h10"),
                entry("h10/a", CHARACTER, "").device(1, 3).linked(10),
                entry("h10/b", CHARACTER, "").device(1, 5).linked(10),
            ],
        ),
        form(
            "",
            [directory("h11"), entry("h11/a", SYMLINK, "one").linked(11), entry("h11/b", SYMLINK, "two").linked(11)],
        ),
        form("", [directory("h12"), file("h12/a", 12, "data"), entry("h12/b", FIFO, ""), file("h12/b", 12, "")]),
        form(
            IN_THE_WAY,
            [
                directory("h13"),
                file("h13/a", 13, "data"),
                directory("h13/d"),
                entry("h13/d/f", FILE, ""),
                file("h13/d", 13, ""),
            ],
        ),
        form("", [directory("h14"), file("h14/a", 14, "one"), file("h14/b", 14, ""), entry("h14/a", FILE, "other")]),
        // The first name is looked for where its path leads by then.
        form(
            LINK,
            [
                directory("h15"),
                directory("h15/d"),
                directory("h15/e"),
                entry("h15/l", SYMLINK, "d"),
                file("h15/l/a", 15, "data"),
                entry("h15/l", SYMLINK, "e"),
                file("h15/b", 15, "data"),
            ],
        ),
    ]
}

fn replaced() -> Vec<Form> {
    vec![
        form("", [directory("r1"), entry("r1/a", SYMLINK, "b"), entry("r1/a", FILE, "x")]),
        form("", [directory("r2"), entry("r2/a", FILE, "x"), directory("r2/a"), entry("r2/a", SYMLINK, "b")]),
        form(IN_THE_WAY, [directory("r3"), directory("r3/d"), entry("r3/d/f", FILE, ""), entry("r3/d", SYMLINK, "x")]),
        form(IN_THE_WAY, [directory("r4"), directory("r4/d"), entry("r4/d/f", FILE, ""), entry("r4/d", FILE, "x")]),
        form(
            IN_THE_WAY,
            [directory("r5"), directory("r5/d"), entry("r5/d/f", FILE, ""), entry("r5/d", FIFO, "").owned(4, 4)],
        ),
        form("", [directory("r6"), directory("r6/d"), directory("r6/d").owned(3, 4), entry("r6/d/f", FILE, "")]),
        form(IN_THE_WAY, [entry("dev", FILE, "the kernel has a console there")]),
    ]
}

fn numbers() -> Vec<Form> {
    let device = |path: &str, major: u32, minor: u32| entry(path, CHARACTER, "").device(major, minor);
    vec![
        form("", [directory("u1"), device("u1/most", 4095, (1 << 20) - 1), device("u1/none", 0, 0)]),
        form(NUMBERS, [directory("u2"), device("u2/major", 5000, 1)]),
        form(NUMBERS, [directory("u3"), device("u3/minor", 1, 1 << 20)]),
        form(
            "a device with other numbers is there",
            [directory("u4"), device("u4/c", 1, 3), device("u4/c", 1, 5).owned(4, 5)],
        ),
        form("", [directory("u5"), entry("u5/fifo", FIFO, "").device(3, 4)]),
        // A program of nobody's with the set-user-ID bit would be one of root's.
        form(OWNER, [directory("u6"), entry("u6/f", 0o104_755, "x").owned(NOBODY, 5)]),
        form(OWNER, [directory("u7"), entry("u7/d", DIRECTORY, "").owned(5, NOBODY)]),
        form("", [directory("u8"), entry("u8/f", FILE, "x").owned(NOBODY - 1, NOBODY - 1)]),
        form("", [directory("u9"), entry("u9/f", FILE, "x").with_text(UID, "000000FF").with(MTIME, u32::MAX)]),
    ]
}

/// The kernel unpacks all of these in one boot, as what is wrong with one entry does not concern the next.
#[test]
fn entries_of_every_form_are_unpacked_as_inspect_lists_them() {
    let forms = forms();
    for form in &forms {
        let problems = problems(&archive(&form.entries));
        let name = shown(&form.entries.last().unwrap().name);
        assert_eq!(problems.is_empty(), form.told.is_empty(), "{name}: {problems}");
        assert!(problems.contains(form.told), "{name}: {problems}");
    }
    let all: Vec<u8> = forms.iter().flat_map(|form| entries(&form.entries)).collect();
    let initrd = [base(), archive(&[]), all, archive(&[])].concat();
    let booted = boot(&initrd);
    assert_eq!(booted.complaint, None);
    let mut kernel = booted.names.unwrap_or_else(|| panic!("{}", booted.console));
    let ours = listed(&initrd);
    // What the kernel brings itself.
    for own in ["dev", "dev/console", "root"] {
        if !ours.contains_key(own) {
            kernel.remove(own).unwrap();
        }
    }
    let only = |these: &BTreeMap<String, String>, those: &BTreeMap<String, String>| -> Vec<String> {
        these.iter().filter(|(path, line)| those.get(*path) != Some(line)).map(|(_, line)| line.clone()).collect()
    };
    assert_eq!(only(&kernel, &ours), [""; 0], "only unpacked, or otherwise listed: {:?}", only(&ours, &kernel));
    assert_eq!(only(&ours, &kernel), [""; 0]);
}

/// A program's output for that input.
fn piped(program: &str, input: &[u8]) -> Vec<u8> {
    let mut words = program.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let mut child = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// Whether the kernel takes a segment.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Verdict {
    Sound,
    Problem,
    /// A problem for kernels that are older, or configured in another way than the one that is booted.
    OtherKernels,
}

use Verdict::{OtherKernels, Problem, Sound};

/// A segment that comes after the base, or before it.
struct Segment {
    name: &'static str,
    verdict: Verdict,
    initrd: Vec<u8>,
}

/// What the segment brings, and what comes after it.
fn content() -> Vec<u8> {
    archive(&[entry("form", FILE, "x".repeat(300))])
}

fn last() -> Vec<u8> {
    archive(&[entry("after", FILE, "y")])
}

fn after_base(name: &'static str, verdict: Verdict, segment: Vec<u8>) -> Segment {
    // Between two in lz4, zeros end the first.
    Segment { name, verdict, initrd: [base(), padded([segment, vec![0; 4]].concat()), last()].concat() }
}

fn before_base(name: &'static str, verdict: Verdict, segment: Vec<u8>) -> Segment {
    let form = entry("form", FILE, "").bytes();
    let trailer = archive(&[]);
    Segment { name, verdict, initrd: [padded([segment, vec![0; 8]].concat()), base(), form, trailer, last()].concat() }
}

/// A few that stand for all, for every run of the tests.
fn few_segments() -> Vec<Segment> {
    vec![
        before_base("the magic number of lz4 alone, at the start", Problem, vec![0x02, 0x21, 0x4c, 0x18]),
        after_base("xz with delta", Problem, piped("xz -c --check=crc32 --delta --lzma2", &content())),
        after_base("xz with x86", Sound, piped("xz -c --check=crc32 --x86 --lzma2", &content())),
    ]
}

fn compressed_segments() -> Vec<Segment> {
    let xz = |options: &str| piped(&format!("xz -c {options}"), &content());
    vec![
        after_base("zstd", Sound, piped("zstd -c -q", &content())),
        after_base("zstd with a window of 128 MiB", Sound, piped("zstd -c -q --long=27", &content())),
        after_base("bzip2", Sound, piped("bzip2 -c", &content())),
        after_base("lzma", Sound, piped("xz -c --format=lzma", &content())),
        after_base("lz4", Sound, piped("lz4 -l -c -q", &content())),
        after_base("gzip", Sound, piped("gzip -c", &content())),
        after_base("xz without a check", Sound, xz("--check=none")),
        after_base("xz with CRC64", Problem, xz("--check=crc64")),
        after_base("xz with SHA-256", Problem, xz("--check=sha256")),
        after_base("xz with sparc", Problem, xz("--check=crc32 --sparc --lzma2")),
        after_base("xz with arm64", OtherKernels, xz("--check=crc32 --arm64 --lzma2")),
        after_base("xz with ia64", Problem, xz("--check=crc32 --ia64 --lzma2")),
        after_base("xz with a start offset", Problem, xz("--check=crc32 --x86=start=16 --lzma2")),
        after_base("xz with two filters", Problem, xz("--check=crc32 --x86 --arm --lzma2")),
        after_base("xz with delta in the second block only", Problem, {
            let first = piped("xz -c --check=crc32 --lzma2", &content()[..200]);
            let second = piped("xz -c --check=crc32 --delta --lzma2", &content()[200..]);
            joined_blocks(&first, &second)
        }),
        after_base("gzip with a name", Sound, gzip_with(0x08, b"name\0")),
        after_base("gzip that says it is text", Sound, gzip_with(0x01, b"")),
        after_base("gzip with a comment", Problem, gzip_with(0x10, b"comment\0")),
        after_base("gzip with an extra field", Problem, gzip_with(0x04, b"\x04\0abcd")),
    ]
}

fn joined_segments() -> Vec<Segment> {
    let empty = |program: &str| piped(program, b"");
    let whole = [content(), last()].concat();
    let zeros = piped("gzip -c", &[&[0; 512][..], &content()].concat());
    let lz4 = |bytes: &[u8]| piped("lz4 -l -c -q", bytes);
    let joined = |name, verdict, segment: Vec<u8>| Segment { name, verdict, initrd: [base(), segment].concat() };
    vec![
        before_base("an empty gzip at the start", Problem, empty("gzip -c")),
        before_base("an empty zstd at the start", Problem, empty("zstd -c -q")),
        before_base("zeros in gzip at the start", Problem, zeros.clone()),
        after_base("zeros in gzip later", Sound, zeros),
        after_base("an empty gzip later", Sound, [padded([empty("gzip -c"), vec![0; 4]].concat()), content()].concat()),
        joined("two in lz4 next to each other", Sound, [lz4(&content()), lz4(&last())].concat()),
        joined("two in zstd that split an entry", Problem, {
            [piped("zstd -c -q", &whole[..200]), piped("zstd -c -q", &whole[200..])].concat()
        }),
        joined("gzip next to gzip at an odd place", Sound, {
            [piped("gzip -c", &content()), vec![0], piped("gzip -c", &last())].concat()
        }),
        joined("gzip at an odd place after a plain archive", Problem, {
            [content(), vec![0], piped("gzip -c", &last())].concat()
        }),
        joined("a skippable frame of zstd", Problem, {
            [content(), vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0], b"abcd".to_vec(), last()].concat()
        }),
    ]
}

fn plain_segments() -> Vec<Segment> {
    let form = |data: &str| entry("form", FILE, data);
    vec![
        after_base("a good checksum", Sound, archive(&[form("ab").summed(97 + 98)])),
        after_base("a bad checksum", Problem, archive(&[form("ab").summed(7)])),
        after_base("a checksum of nothing", Problem, archive(&[form("").summed(7)])),
        after_base("a checksum of a symlink", Sound, archive(&[entry("form", SYMLINK, "ab").summed(7)])),
        after_base("a name without its NUL", Problem, archive(&[form("x").named(b"formx")])),
        after_base("data of the trailer", Sound, entries(&[form("x"), entry("TRAILER!!!", FILE, "12345")])),
        after_base("the old format", Problem, [content(), b"070707".to_vec(), vec![b'0'; 104]].concat()),
        after_base("text", Problem, [content(), b"hello wo".to_vec()].concat()),
    ]
}

/// A stream in xz with the blocks of two, each of which has one.
fn joined_blocks(first: &[u8], second: &[u8]) -> Vec<u8> {
    const HEADER_BYTES: usize = 12;
    const FOOTER_BYTES: usize = 12;
    let index_bytes = |stream: &[u8]| {
        let place = stream.len() - FOOTER_BYTES + 4;
        (u32::from_le_bytes(stream[place..place + 4].try_into().unwrap()) as usize + 1) * 4
    };
    let parts = |stream: &[u8]| {
        let index = stream.len() - FOOTER_BYTES - index_bytes(stream);
        // Indicator, number of records, the record, padding, checksum.
        let record = stream[index + 2..stream.len() - FOOTER_BYTES - 4].to_vec();
        let integers = record.iter().scan(0, |ends, byte| {
            let is_needed = *ends < 2;
            *ends += usize::from(byte & 0x80 == 0);
            is_needed.then_some(*byte)
        });
        (stream[HEADER_BYTES..index].to_vec(), integers.collect::<Vec<u8>>())
    };
    let ((first_block, first_record), (second_block, second_record)) = (parts(first), parts(second));
    let mut index = padded([vec![0, 2], first_record, second_record].concat());
    index.extend(crc32(&index).to_le_bytes());
    let mut footer = (index.len() as u32 / 4 - 1).to_le_bytes().to_vec();
    footer.extend(&first[6..8]);
    let footer = [&crc32(&footer).to_le_bytes()[..], &footer, b"YZ"].concat();
    [first[..HEADER_BYTES].to_vec(), first_block, second_block, index, footer].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0xedb8_8320 })
    })
}

/// A member of gzip with flags, and what they announce behind its header.
fn gzip_with(flags: u8, field: &[u8]) -> Vec<u8> {
    let mut member = piped("gzip -c -n", &content());
    member[3] = flags;
    [&member[..10], field, &member[10..]].concat()
}

/// Boots each, as an error ends all unpacking.
fn boot_segments(segments: &[Segment]) {
    for Segment { name, verdict, initrd } in segments {
        let problems = problems(initrd);
        assert_eq!(problems.is_empty(), *verdict == Sound, "{name}: {problems}");
        let booted = boot(initrd);
        let has = |path: &str| booted.names.as_ref().is_some_and(|names| names.contains_key(path));
        let is_whole = booted.complaint.is_none() && has("form") && has("after");
        assert_eq!(is_whole, *verdict != Problem, "{name}: {:?}\n{}", booted.complaint, booted.console);
    }
}

#[test]
fn what_inspect_finds_in_segments_is_what_the_kernel_does_not_take() {
    boot_segments(&few_segments());
}

#[test]
#[ignore = "boots every form: some minutes"]
fn what_inspect_finds_in_compressed_segments_is_what_the_kernel_does_not_take() {
    boot_segments(&compressed_segments());
}

#[test]
#[ignore = "boots every form: some minutes"]
fn what_inspect_finds_where_segments_meet_is_what_the_kernel_does_not_take() {
    boot_segments(&joined_segments());
}

#[test]
#[ignore = "boots every form: some minutes"]
fn what_inspect_finds_in_plain_segments_is_what_the_kernel_does_not_take() {
    boot_segments(&plain_segments());
}
