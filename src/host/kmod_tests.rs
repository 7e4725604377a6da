//! What goes in of a machine's modules, compared with what kmod's own programs say on the machine and in the initrd.
//!
//! Both are directories with kmod and its libraries in them, which it runs in as its root: so it reads the places that it reads on
//! a machine, and follows absolute symlinks as it does there.

#![expect(clippy::disallowed_methods, reason = "tests spawn programs as they like")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tempfile::TempDir;

use super::kernel::{MachineKernel, SelectedKernel};
use super::record::Record;
use crate::image::modules::fixture::{Symbols, module};
use crate::image::modules::{FirmwarePatterns, Patterns};
use crate::image::tree::{Kind, Tree};
use ocinitrd_format::digest::Digest;

const KERNEL: &str = "6.1-test";
const PROGRAMS: [&str; 3] = ["depmod", "modprobe", "modinfo"];

/// kmod and the libraries that it needs, by the paths that they have on a machine with merged `/usr`.
fn kmod_files() -> &'static [(PathBuf, PathBuf)] {
    static FILES: OnceLock<Vec<(PathBuf, PathBuf)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let program = ["/usr/sbin/depmod", "/usr/bin/kmod"].iter().find_map(|path| fs::canonicalize(path).ok());
        let program = program.expect("kmod is installed");
        let listed = Command::new("ldd").arg(&program).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let libraries = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
        let mut files = vec![(program, PathBuf::from("usr/bin/kmod"))];
        files.extend(libraries.map(|path| {
            let inside = path.strip_prefix("/").unwrap();
            let place = if inside.starts_with("usr") { inside.to_owned() } else { Path::new("usr").join(inside) };
            (path.clone(), place)
        }));
        files
    })
}

