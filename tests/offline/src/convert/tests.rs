//! What becomes of a small Debian package, and of one with a kernel.

use super::*;
use crate::kernel;

fn deb(control: &str, files: &[(&str, Content, u16)]) -> Deb {
    let files =
        files.iter().map(|(path, content, mode)| ((*path).to_owned(), File::of_root(content.clone(), *mode, 5)));
    Deb { control: Paragraph::parse(control).unwrap(), files: files.collect(), sonames: BTreeSet::new() }
}

fn text(text: &str) -> Content {
    Content::Regular(Arc::new(text.as_bytes().to_vec()))
}

fn link(target: &str) -> Content {
    Content::Symlink(target.to_owned())
}

const CONTROL: &str = "Package: tool\nVersion: 1:2-3\nArchitecture: amd64\nDescription: A tool\n text\n";

fn converted(files: &[(&str, Content, u16)], rule: &Rule) -> Vec<Package> {
    let mapping = Mapping::load_all().unwrap().remove(0);
    let mut known = Known::default();
    known.add("libc6", &Paragraph::default()).unwrap();
    known.add("tool", &Paragraph::default()).unwrap();
    Conversion { mapping: &mapping, known: &known }.packages("systemd", rule, &[deb(CONTROL, files)]).unwrap()
}

fn only(files: &[(&str, Content, u16)]) -> Package {
    converted(files, &Rule::default()).pop().unwrap()
}

#[test]
fn identity_comes_from_the_control_file() {
    let package = only(&[]);
    assert_eq!((package.evr.to_string().as_str(), package.arch.as_str()), ("1:2-3", "x86_64"));
    assert_eq!((package.summary.as_str(), package.source_rpm.as_str()), ("A tool", "tool-2-3.src.rpm"));
    for provided in ["systemd", "systemd(x86-64)", "deb(tool)"] {
        assert!(package.provides.contains(&Dependency::equal(provided, "1:2-3")), "{provided}");
    }
}

#[test]
fn a_source_of_another_name_and_version_is_kept() {
    let control = Paragraph::parse("Package: a\nVersion: 1\nSource: glibc (2.41-12)\n").unwrap();
    assert_eq!(source_rpm(&control).unwrap(), "glibc-2.41-12.src.rpm");
}

#[test]
fn files_are_moved_classified_or_left_out() {
    let package = only(&[
        ("/usr", Content::Directory, 0o755),
        ("/usr/sbin/tool", text("x"), 0o755),
        ("/usr/share/doc/tool/copyright", text("License: Expat\n"), 0o644),
        ("/usr/share/man/man1/tool.1.gz", text("x"), 0o644),
        ("/usr/share/locale/de/tool.mo", text("x"), 0o644),
        ("/usr/share/lintian/overrides/tool", text("x"), 0o644),
        ("/usr/lib/systemd/system/old.service", link("/dev/null"), 0o777),
    ]);
    let classes: Vec<(&str, &Class)> = package.files.iter().map(|(path, file)| (path.as_str(), &file.class)).collect();
    assert_eq!(
        classes,
        [
            ("/usr/bin/tool", &Class::Ordinary),
            ("/usr/share/licenses/systemd/copyright.tool", &Class::License),
            ("/usr/share/locale/de/tool.mo", &Class::Language("de".to_owned())),
            ("/usr/share/man/man1/tool.1.gz", &Class::Documentation),
        ]
    );
    assert_eq!(package.license, "MIT");
}

#[test]
fn what_is_setgid_for_the_group_shadow_becomes_setuid_root() {
    let mut sample = deb(CONTROL, &[("/usr/bin/chage", text("x"), 0o2755)]);
    "shadow".clone_into(&mut sample.files.get_mut("/usr/bin/chage").unwrap().group);
    let mapping = Mapping::load_all().unwrap().remove(0);
    let known = Known::default();
    let conversion = Conversion { mapping: &mapping, known: &known };
    let package = conversion.packages("tool", &Rule::default(), &[sample]).unwrap().pop().unwrap();
    let chage = &package.files["/usr/bin/chage"];
    assert_eq!((chage.mode, chage.group.as_str()), (0o4755, "root"));
}

