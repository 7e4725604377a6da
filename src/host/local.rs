//! The machine's own segment: what its initrd has to know of it, which may be secret.
//!
//! The lines of `/etc/crypttab`, `/etc/integritytab` and `/etc/veritytab` that have `x-initrd.attach`, with the keys and headers
//! that they name; the files that programs of the initrd read ([`crate::analysis::machine::own_files`]); keymaps and fonts; and what the
//! administrator names. Each is listed with the reason.

use std::collections::{BTreeMap, btree_map};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::configuration::Configuration;
use super::console::Console;
use super::files::{self, Follow};
use crate::analysis::machine::crypttab::{self, CRYPTTAB, Table};
use crate::analysis::machine::{KEYS, OwnFile};
use crate::analysis::needs::{Demand, Derived};
use crate::image::tree::{Content, Entry, Kind, Tree, TreePath, is_within, normalized, usr_merged};
use ocinitrd_format::digest::Digest;
use ocinitrd_support::links;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// More than a file has that is to lie in memory at every boot: 256 MiB.
const LONGEST_FILE_BYTES: u64 = 256 << 20;

/// What others may read of a file.
const READ_BY_OTHERS: u32 = 0o004;

/// Settings of LVM that count before those of lvm.conf. The machine's take the place of the base's, which have this one.
const LVM_LOCAL: &str = "/etc/lvm/lvmlocal.conf";
const NO_MONITORING: &str =
    "\n# Of the initrd: a daemon that watches volumes would end with it.\nactivation {\n\tmonitoring = 0\n}\n";

/// The machine's own files in an initrd.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// The tree, if anything is in it.
    pub(super) tree: Option<Tree>,
    /// Its files, by their paths.
    pub(super) files: Vec<LocalFile>,
}

/// A file of the machine in its initrd.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LocalFile {
    /// Where it is, on the machine and in the initrd.
    pub path: String,
    /// By what other names it is in the initrd too, where symlinks of the machine give it several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Why it is there: who reads it.
    pub reason: String,
    /// What it holds, unless that is secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Whether it is a key, or nobody but root and a group may read it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

impl LocalFile {
    /// Its names and the reason, as a line.
    pub(super) fn told(&self) -> String {
        let also: String = self.also.iter().map(|name| format!(", also {name}")).collect();
        format!("{}: {}{also}", self.path, self.reason)
    }

    /// Adds another name of the file. What is secret by one name is so by all.
    fn merge(&mut self, other: LocalFile) {
        self.also.push(other.path);
        self.secret |= other.secret;
        if self.secret {
            self.sha256 = None;
        }
    }
}

/// Why a file, or all below a directory, is there.
#[derive(Clone, Debug)]
struct Reason {
    text: String,
    is_secret: bool,
    /// Where that lies on the machine, below its root and without symlinks, if it is there as it is on the machine.
    origin: Option<PathBuf>,
}

impl Reason {
    fn open(text: impl Into<String>) -> Self {
        Reason { text: text.into(), is_secret: false, origin: None }
    }

    fn secret(text: impl Into<String>) -> Self {
        Reason { text: text.into(), is_secret: true, origin: None }
    }
}

/// Gathers the files, with every time set to `epoch` in seconds.
///
/// # Errors
/// Fails when a file that is named cannot be read.
pub(super) fn files(
    root: &Path,
    configuration: &Configuration,
    needs: &Derived,
    console: &Console,
    epoch: u64,
) -> Result<Local> {
    let mut gathered = Gathered { root, tree: Tree::new(), reasons: BTreeMap::new() };
    for file in &needs.own_files {
        gathered.add_own(file)?;
    }
    for (path, bytes) in &console.files {
        let reason = Reason::open("read by loadkeys or setfont, for the console");
        gathered.add_bytes(path.as_os_str().as_bytes(), bytes.clone(), 0o644, reason)?;
    }
    for table in crypttab::TABLES {
        gathered.add_table(table)?;
    }
    gathered.add_demanded(needs)?;
    for path in &configuration.files {
        let named = format!("{} is named in files of /etc/ocinitrd", path.display());
        gathered.add(path, Reason::open("named in files of /etc/ocinitrd")).context(named)?;
    }
    for path in configuration.optional_files.iter().filter(|path| links::exists(root, path)) {
        let named = format!("{} is named in optional_files of /etc/ocinitrd", path.display());
        gathered.add(path, Reason::open("named in optional_files of /etc/ocinitrd")).context(named)?;
    }
    gathered.finish(epoch)
}