/// A directory that kmod can run in as its root.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Root(tempfile::tempdir().unwrap());
        for directory in ["lib", "lib64", "bin", "sbin"] {
            fs::create_dir_all(root.path(&format!("usr/{directory}"))).unwrap();
            symlink(format!("usr/{directory}"), root.path(directory)).unwrap();
        }
        for (from, place) in kmod_files() {
            let place = root.0.path().join(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(from, place).unwrap();
        }
        PROGRAMS.iter().for_each(|name| symlink("../bin/kmod", root.path(&format!("usr/sbin/{name}"))).unwrap());
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    fn module(&self, path: &str, fields: &[&str], symbols: &Symbols) -> &Self {
        self.write(&in_kernel(path), module(path, fields, symbols))
    }

    /// Runs one of kmod's programs with this directory as its root.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--root"]).arg(self.0.path()).arg(format!("/usr/sbin/{program}"));
        command.args(arguments).env_clear().output().unwrap()
    }

    /// What a program prints, and whether it succeeds.
    fn says(&self, program: &str, arguments: &[&str]) -> (String, bool) {
        let output = self.run(program, arguments);
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }

    /// What depmod, modinfo and modprobe say of a name.
    fn answers(&self, name: &str) -> [(String, bool); 3] {
        let of = |program, option| self.says(program, &["-S", KERNEL, option, name]);
        let file = self.says("modinfo", &["-k", KERNEL, "-n", name]);
        [file, of("modprobe", "--show-depends"), of("modprobe", "--resolve-alias")]
    }

    fn depmod(&self) {
        let output = self.run("depmod", &[KERNEL]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Selects modules for an initrd.
    fn select(&self, patterns: &[&str]) -> (SelectedKernel, Record) {
        let builtin = self.path(&in_kernel("modules.builtin"));
        if !builtin.exists() {
            fs::write(builtin, "").unwrap();
        }
        let patterns: Vec<String> = patterns.iter().map(|name| (*name).to_owned()).collect();
        let patterns = Patterns::parse(&patterns).unwrap();
        let mut record = Record::new(KERNEL, "base", Digest::of(b""));
        let kernel = MachineKernel::open(self.0.path(), KERNEL).unwrap();
        let firmware = FirmwarePatterns::parse(&[]).unwrap();
        let selected = kernel.select(&patterns, &firmware, &["needed"], None, 0, &mut record).unwrap();
        (selected, record)
    }
}

/// An initrd of what was selected.
fn initrd(selected: &SelectedKernel) -> Root {
    let root = Root::new();
    let mut settings = Tree::new();
    selected.configured.add_to(&mut settings, 0).unwrap();
    for (path, entry) in selected.tree.iter().chain(settings.iter()) {
        let path = std::str::from_utf8(path).unwrap();
        match &entry.kind {
            Kind::Directory => fs::create_dir_all(root.path(path)).unwrap(),
            Kind::File(content) => _ = root.write(path, content.read_all().unwrap()),
            Kind::Symlink { target } => _ = root.link(path, std::str::from_utf8(target).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    root
}

fn in_kernel(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("usr/lib/modules/{KERNEL}/{path}") }
}

/// Whether kmod says the same of these names on the machine and in the initrd.
fn assert_same(machine: &Root, initrd: &Root, names: &[&str]) {
    for name in names {
        assert_eq!(machine.answers(name), initrd.answers(name), "{name}");
    }
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.iter().map(|(path, _)| String::from_utf8(path.clone()).unwrap()).collect()
}

#[test]
fn each_command_of_depmod_d_leads_to_the_module_that_the_machine_loads() {
    let none = Symbols::default();
    let cases: [(&str, &str); 8] = [
        ("", "updates/m.ko.zst"),
        ("search extra updates built-in\n", "extra/m.ko.xz"),
        ("search built-in updates extra weak-updates\n", "kernel/m.ko"),
        ("search weak-updates built-in updates extra\n", "weak-updates/m.ko"),
        ("search external updates\nexternal 6.1-.* /opt/modules\n", "/opt/modules/deep/m.ko.xz"),
        ("search external updates\nexternal 6.2 /opt/modules\n", "updates/m.ko.zst"),
        ("override m * extra\n", "extra/m.ko.xz"),
        ("search updates kernel\nexclude updates\n", "kernel/m.ko"),
    ];
    for (text, expected) in cases {
        let machine = Root::new();
        machine.module("kernel/m.ko", &[], &none).module(
            "kernel/user.ko",
            &["depends=m"],
            &Symbols { needed: vec!["of_m".to_owned()], ..Symbols::default() },
        );
        let exporting = Symbols { exported: vec!["of_m".to_owned()], ..Symbols::default() };
        for path in
            ["updates/m.ko.zst", "extra/m.ko.xz", "/usr/lib/modules/other/extra/m.ko", "/opt/modules/deep/m.ko.xz"]
        {
            machine.module(path, &[], &exporting);
        }
        machine.module("kernel/m.ko", &[], &exporting);
        machine.link(&in_kernel("weak-updates/m.ko"), "/lib/modules/other/extra/m.ko");
        machine.write("etc/depmod.d/a.conf", text).depmod();
        // Without what depmod wrote: nothing here is a tie.
        let written = fs::read_to_string(machine.path(&in_kernel("modules.dep"))).unwrap();
        fs::remove_file(machine.path(&in_kernel("modules.dep"))).unwrap();
        let (selected, record) = machine.select(&["user"]);
        machine.write(&in_kernel("modules.dep"), written);
        let path = |path: &str| if path.starts_with('/') { path.to_owned() } else { format!("/{}", in_kernel(path)) };
        assert_eq!(record.modules["m"].path, path(expected), "{text}");
        assert!(!record.modules["m"].in_place_of.is_empty(), "{text}");
        let initrd = initrd(&selected);
        assert_same(&machine, &initrd, &["m", "user"]);
        let shown = initrd.says("modprobe", &["-S", KERNEL, "--show-depends", "user"]).0;
        assert!(shown.contains(expected) && shown.contains("kernel/user.ko"), "{text}: {shown}");
        let modules = paths(&selected.tree).into_iter().filter(|path| path.contains(".ko"));
        assert_eq!(modules.count(), 2, "{text}");
    }
}

#[test]
fn external_directories_count_however_they_are_written() {
    for (written, real) in [
        ("/opt//modules/", "/opt/modules"),
        ("/opt/./x/../modules", "/opt/modules"),
        ("/../opt/modules", "/opt/modules"),
        // The way back is that of the symlink, whatever the path looks like.
        ("/linked/../modules", "/srv/modules"),
    ] {
        let machine = Root::new();
        machine.module("kernel/m.ko", &[], &Symbols::default());
        machine.module(&format!("{real}/m.ko.xz"), &[], &Symbols::default());
        fs::create_dir_all(machine.path("opt/x")).unwrap();
        fs::create_dir_all(machine.path("srv/deep")).unwrap();
        machine.link("linked", "/srv/deep");
        machine.write("etc/depmod.d/a.conf", format!("search external\nexternal * {written}\n")).depmod();
        let loaded = machine.says("modprobe", &["-S", KERNEL, "--show-depends", "m"]).0;
        assert!(loaded.contains("/modules/m.ko.xz") || loaded.contains("/modules//m.ko.xz"), "{written}: {loaded}");
        let (selected, _) = machine.select(&["m"]);
        let initrd = initrd(&selected);
        let (path, found) = initrd.says("modinfo", &["-k", KERNEL, "-n", "m"]);
        assert!(found && path.ends_with("/modules/m.ko.xz\n") && !path.contains(".."), "{written}: {path}");
        assert_eq!(
            fs::read(initrd.path(path.trim_end())).unwrap(),
            fs::read(machine.path(&format!("{real}/m.ko.xz"))).unwrap()
        );
        assert!(selected.warnings.is_empty(), "{:?}", selected.warnings);
    }
}

#[test]
fn an_external_directory_that_is_the_whole_machine_is_not_read() {
    let machine = Root::new();
    machine.module("kernel/m.ko", &[], &Symbols::default()).module("/home/m.ko", &[], &Symbols::default());
    machine.link("all", "/");
    machine.write(
        "etc/depmod.d/a.conf",
        "search external\nexternal * /\nexternal * /opt/..\nexternal * home\nexternal * /all\n",
    );
    let (selected, record) = machine.select(&["m"]);
    assert_eq!(record.modules["m"].path, format!("/{}", in_kernel("kernel/m.ko")));
    assert_eq!(selected.warnings.len(), 4, "{:?}", selected.warnings);
    assert!(paths(&selected.tree).iter().all(|path| !path.contains("home")), "{:?}", paths(&selected.tree));
}

#[test]
fn directories_of_modules_behind_absolute_links_count() {
    let machine = Root::new();
    machine.module("kernel/m.ko", &[], &Symbols::default()).module("/srv/updates/m.ko.xz", &[], &Symbols::default());
    machine.link(&in_kernel("updates"), "/srv/updates").depmod();
    let (selected, _) = machine.select(&["m"]);
    assert_same(&machine, &initrd(&selected), &["m"]);
    assert!(paths(&selected.tree).contains(&in_kernel("updates/m.ko.xz")), "{:?}", paths(&selected.tree));
}

#[test]
fn files_of_modprobe_d_count_by_their_places_and_masks() {
    let machine = Root::new();
    for name in ["a", "b", "c", "soft"] {
        machine.module(&format!("kernel/{name}.ko"), &[&format!("alias=dev:{name}*")], &Symbols::default());
    }
    machine
        .write("usr/lib/modprobe.d/1.conf", "options a x=vendor\n")
        .write("etc/modprobe.d/1.conf", "options a x=mine\n");
    machine.write("usr/lib/modprobe.d/2.conf", "options a y=no\n").link("etc/modprobe.d/2.conf", "/dev/null");
    machine
        .write("usr/local/lib/modprobe.d/3.conf", "options b z=local\n")
        .write("run/modprobe.d/4.conf", "blacklist b\n");
    machine.write("usr/lib/modprobe.d/4.conf", "options b no=1\n");
    machine.write("etc/modprobe.d/5.conf", "softdep c post: soft\nalias dev:other-* c\n");
    machine.write("etc/modprobe.d/6.conf", "options elsewhere x=1\nblacklist elsewhere\n").depmod();
    let (selected, record) = machine.select(&["a", "b", "c"]);
    let initrd = initrd(&selected);
    // In the initrd systemd mounts over /run.
    assert!(!initrd.path("run").exists() && !initrd.path("etc/modprobe.d/6.conf").exists());
    assert_same(&machine, &initrd, &["a", "b", "c", "soft", "dev:a1", "dev:b1", "dev:c1", "dev:other-x"]);
    let shown = initrd.says("modprobe", &["-S", KERNEL, "--show-depends", "a"]).0;
    assert!(shown.contains("x=mine") && !shown.contains("y=no"), "{shown}");
    assert!(
        !initrd.says("modprobe", &["-S", KERNEL, "--show-depends", "dev:b1"]).0.contains("b.ko"),
        "it is blacklisted"
    );
    assert_eq!(record.modules["b"].blacklisted.as_deref(), Some("/run/modprobe.d/4.conf:1"));
    assert_eq!(record.modules["soft"].brought_by.as_deref(), Some("/etc/modprobe.d/5.conf:1 for c"));
    let files: Vec<(&str, String)> =
        record.modprobe.iter().map(|file| (file.path.as_str(), file.modules.join(" "))).collect();
    let expected = [
        ("/etc/modprobe.d/1.conf", "a"),
        ("/etc/modprobe.d/2.conf", ""),
        ("/usr/local/lib/modprobe.d/3.conf", "b"),
        ("/etc/modprobe.d/4.conf", "b"),
        ("/etc/modprobe.d/5.conf", "c"),
    ];
    assert_eq!(files, expected.map(|(path, modules)| (path, modules.to_owned())));
}

#[test]
fn what_keeps_a_module_from_being_loaded_is_reported_with_its_line() {
    let machine = Root::new();
    for name in ["needed", "shell", "idle", "a", "b", "fine"] {
        machine.module(&format!("kernel/{name}.ko"), &[], &Symbols::default());
    }
    machine.write(
        "etc/modprobe.d/x.conf",
        "blacklist needed\ninstall shell /sbin/modprobe fine; /bin/true\ninstall idle /bin/false\n\
         softdep a pre: b\nsoftdep b post: a\nnonsense here\n",
    );
    machine.write("etc/depmod.d/x.conf", "nonsense\n").link("etc/modprobe.d/gone.conf", "/none").depmod();
    let (selected, _) = machine.select(&["*"]);
    let said = selected.warnings.join("\n");
    for text in [
        "/etc/modprobe.d/gone.conf is a symlink that leads nowhere",
        "/etc/depmod.d/x.conf:1: the line that begins with \"nonsense\" does not count, since depmod cannot read it",
        "/etc/modprobe.d/x.conf:6: the line that begins with \"nonsense\" does not count, since modprobe cannot read it",
        "the module needed, which the machine needs, is blacklisted by /etc/modprobe.d/x.conf:1",
        "the module shell may not be loaded in the initrd: /etc/modprobe.d/x.conf:2 has a shell run \"/sbin/modprobe fine; /bin/true\"",
        "the module idle is not loaded in the initrd: /etc/modprobe.d/x.conf:3 has modprobe run \"/bin/false\" in its place",
        "soft dependencies run in a circle, a -> b -> a, by /etc/modprobe.d/x.conf:4",
    ] {
        assert!(said.contains(text), "{text}\n---\n{said}");
    }
    assert_eq!(selected.warnings.len(), 7, "{said}");
    assert_same(&machine, &initrd(&selected), &["needed", "shell", "idle", "a", "b", "fine"]);
}

#[test]
fn modules_load_d_goes_in_as_far_as_it_names_what_is_there() {
    let machine = Root::new();
    for name in ["a-b", "c", "needed"] {
        machine.module(&format!("kernel/{name}.ko"), &[], &Symbols::default());
    }
    machine.write("etc/modules-load.d/1.conf", "# mine\na_b\n; no\nvfio\n").write("etc/modules", "c\n");
    machine.link("etc/modules-load.d/modules.conf", "../modules").write("usr/lib/modules-load.d/2.conf", "vfio\n");
    machine.write("run/modules-load.d/3.conf", "other\n").write("etc/modprobe.d/a.conf", "alias other needed\n");
    machine.link("etc/modules-load.d/4.conf", "/dev/null").write("usr/lib/modules-load.d/4.conf", "c\n");
    let kernel = machine.select(&["a-b", "c", "needed"]);
    let files: Vec<(String, Option<String>)> = kernel
        .0
        .configured
        .files
        .iter()
        .filter(|(path, _)| path.windows(4).any(|part| part == b"load"))
        .map(|(path, text)| {
            (String::from_utf8(path.clone()).unwrap(), text.clone().map(|text| String::from_utf8(text).unwrap()))
        })
        .collect();
    let expected = [("1", Some("a_b\n")), ("3", Some("other\n")), ("4", None), ("modules", Some("c\n"))];
    let expected = expected.map(|(name, text)| (format!("etc/modules-load.d/{name}.conf"), text.map(str::to_owned)));
    assert_eq!(files, expected);
    assert_eq!(kernel.1.modules_load[0].lines, ["/etc/modules-load.d/1.conf:2"]);
}

#[test]
fn firmware_comes_from_every_place_that_the_kernel_looks_at() {
    let machine = Root::new();
    machine.module("kernel/m.ko", &["firmware=a.bin", "firmware=b.bin", "firmware=gone.bin"], &Symbols::default());
    let updates = format!("usr/lib/firmware/updates/{KERNEL}/a.bin.xz");
    machine.write(&updates, "x").write("usr/lib/firmware/a.bin", "plain").write("opt/fw/b.bin.zst", "y");
    machine.write("srv/b.bin", "far").link("usr/lib/firmware/b.bin", "/srv/b.bin");
    machine.link("usr/lib/firmware/gone.bin", "/opt/none.bin").write("usr/lib/firmware/unused.bin", "no");
    machine.write("opt/fw/unused.bin", "no").write("etc/kernel/cmdline", "quiet firmware_class.path=/opt/fw\n");
    machine.write("proc/cmdline", "firmware_class.path=/none firmware_class.path=/\n");
    let (selected, record) = machine.select(&["m"]);
    let expected = ["/opt/fw/b.bin.zst", "/usr/lib/firmware/a.bin", "/usr/lib/firmware/b.bin", &format!("/{updates}")];
    assert_eq!(record.firmware, expected);
    let held = paths(&selected.tree).into_iter().filter(|path| path.contains(".bin") && !path.contains("/modules."));
    assert_eq!(held.map(|path| format!("/{path}")).collect::<Vec<_>>(), expected);
    let said = selected.warnings.join("\n");
    for text in [
        "the firmware /usr/lib/firmware/gone.bin is a symlink that leads nowhere, to \"/opt/none.bin\"; the module m may ask for it",
        "firmware_class.path=/none on the kernel's command line names no directory",
        "firmware_class.path=/ is the whole machine",
    ] {
        assert!(said.contains(text), "{text}\n---\n{said}");
    }
}

/// A module that is made up: its files, what it says, and what it needs of those before it.
#[derive(Clone, Debug)]
struct Made {
    places: Vec<&'static str>,
    soft: Option<(usize, usize)>,
    needs: Vec<bool>,
    ending: &'static str,
}

/// A machine that is made up.
#[derive(Clone, Debug)]
struct MadeMachine {
    modules: Vec<Made>,
    search: Vec<&'static str>,
    overrides: Vec<(usize, &'static str, &'static str)>,
    /// Place, name, lines.
    settings: Vec<(&'static str, &'static str, Vec<String>)>,
    wanted: Vec<usize>,
}

const COUNT: usize = 6;
const PLACES: [&str; 6] = ["kernel/a", "kernel/b", "updates", "extra", "weak-updates", "/opt/modules"];

/// The name of a module, as its file has it.
fn name(number: usize) -> String {
    format!("m{}{number}", ["-", "_"][number % 2])
}

fn made() -> impl Strategy<Value = Made> {
    let places = subsequence(PLACES.to_vec(), 1..4);
    let soft = prop::option::weighted(0.3, (0..COUNT, 0..COUNT));
    (places, soft, vec(prop::bool::weighted(0.3), COUNT), select(vec!["ko", "ko.xz", "ko.zst"]))
        .prop_map(|(places, soft, needs, ending)| Made { places, soft, needs, ending })
}

fn line() -> impl Strategy<Value = String> {
    (0..10_usize, 0..COUNT, 0..COUNT, 0..COUNT).prop_map(|(kind, one, two, three)| {
        let [one, two, three] = [one, two, three].map(name);
        match kind {
            0 => format!("options {one} x={two}"),
            1 => format!("blacklist {one}"),
            2 => format!("softdep {one} pre: {two} post: {three}"),
            3 => format!("softdep {one} \\\n post: called-{two}"),
            4 => format!("alias called-{two} {three}"),
            5 => format!("alias dev:{one}* {two}"),
            6 => format!("install {one} /bin/echo {two}"),
            7 => format!("options called_{two} y=1\n# options {one} z=1"),
            8 => format!("softdep {}* pre: {three}", &one[..2]),
            _ => format!("nonsense {one}"),
        }
    })
}

fn made_machine() -> impl Strategy<Value = MadeMachine> {
    let searches = ["updates", "extra", "built-in", "weak-updates", "kernel/a", "external"];
    let search = subsequence(searches.to_vec(), 0..7).prop_shuffle();
    let overrides = vec((0..COUNT, select(vec!["*", "^6\\.1-", "6.2"]), select(PLACES.to_vec())), 0..3);
    let places = vec!["etc", "run", "usr/local/lib", "usr/lib"];
    let file = (select(places), select(vec!["a", "modules", "n", "z"]), vec(line(), 0..5));
    (vec(made(), COUNT), search, overrides, vec(file, 0..6), subsequence((0..COUNT).collect::<Vec<_>>(), 1..4))
        .prop_map(|(modules, search, overrides, settings, wanted)| MadeMachine {
            modules,
            search,
            overrides,
            settings,
            wanted,
        })
}

impl MadeMachine {
    fn make(&self) -> Root {
        let root = Root::new();
        for (number, made) in self.modules.iter().enumerate() {
            self.make_module(&root, number, made);
        }
        let mut lines = vec!["external 6[.]1-.* /opt/modules".to_owned()];
        if !self.search.is_empty() {
            lines.push(format!("search {}", self.search.join(" ")));
        }
        for (number, version, directory) in &self.overrides {
            lines.push(format!("override {} {version} {directory}", name(*number)));
        }
        root.write("etc/depmod.d/made.conf", lines.join("\n"));
        fs::create_dir_all(root.path("opt/modules")).unwrap();
        for (place, name, lines) in &self.settings {
            let path = format!("{place}/modprobe.d/{name}.conf");
            if root.path(&path).is_symlink() || root.path(&path).exists() {
                continue;
            }
            match lines.is_empty() {
                true => root.link(&path, "/dev/null"),
                false => root.write(&path, lines.join("\n")),
            };
        }
        fs::create_dir_all(root.path("dev")).unwrap();
        // Where no device can be made, an empty file says as little.
        root.write("dev/null", "");
        root
    }

    fn make_module(&self, root: &Root, number: usize, made: &Made) {
        let needed = (0..number).filter(|other| made.needs[*other]);
        let depends: Vec<String> = needed.clone().map(|other| name(other).replace('-', "_")).collect();
        let mut fields = vec![format!("depends={}", depends.join(",")), format!("alias=dev:{}-*", name(number))];
        fields.extend(made.soft.map(|(one, two)| format!("softdep=pre: {} post: {}", name(one), name(two))));
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let symbols = Symbols {
            exported: vec![format!("of_{number}")],
            needed: needed.map(|other| format!("of_{other}")).collect(),
        };
        for place in &made.places {
            let file = format!("{}.{}", name(number), made.ending);
            if *place == "weak-updates" {
                root.module(&format!("/usr/lib/modules/5.0/extra/{file}"), &fields, &symbols);
                root.link(&in_kernel(&format!("{place}/{file}")), &format!("/lib/modules/5.0/extra/{file}"));
            } else {
                root.module(&format!("{place}/{file}"), &fields, &symbols);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the configuration says, kmod loads in the initrd what it loads on the machine. Modules that do not need each other
    /// may change places: of those that modules.order lacks depmod takes the order in which it happens to read directories.
    #[test]
    fn kmod_says_in_the_initrd_what_it_says_on_the_machine(made in made_machine()) {
        let machine = made.make();
        machine.depmod();
        let wanted: Vec<String> = made.wanted.iter().map(|number| name(*number)).collect();
        let (selected, record) = machine.select(&wanted.iter().map(String::as_str).collect::<Vec<_>>());
        let initrd = initrd(&selected);
        for name in record.modules.keys() {
            prop_assert_eq!(sorted_lines(&machine.answers(name)), sorted_lines(&initrd.answers(name)), "{}", name);
            let alias = format!("dev:{}-1", name.replace('_', "-"));
            let (ours, kmods) = (initrd.answers(&alias), machine.answers(&alias));
            prop_assert_eq!(sorted_lines(&kmods[1..]), sorted_lines(&ours[1..]), "{}", alias);
        }
    }
}

fn sorted_lines(answers: &[(String, bool)]) -> Vec<(Vec<String>, bool)> {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    answers.iter().map(|(text, succeeds)| (sorted(text), *succeeds)).collect()
}