#[test]
fn a_rule_adds_links_accounts_capabilities_and_dependencies() {
    let rule = Rule {
        provides: vec!["/bin/sh".to_owned(), "shell".to_owned()],
        requires: vec!["filesystem".to_owned()],
        links: BTreeMap::from([("/usr/bin/sh".to_owned(), "tool".to_owned())]),
        capabilities: BTreeMap::from([("/usr/bin/tool".to_owned(), "cap_net_raw=ep".to_owned())]),
        accounts: vec!["u tool -".to_owned()],
        ..Rule::default()
    };
    let package = converted(&[("/usr/bin/tool", text("x"), 0o755)], &rule).pop().unwrap();
    assert!(matches!(&package.files["/usr/bin/sh"].content, Content::Symlink(target) if target == "tool"));
    assert_eq!(package.files["/usr/bin/tool"].capabilities.as_deref(), Some("cap_net_raw=ep"));
    assert!(package.files.contains_key("/usr/lib/sysusers.d/systemd.conf"));
    assert!(package.provides.contains(&Dependency::any("/bin/sh")));
    assert!(package.provides.contains(&Dependency::equal("shell", "1:2-3")));
    assert_eq!(package.requires, [Dependency::any("filesystem")]);
}

#[test]
fn a_capability_for_an_absent_file_is_an_error() {
    let mapping = Mapping::load_all().unwrap().remove(0);
    let known = Known::default();
    let capabilities = BTreeMap::from([("/usr/bin/gone".to_owned(), "cap_net_raw=ep".to_owned())]);
    let rule = Rule { capabilities, ..Rule::default() };
    let conversion = Conversion { mapping: &mapping, known: &known };
    let error = conversion.packages("tool", &rule, &[deb(CONTROL, &[])]).unwrap_err();
    assert_eq!(error.to_string(), "finding /usr/bin/gone in tool");
}

#[test]
fn a_split_package_requires_the_one_that_it_comes_from() {
    let files = [("/usr/bin/networkctl", text("x"), 0o755), ("/usr/bin/systemctl", text("x"), 0o755)];
    let packages = converted(&files, &Rule::default());
    let paths = |package: &Package| package.files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(),
        ["systemd-networkd", "systemd"]
    );
    assert_eq!((paths(&packages[0]), paths(&packages[1])), (vec![files[0].0.to_owned()], vec![files[1].0.to_owned()]));
    assert_eq!(packages[0].requires, [Dependency::equal("systemd", "1:2-3")]);
}

#[test]
fn a_kernel_is_divided_and_laid_out_as_fedoras() {
    let mapping = Mapping::load_all().unwrap().remove(0);
    let known = Known::default();
    let conversion = Conversion { mapping: &mapping, known: &known };
    let control = "Package: linux-image-6.1-amd64\nVersion: 6.1-1\nArchitecture: amd64\nDepends: kmod\n";
    let modules = "/usr/lib/modules/6.1-amd64/kernel";
    let files = [
        ("/boot/vmlinuz-6.1-amd64", text("x"), 0o644),
        ("/boot/config-6.1-amd64", text("x"), 0o644),
        ("/boot/System.map-6.1-amd64", text("x"), 0o644),
        ("/usr/share/bug/linux/x", text("x"), 0o644),
        (&format!("{modules}/fs"), Content::Directory, 0o755),
        (&format!("{modules}/fs/ext4"), Content::Directory, 0o755),
        (&format!("{modules}/fs/ext4/ext4.ko.xz"), text("x"), 0o644),
        (&format!("{modules}/sound"), Content::Directory, 0o755),
        (&format!("{modules}/sound/soundcore.ko.xz"), text("x"), 0o644),
    ];
    let kernel = mapping.kernels.iter().find(|kernel| kernel.split).unwrap();
    let packages = kernel::packages(&conversion, kernel, "6.1-amd64", &[deb(control, &files)]).unwrap();

    let [core, core_modules, modules] = packages.as_slice() else { panic!("three packages") };
    let paths = |package: &Package| -> Vec<String> {
        package.files.keys().map(|path| path.trim_start_matches("/usr/lib/modules/6.1-amd64/").to_owned()).collect()
    };
    assert_eq!(paths(core), ["System.map", "config", "vmlinuz"]);
    assert_eq!(core.files["/usr/lib/modules/6.1-amd64/vmlinuz"].mode, 0o755);
    // Each has the directories of its own modules.
    assert_eq!(paths(core_modules), ["kernel/fs", "kernel/fs/ext4", "kernel/fs/ext4/ext4.ko.xz"]);
    assert_eq!(paths(modules), ["kernel/sound", "kernel/sound/soundcore.ko.xz"]);
    assert!(core.provides.contains(&Dependency::equal("kernel-uname-r", "6.1-amd64")));
    assert!(core.requires.contains(&Dependency::any("dracut")));
    assert!(modules.requires.contains(&Dependency::equal("kernel-modules-core-uname-r", "6.1-amd64")));
}