struct Gathered<'a> {
    root: &'a Path,
    tree: Tree,
    reasons: BTreeMap<TreePath, Reason>,
}

impl Gathered<'_> {
    fn finish(mut self, epoch: u64) -> Result<Local> {
        if self.tree.is_empty() {
            return Ok(Local::default());
        }
        self.tree.add_missing_parents(epoch)?;
        self.tree.set_times(epoch);
        let files = self.listed()?;
        Ok(Local { tree: Some(self.tree), files })
    }

    /// The files, each once however many names it has.
    fn listed(&self) -> Result<Vec<LocalFile>> {
        let mut files: BTreeMap<PathBuf, LocalFile> = BTreeMap::new();
        for (path, entry) in self.tree.iter().filter(|(_, entry)| matches!(entry.kind, Kind::File(_))) {
            let above: Vec<_> = self.reasons.iter().filter(|(reason, _)| is_within(path, reason)).collect();
            // Of a file that two ask for, the nearest says why.
            let nearest = above.iter().max_by_key(|(reason, _)| reason.len());
            let (asked, reason) = nearest.context("each file has a reason")?;
            let secret = above.iter().any(|(_, reason)| reason.is_secret) || entry.permissions & READ_BY_OTHERS == 0;
            let bytes = || self.tree.content(path).context("a file has content")?.read_all().context("it is in memory");
            let sha256 = if secret { None } else { Some(Digest::of(&bytes()?)) };
            let shown = format!("/{}", String::from_utf8_lossy(path));
            let file = LocalFile { path: shown, also: Vec::new(), reason: reason.text.clone(), sha256, secret };
            let rest = path[asked.len()..].strip_prefix(b"/").unwrap_or_default();
            let origin = match &reason.origin {
                Some(origin) if rest.is_empty() => origin.clone(),
                Some(origin) => origin.join(OsStr::from_bytes(rest)),
                None => PathBuf::from(OsStr::from_bytes(path)),
            };
            match files.entry(origin) {
                btree_map::Entry::Vacant(place) => _ = place.insert(file),
                btree_map::Entry::Occupied(place) => place.into_mut().merge(file),
            }
        }
        let mut files: Vec<LocalFile> = files.into_values().collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(files)
    }

    fn add_own(&mut self, file: &OwnFile) -> Result<()> {
        let path = Path::new(&file.path);
        let text = format!("read by {}", file.reader.program());
        let reason = if file.reader.has_secrets() { Reason::secret(text) } else { Reason::open(text) };
        if links::is_nothing(self.root, path) {
            // An empty file hides one of its name just as well.
            return self.add_bytes(&self.name(path)?, Vec::new(), 0o644, reason);
        }
        if file.path == LVM_LOCAL {
            let text = self.text(path)? + NO_MONITORING;
            return self.add_bytes(&self.name(path)?, text.into_bytes(), 0o644, reason);
        }
        self.add(path, reason)
    }

    fn add_bytes(&mut self, path: &[u8], bytes: Vec<u8>, mode: u32, reason: Reason) -> Result<()> {
        self.tree.add_file(path, Content::from_bytes(bytes), mode, 0)?;
        self.give_reason(path, reason);
        Ok(())
    }

    /// Notes why something is there. What was secret to who asked before stays so.
    fn give_reason(&mut self, path: &[u8], mut reason: Reason) {
        reason.is_secret |= self.reasons.get(path).is_some_and(|earlier| earlier.is_secret);
        self.reasons.insert(path.to_vec(), reason);
    }

    fn text(&self, path: &Path) -> Result<String> {
        let file = files::place(self.root, path)?;
        regular_file::read_text(&file, TEXT_LIMIT_BYTES).with_context(|| format!("reading {}", file.display()))
    }

    /// What a path is called in the initrd, whichever way it is written. One with `..` is called as it leads, which symlinks
    /// decide.
    fn name(&self, path: &Path) -> Result<TreePath> {
        let path = if path.components().any(|part| part == Component::ParentDir) {
            files::place(self.root, path)?.strip_prefix(self.root).context("it lies below the root")?.to_owned()
        } else {
            path.to_owned()
        };
        Ok(usr_merged(&normalized(path.as_os_str().as_bytes())?))
    }

    /// The lines of a table that are for the initrd, and the files that they name.
    fn add_table(&mut self, table: &Table) -> Result<()> {
        let path = Path::new(table.path);
        if !links::exists(self.root, path) || links::is_nothing(self.root, path) {
            return Ok(());
        }
        let text = self.text(path)?;
        let lines = table.lines(&text).filter(|(line, _)| line.is_for_initrd());
        let mut kept = String::new();
        for (line, written) in lines {
            kept += &format!("{written}\n");
            let usual = format!("{KEYS}/{}.key", line.name);
            let has_usual = table.path == CRYPTTAB.path && line.key.is_none();
            let usual = Some(usual.as_str()).filter(|path| has_usual && links::exists(self.root, Path::new(path)));
            for file in line.files().chain(usual) {
                self.add_key(Path::new(file), &line.name).with_context(|| {
                    format!("the volume {} of {}, which the initrd opens, needs it", line.name, table.path)
                })?;
            }
        }
        if !kept.is_empty() {
            let reason = Reason::secret("read by systemd, which opens the volumes of its lines");
            self.add_bytes(&self.name(path)?, kept.into_bytes(), 0o600, reason)?;
        }
        Ok(())
    }

    /// Adds a key, a header or the like, which is never a directory.
    fn add_key(&mut self, path: &Path, volume: &str) -> Result<()> {
        let is_directory = files::place(self.root, path)?.is_dir();
        ensure!(!is_directory, "{} is no file, but a directory", path.display());
        self.add(path, Reason::secret(format!("a key, a header or the like of the volume {volume}")))
    }

    /// Keys of volumes below the root that a table or the kernel's options name. Of tables their own lines are there already.
    fn add_demanded(&mut self, needs: &Derived) -> Result<()> {
        let demanded = needs.wants.iter().filter_map(|wanted| match &wanted.demand {
            Demand::File(path) if crypttab::TABLES.iter().all(|table| table.path != path) => Some(Path::new(path)),
            _ => None,
        });
        for path in demanded.filter(|path| links::is_file(self.root, path)) {
            if self.tree.get(&self.name(path)?).is_none() {
                self.add(path, Reason::secret("a key, a header or the like of a volume"))?;
            }
        }
        Ok(())
    }

    /// Adds a file or a directory of the machine, and where it is a symlink what that leads to.
    fn add(&mut self, path: &Path, reason: Reason) -> Result<()> {
        let name = self.name(path)?;
        let origin = files::found(self.root, path)?;
        self.give_reason(&name, Reason { origin, ..reason });
        let file = files::place(self.root, path)?;
        let metadata = fs::metadata(&file).with_context(|| format!("reading {}", file.display()))?;
        self.add_parents(&name)?;
        if metadata.is_dir() {
            return files::add_directory_as(&mut self.tree, self.root, path, &name, Follow::Never);
        }
        ensure!(metadata.is_file(), "{} is neither a file nor a directory", file.display());
        // It is read now: what cannot be is told before anything is written.
        let bytes =
            regular_file::read(&file, LONGEST_FILE_BYTES).with_context(|| format!("reading {}", file.display()))?;
        self.tree.add_file(&name, Content::from_bytes(bytes), metadata.permissions().mode() & 0o7777, 0)?;
        Ok(())
    }

    /// The directories above it, as they are on the machine: in the initrd they take the place of the base's.
    fn add_parents(&mut self, name: &[u8]) -> Result<()> {
        let above = Path::new(OsStr::from_bytes(name)).ancestors().skip(1);
        for parent in above.filter(|parent| !parent.as_os_str().is_empty()) {
            let directory = files::place(self.root, parent)?;
            let mode = match fs::metadata(&directory) {
                // Where /lib is not part of /usr.
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0o755,
                found => found.with_context(|| format!("reading {}", directory.display()))?.permissions().mode(),
            };
            let path = parent.as_os_str().as_bytes().to_vec();
            if self.tree.get(&path).is_none() {
                self.tree.insert(path, Entry::of_root(Kind::Directory, mode & 0o7777, 0));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::{self, fixture::Fixture};

    /// The files of a machine whose needs are not known, as in an installer.
    fn of_machine(root: &Fixture) -> Local {
        let needs = Derived { own_files: machine::own_files(root.path()).unwrap(), ..Derived::default() };
        files(root.path(), &Configuration::default(), &needs, &Console::default(), 0).unwrap()
    }

    fn text(tree: &Tree, path: &str) -> String {
        String::from_utf8(tree.content(path.as_bytes()).unwrap().read_all().unwrap()).unwrap()
    }

    #[test]
    fn crypttab_has_what_the_initrd_opens_and_brings_its_keys() {
        let root = Fixture::new();
        root.write(
            "etc/crypttab",
            "# mine\nroot UUID=1 /etc/root.key luks,x-initrd.attach,header=/etc/root.header\nhome UUID=2 /etc/home.key\n\
             usb UUID=3 /key:LABEL=usb x-initrd.attach\nrnd UUID=4 /dev/urandom x-initrd.attach\n\
             data UUID=5 - x-initrd.attach\n",
        );
        root.write("etc/cryptsetup-keys.d/data.key", "found").write("etc/cryptsetup-keys.d/home.key", "not wanted");
        root.write("etc/root.key", "secret").write("etc/root.header", "header").write("etc/home.key", "other");
        root.write("etc/mdadm.conf", "ARRAY");
        let mut needs = Derived::default();
        needs.wants.add_for(Demand::File(crypttab::CRYPTTAB.path.to_owned()), None, "/");
        needs.own_files = machine::own_files(root.path()).unwrap();
        let local = files(root.path(), &Configuration::default(), &needs, &Console::default(), 5).unwrap();
        let tree = local.tree.unwrap();
        let crypttab = text(&tree, "etc/crypttab");
        assert!(crypttab.contains("root UUID=1") && crypttab.contains("usb UUID=3") && !crypttab.contains("home"));
        assert_eq!((text(&tree, "etc/root.key"), text(&tree, "etc/root.header")), ("secret".into(), "header".into()));
        assert_eq!(text(&tree, "etc/cryptsetup-keys.d/data.key"), "found");
        assert!(tree.get(b"etc/cryptsetup-keys.d/home.key").is_none());
        assert!(tree.get(b"etc/home.key").is_none() && tree.get(b"dev/urandom").is_none());
        assert_eq!(text(&tree, "etc/mdadm.conf"), "ARRAY");
        assert!(tree.iter().all(|(_, entry)| entry.mtime == 5));
    }

    #[test]
    fn a_key_that_is_not_there_is_named_with_its_volume() {
        let root = Fixture::new();
        root.write("etc/crypttab", "root UUID=1 /etc/root.key x-initrd.attach\n");
        let of_crypttab = || files(root.path(), &Configuration::default(), &Derived::default(), &Console::default(), 0);
        let error = format!("{:#}", of_crypttab().unwrap_err());
        assert!(error.contains("the volume root of /etc/crypttab") && error.contains("/etc/root.key"), "{error}");
        root.directory("etc/root.key");
        let error = of_crypttab().unwrap_err();
        assert!(format!("{error:#}").contains("/etc/root.key is no file, but a directory"), "{error:#}");
    }

    #[test]
    fn what_is_named_keeps_its_place_and_the_modes_above_it() {
        let root = Fixture::new();
        root.write("usr/lib/firmware/x.bin", "x").write("root/.netrc", "y");
        std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        fs::set_permissions(root.path().join("root"), fs::Permissions::from_mode(0o700)).unwrap();
        let named = vec!["/lib/firmware/x.bin".into(), "/root/.netrc".into()];
        let configuration = Configuration { files: named, ..Configuration::default() };
        let local = files(root.path(), &configuration, &Derived::default(), &Console::default(), 0).unwrap();
        let tree = local.tree.unwrap();
        assert!(tree.get(b"lib").is_none(), "it would hide the symlink");
        assert_eq!(text(&tree, "usr/lib/firmware/x.bin"), "x");
        assert_eq!(tree.get(b"root").unwrap().permissions, 0o700);
    }

    /// The files that the configuration names, where the machine also has keys.
    fn named(root: &Fixture, paths: &[&str]) -> Local {
        let configuration =
            Configuration { files: paths.iter().map(PathBuf::from).collect(), ..Configuration::default() };
        files(root.path(), &configuration, &Derived::default(), &Console::default(), 0).unwrap()
    }

    #[test]
    fn absolute_symlinks_begin_at_the_machine_s_root() {
        let root = Fixture::new();
        // The running system has a file of the same path.
        root.write("srv/hosts", "mine").link("etc/hosts", "/srv/hosts").link("etc/mine", "/srv/mine");
        root.write("srv/mine/a", "a").link("etc/crypttab", "/srv/crypttab");
        root.write("srv/crypttab", "root UUID=1 /etc/keys/root x-initrd.attach\n");
        root.write("srv/keys/root", "key").link("etc/keys", "/srv/keys");
        let tree = named(&root, &["/etc/hosts", "/etc/mine"]).tree.unwrap();
        assert_eq!((text(&tree, "etc/hosts"), text(&tree, "etc/mine/a")), ("mine".into(), "a".into()));
        assert_eq!(text(&tree, "etc/keys/root"), "key");
        root.link("etc/outside", "/etc/passwd");
        let configuration = Configuration { files: vec!["/etc/outside".into()], ..Configuration::default() };
        let error = files(root.path(), &configuration, &Derived::default(), &Console::default(), 0).unwrap_err();
        assert!(format!("{error:#}").contains("/etc/outside is named in files"), "{error:#}");
    }

    #[test]
    fn a_file_is_listed_once_by_all_its_names_and_stays_a_secret_by_each() {
        let root = Fixture::new();
        root.write("srv/a", "a").write("srv/d/b", "b").link("etc/d", "/srv/d").link("etc/a", "../srv/a");
        root.directory("srv/e");
        let paths = ["/srv/a", "/srv//a", "/srv/./a", "/srv/e/../a", "/etc/a", "/etc/d", "/srv/d/b"];
        let files = named(&root, &paths).files;
        let listed: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.also.join(" "))).collect();
        assert_eq!(listed, [("/etc/a", "/srv/a".to_owned()), ("/etc/d/b", "/srv/d/b".to_owned())]);
        assert_eq!(files[0].told(), "/etc/a: named in files of /etc/ocinitrd, also /srv/a");
        root.write("etc/crypttab", "root UUID=1 /srv/a x-initrd.attach\n");
        for paths in [&["/srv/a"][..], &["/etc/a"], &["/srv"]] {
            let files = named(&root, paths).files;
            let key =
                files.iter().find(|file| file.path == "/srv/a" || file.also.contains(&"/srv/a".to_owned())).unwrap();
            assert!(key.secret && key.sha256.is_none(), "{paths:?} {key:?}");
        }
    }

    #[test]
    fn an_optional_file_goes_in_if_it_is_there() {
        let root = Fixture::new();
        root.write("etc/there", "x").link("etc/dangling", "gone");
        let optional_files = ["/etc/there", "/etc/gone", "/etc/dangling"].map(PathBuf::from).into();
        let configuration = Configuration { optional_files, ..Configuration::default() };
        let local = files(root.path(), &configuration, &Derived::default(), &Console::default(), 0).unwrap();
        let paths: Vec<&str> = local.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["/etc/there"]);
        let configuration = Configuration { files: vec!["/etc/gone".into()], ..Configuration::default() };
        let error = files(root.path(), &configuration, &Derived::default(), &Console::default(), 0).unwrap_err();
        assert!(format!("{error:#}").contains("/etc/gone is named in files of /etc/ocinitrd"), "{error:#}");
    }

    #[test]
    fn a_machine_that_says_nothing_has_no_such_segment() {
        let local =
            files(Fixture::new().path(), &Configuration::default(), &Derived::default(), &Console::default(), 0)
                .unwrap();
        assert!(local.tree.is_none() && local.files.is_empty());
    }

    #[test]
    fn volumes_with_checksums_and_verified_ones_have_their_tables_too() {
        let root = Fixture::new();
        root.write("etc/integritytab", "root PARTLABEL=root /etc/i.key x-initrd.attach\nhome /dev/sdb\n");
        root.write("etc/veritytab", "usr /dev/sda1 /dev/sda2 4f3a root-hash-signature=/etc/usr.p7s,x-initrd.attach\n");
        root.write("etc/i.key", "secret").write("etc/usr.p7s", "signature");
        root.write("etc/cryptsetup-keys.d/usr.key", "not of this table");
        let tree = of_machine(&root).tree.unwrap();
        assert_eq!(text(&tree, "etc/integritytab"), "root PARTLABEL=root /etc/i.key x-initrd.attach\n");
        assert!(text(&tree, "etc/veritytab").starts_with("usr "));
        assert_eq!((text(&tree, "etc/i.key"), text(&tree, "etc/usr.p7s")), ("secret".into(), "signature".into()));
        assert!(tree.get(b"etc/cryptsetup-keys.d/usr.key").is_none());
    }

    #[test]
    fn files_are_listed_with_who_reads_them_and_secrets_by_name_only() {
        let root = Fixture::new();
        root.write("proc/cmdline", "root=/dev/md0\n").write("etc/hostname", "myhost\n");
        root.write("etc/nvme/config.json", "{}");
        root.write("etc/crypttab", "root UUID=1 /etc/root.key x-initrd.attach\n").write("etc/root.key", "secret");
        root.write("etc/lvm/lvm.conf", "global {}").write("etc/iscsi/initiatorname.iscsi", "InitiatorName=a");
        fs::set_permissions(root.path().join("etc/iscsi/initiatorname.iscsi"), fs::Permissions::from_mode(0o640))
            .unwrap();
        let files = of_machine(&root).files;
        let facts: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.secret, file.sha256.is_some())).collect();
        let expected = [
            ("/etc/crypttab", true, false),
            ("/etc/hostname", false, true),
            ("/etc/iscsi/initiatorname.iscsi", true, false),
            ("/etc/lvm/lvm.conf", false, true),
            ("/etc/nvme/config.json", true, false),
            ("/etc/root.key", true, false),
        ];
        assert_eq!(facts, expected);
        assert_eq!((files[1].reason.as_str(), files[3].reason.as_str()), ("read by systemd", "read by LVM"));
        assert_eq!(files[1].sha256, Some(Digest::of(b"myhost\n")));
        assert!(files[5].reason.ends_with("of the volume root"));
    }

    #[test]
    fn settings_of_lvm_stay_without_its_daemon_and_rules_may_be_hidden() {
        let root = Fixture::new();
        root.write("etc/lvm/lvmlocal.conf", "local {\n\tsystem_id = \"mine\"\n}\n");
        root.link("etc/udev/rules.d/80-net-setup-link.rules", "/dev/null");
        let tree = of_machine(&root).tree.unwrap();
        let local = text(&tree, "etc/lvm/lvmlocal.conf");
        assert!(local.starts_with("local {") && local.ends_with("activation {\n\tmonitoring = 0\n}\n"), "{local}");
        assert_eq!(text(&tree, "etc/udev/rules.d/80-net-setup-link.rules"), "");
    }
}
