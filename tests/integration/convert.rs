//! `ocinitrd convert`: real archives against GNU tar and cpio, and every kind of bad layer: the message, the exit code,
//! and that nothing was lost or left behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use crate::fixture::{fail, is_root, names, ocinitrd, stderr, stdout, succeed};

/// A directory for the input, one for outputs with an earlier initrd in it, and one for temporary files.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        for name in ["out", "tmp"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        fs::write(place.path("out/initrd"), "the earlier one").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn convert(&self, input: impl AsRef<OsStr>) -> Command {
        let mut command = ocinitrd();
        command.arg("convert").arg(input).arg("-o").arg(self.path("out/initrd")).env("TMPDIR", self.path("tmp"));
        command
    }

    /// Converts an archive from a file and from standard input; both must be refused alike and leave all as it was.
    fn refusal(&self, archive: &[u8]) -> String {
        fs::write(self.path("layer"), archive).unwrap();
        let from_file = fail(&mut self.convert(self.path("layer")));
        self.assert_untouched();
        let from_pipe = fail(self.convert("-").stdin(File::open(self.path("layer")).unwrap()));
        self.assert_untouched();
        let reason = |text: &str| text.split_once(": ").map(|(_, reason)| reason.trim().to_owned()).unwrap();
        let (from_file, from_pipe) = (reason(&from_file), reason(&from_pipe));
        let (file_reason, pipe_reason) = (from_file.split_once(": ").unwrap().1, from_pipe.split_once(": ").unwrap().1);
        assert_eq!(file_reason, pipe_reason);
        assert!(from_file.starts_with(&format!("reading {}: ", self.path("layer").display())), "{from_file}");
        file_reason.to_owned()
    }

    fn assert_untouched(&self) {
        assert_eq!(names(&self.path("out")), ["initrd"]);
        assert_eq!(fs::read(self.path("out/initrd")).unwrap(), b"the earlier one");
        assert!(names(&self.path("tmp")).is_empty());
    }

    /// A tree with everything a file system has, as far as this user can make it.
    fn make_tree(&self) -> PathBuf {
        let root = self.path("root");
        let script = r#"
            mkdir -p usr/lib/deep etc run; ln -s usr/lib lib; mkfifo -m 622 run/fifo
            head -c 300000 /dev/urandom > usr/lib/random; printf x > etc/one; : > etc/empty
            ln etc/one etc/two; ln etc/one usr/lib/deep/three; ln -s /etc/one usr/lib/absolute
            printf 'setuid' > usr/lib/su; chmod 4755 usr/lib/su; chmod 1777 run
            printf bytes > "$(printf 'etc/caf\351')"
            long=$(printf 'n%.0s' $(seq 120)); mkdir "etc/$long"; printf long > "etc/$long/$long"; ln -s "$long/$long" etc/link
            if [ "$(id -u)" = 0 ]; then mknod etc/null c 1 3; mknod etc/loop b 7 1; chown 998:997 etc/one; chown 3000000:5 etc/empty; fi
            find . -exec touch -h -d @1700000000 {} +
        "#;
        fs::create_dir(&root).unwrap();
        succeed(Command::new("bash").args(["-euc", script]).current_dir(&root));
        root
    }
}

/// One line an entry with all that cpio keeps and restores (GNU cpio leaves symlinks' and directories' times), and the
/// contents' digests.
fn listing(root: &Path) -> String {
    let script = r"
        {
            find . -mindepth 1 -type d -printf '%P %y %m %U:%G\n' -o -type l -printf '%P %y %m %U:%G %l\n' \
                -o -printf '%P %y %m %U:%G %n %T@ %s\n'
            find . -type b -exec stat -c '%n %t:%T' {} + -o -type c -exec stat -c '%n %t:%T' {} +
            find . -type f -exec sha256sum {} +
            find . -samefile etc/one -printf 'one file: %P\n'
        } | LC_ALL=C sort";
    let output = Command::new("bash").args(["-euc", script]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A header with one name in it, checksummed, and the content after it.
fn member(typeflag: u8, name: &str, target: &str, size_bytes: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let old = header.as_old_mut();
    old.linkflag = [typeflag];
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size_bytes);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &str) -> Vec<u8> {
    member(b'0', name, "", content.len() as u64, content.as_bytes())
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut record = format!("{}{rest}", rest.len() + 1);
    while !record.starts_with(&format!("{} ", record.len())) {
        record = format!("{}{rest}", record.len());
    }
    member(b'x', "x", "", record.len() as u64, record.as_bytes())
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn gnu_cpio_unpacks_what_gnu_tar_packed() {
    let place = Place::new();
    let root = place.make_tree();
    let expected = listing(&root);
    for (number, format) in ["gnu", "posix"].iter().enumerate() {
        let tar = place.path("tree.tar");
        let mut pack = Command::new("tar");
        let xattrs: &[&str] = if *format == "posix" { &["--xattrs"] } else { &[] };
        pack.args(["--numeric-owner", "--format", format])
            .args(xattrs)
            .arg("-cf")
            .arg(&tar)
            .arg("-C")
            .arg(&root)
            .arg(".");
        succeed(&mut pack);
        succeed(place.convert(&tar).args(["--compress", "none"]));
        let unpacked = place.path(&format!("unpacked{number}"));
        fs::create_dir(&unpacked).unwrap();
        let cpio = File::open(place.path("out/initrd")).unwrap();
        succeed(Command::new("cpio").args(["-idm", "--quiet"]).stdin(cpio).current_dir(&unpacked));
        assert_eq!(listing(&unpacked), expected, "--format={format}");
    }
}

#[test]
fn the_bytes_depend_on_the_archive_alone() {
    let place = Place::new();
    let root = place.make_tree();
    let tar = place.path("tree.tar");
    succeed(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg("."));
    succeed(&mut place.convert(&tar));
    let first = fs::read(place.path("out/initrd")).unwrap();
    let mut again = place.convert("-");
    again.stdin(File::open(&tar).unwrap()).current_dir("/").env("TZ", "Asia/Tokyo").env("LC_ALL", "C");
    succeed(&mut again);
    assert!(fs::read(place.path("out/initrd")).unwrap() == first);
    // Other order, other compression of the archive, other directory: the same tree.
    let reordered = place.path("reordered.tar.gz");
    let script = "umask 077; cd \"$1\" && find . -print0 | LC_ALL=C sort -rz | tar --no-recursion --null -T - -cf - | gzip -1 > \"$2\"";
    succeed(Command::new("bash").args(["-euc", script, "-"]).arg(&root).arg(&reordered));
    succeed(&mut place.convert(&reordered));
    assert!(fs::read(place.path("out/initrd")).unwrap() == first);
}

#[test]
fn the_result_is_printed_and_private() {
    let place = Place::new();
    fs::write(place.path("layer"), archive(&[file("init", "#!")])).unwrap();
    let output = place.convert(place.path("layer")).args(["--compress", "none"]).output().unwrap();
    let digest = succeed(Command::new("sha256sum").arg(place.path("out/initrd")));
    let digest = digest.split(' ').next().unwrap();
    assert_eq!(stdout(&output), format!("{}  244 bytes  sha256:{digest}\n", place.path("out/initrd").display()));
    assert!(!stderr(&output).contains("warning"), "{}", stderr(&output));
    assert_eq!(fs::metadata(place.path("out/initrd")).unwrap().permissions().mode() & 0o7777, 0o600);
    let json = succeed(place.convert(place.path("layer")).args(["--compress", "none", "--json", "--epoch", "0"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (json["entries"].as_u64(), json["digest"].as_str()),
        (Some(1), Some(format!("sha256:{digest}").as_str()))
    );
    assert!(names(&place.path("tmp")).is_empty());
}

#[test]
fn attributes_that_are_lost_are_warned_of_once_with_their_count() {
    let place = Place::new();
    let members = [
        pax("SCHILY.xattr.security.capability", "\u{1}\n"),
        file("a", ""),
        pax("SCHILY.xattr.security.selinux", "system_u:object_r:container_file_t:s0:c1,c2"),
        file("b", ""),
        pax("SCHILY.xattr.user.b", "c"),
        file("init", ""),
    ];
    fs::write(place.path("layer"), archive(&members)).unwrap();
    let output = place.convert(place.path("layer")).output().unwrap();
    assert!(output.status.success());
    let warnings: Vec<_> =
        stderr(&output).lines().filter(|line| line.starts_with("warning")).map(str::to_owned).collect();
    assert_eq!(
        warnings,
        [
            "warning: left out extended attributes that belong to the machine where the archive was made, such as labels: \
             \"security.selinux\", \"user.b\"",
            "warning: 1 file capabilities left out: cpio cannot hold them"
        ]
    );
}

#[test]
fn a_tree_without_init_is_warned_of() {
    let place = Place::new();
    fs::write(place.path("layer"), archive(&[file("sbin/init", "")])).unwrap();
    let output = place.convert(place.path("layer")).output().unwrap();
    assert!(stderr(&output).contains("warning: there is no /init in the tree"), "{}", stderr(&output));
}

#[test]
fn entries_that_lead_out_of_the_tree_are_refused() {
    let place = Place::new();
    let cure = "archive the tree from inside its root: tar -C ROOT -c .";
    for (members, message) in [
        (vec![file("/etc/passwd", "")], format!("the archive entry \"/etc/passwd\" has an absolute path; {cure}")),
        (vec![file("a/../../b", "")], format!("the archive entry \"a/../../b\" has a \"..\" in its path; {cure}")),
        (
            vec![member(b'2', "lib", "/usr", 0, b""), file("lib/x", "")],
            "the entry \"lib/x\" lies below the symlink \"lib\"".into(),
        ),
        (
            vec![member(b'1', "b", "a", 0, b"")],
            "the archive entry \"b\" is a hard link to \"a\", which is not in the archive before it".into(),
        ),
    ] {
        assert_eq!(place.refusal(&archive(&members)), message);
    }
}

#[test]
fn entries_that_cpio_or_the_kernel_cannot_hold_are_refused() {
    let place = Place::new();
    let long = ["n".repeat(255).as_str(); 17].join("/");
    for (members, message) in [
        (
            vec![member(b'0', "disk.img", "", 1 << 32, b"")],
            "the archive entry \"disk.img\" holds 4294967296 bytes; a cpio archive ends at files of 4 GiB: leave it out of the tree".to_owned(),
        ),
        (
            vec![pax("path", &long), file("cut", "")],
            format!("the archive entry \"{}...\" has a path of 4351 bytes; the kernel unpacks none over 4095", &long[..120]),
        ),
        (
            vec![member(b's', "run/socket", "", 0, b"")],
            "the archive entry \"run/socket\" is of the type 's', which no initrd can hold".into(),
        ),
    ] {
        assert_eq!(place.refusal(&archive(&members)), message);
    }
}

#[test]
fn sparse_archives_of_gnu_tar_are_refused() {
    let place = Place::new();
    let holes = File::create(place.path("holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    for format in ["gnu", "posix"] {
        let mut pack = Command::new("tar");
        pack.args(["--sparse", "--format", format, "-cf"]).arg(place.path("sparse.tar"));
        succeed(pack.arg("-C").arg(place.path("")).arg("holes"));
        let message = place.refusal(&fs::read(place.path("sparse.tar")).unwrap());
        assert!(message.ends_with("is stored sparse; make the archive without tar's --sparse"), "{message}");
    }
}

#[test]
fn truncated_and_damaged_layers_are_refused() {
    let place = Place::new();
    let whole = archive(&[file("a", &"x".repeat(1000)), file("b", "y")]);
    let cure = "export or fetch it again";
    for (length, message) in [
        (
            0,
            format!(
                "the tar stream is truncated: it ends at byte 0, before any entry, without the end-of-archive mark; {cure}"
            ),
        ),
        (
            1000,
            format!(
                "the tar stream is truncated: it ends at byte 1000, at the entry \"a\", in the middle of its content; {cure}"
            ),
        ),
        (
            1536,
            format!(
                "the tar stream is truncated: it ends at byte 1536, at the entry \"a\", without the end-of-archive mark; {cure}"
            ),
        ),
    ] {
        assert_eq!(place.refusal(&whole[..length]), message);
    }
    let packed = zstd::encode_all(&whole[..], 1).unwrap();
    let message = place.refusal(&packed[..packed.len() - 5]);
    assert!(
        message.contains("unpacking zstd") && message.ends_with("the archive is truncated or damaged"),
        "{message}"
    );
    let message = place.refusal(b"neither an archive nor anything else that is known here");
    assert!(message.starts_with("the tar stream is truncated"), "{message}");
    let message = place.refusal(&[b'?'; 2048]);
    assert!(message.contains("there is no tar header"), "{message}");
}

#[test]
fn inputs_that_are_not_there_or_something_else_say_what_to_do() {
    let place = Place::new();
    let message = fail(&mut place.convert(place.path("missing.tar")));
    assert!(message.contains("missing.tar: No such file or directory"), "{message}");
    let message = fail(&mut place.convert(place.path("tmp")));
    assert!(
        message.contains("is a directory without an oci-layout file; for a root file system: tar -C "),
        "{message}"
    );
    fs::write(place.path("docker"), archive(&[file("manifest.json", r#"[{"Config": "c", "Layers": ["l.tar"]}]"#)]))
        .unwrap();
    let message = fail(&mut place.convert(place.path("docker")));
    assert!(message.contains("save the image with: podman save --format oci-archive"), "{message}");
    let code = place.convert("-").args(["--compress", "zstd:99"]).output().unwrap().status.code();
    assert_eq!(code, Some(2));
    place.assert_untouched();
}

#[test]
fn a_limit_that_is_reached_comes_with_the_option_that_raises_it() {
    let place = Place::new();
    let archive = archive(&[file("a", &"x".repeat(3 << 20))]);
    fs::write(place.path("layer"), zstd::encode_all(&archive[..], 1).unwrap()).unwrap();
    let message = fail(place.convert(place.path("layer")).args(["--max-unpacked-size", "2M"]));
    assert!(
        message.ends_with("it unpacks to more than 2097152 bytes; --max-unpacked-size raises this limit\n"),
        "{message}"
    );
    place.assert_untouched();
    succeed(place.convert(place.path("layer")).args(["--max-unpacked-size", "4M"]));
}

#[test]
fn names_that_are_not_utf8_are_kept() {
    let place = Place::new();
    let root = place.path("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
    succeed(Command::new("tar").arg("-cf").arg(place.path("layer")).arg("-C").arg(&root).arg("."));
    succeed(place.convert(place.path("layer")).args(["--compress", "none"]));
    let cpio = fs::read(place.path("out/initrd")).unwrap();
    assert!(cpio.windows(5).any(|window| window == b"caf\xe9\0"));
}

/// Runs a script with a new tmpfs at `$FULL`, seen by it alone and gone with it.
fn with_small_disk(place: &Place, options: &str, script: &str) -> Output {
    let full = place.path("full");
    fs::create_dir(&full).unwrap();
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["--mount"][..] } else { &["--map-root-user", "--mount"] });
    command.args(["bash", "-c", &format!("mount -t tmpfs -o {options} none \"$FULL\" || exit 99\n{script}")]);
    command.env("FULL", full).env("OCINITRD", env!("CARGO_BIN_EXE_ocinitrd")).env("LAYER", place.path("layer"));
    let output = command.output().unwrap();
    assert_ne!(output.status.code(), Some(99), "mounting a tmpfs: {}", stderr(&output));
    output
}

#[test]
fn a_full_disk_is_named_and_nothing_stays_on_it() {
    let place = Place::new();
    fs::write(place.path("layer"), archive(&[file("big", &"x".repeat(3 << 20))])).unwrap();
    let script = r#"printf old > "$FULL/initrd"
        "$OCINITRD" convert "$LAYER" -o "$FULL/initrd" --compress none; echo "code $?"; ls -A "$FULL"; cat "$FULL/initrd""#;
    let output = with_small_disk(&place, "size=1m", script);
    assert_eq!(stdout(&output), "code 1\ninitrd\nold");
    let message = stderr(&output);
    let full = place.path("full").display().to_string();
    assert!(message.contains(&format!("writing {full}/initrd: No space left on device")), "{message}");
    assert!(message.contains(&format!("make room in {full} or choose another directory")), "{message}");
}

#[test]
fn a_full_temporary_directory_is_named() {
    let place = Place::new();
    fs::write(place.path("layer"), archive(&[file("big", &"x".repeat(3 << 20))])).unwrap();
    let script =
        r#"export TMPDIR="$FULL"; "$OCINITRD" convert - -o "$LAYER.cpio" < "$LAYER"; echo "code $?"; ls -A "$FULL""#;
    let output = with_small_disk(&place, "size=1m", script);
    assert_eq!(stdout(&output), "code 1\n");
    assert!(stderr(&output).contains("No space left on device"), "{}", stderr(&output));
    assert!(stderr(&output).contains("set TMPDIR to a directory with more room"), "{}", stderr(&output));
    assert!(!place.path("layer.cpio").exists());
}

#[test]
fn an_unwritable_directory_is_refused_before_the_input_is_read() {
    let place = Place::new();
    let output = with_small_disk(&place, "ro", r#""$OCINITRD" convert /nonexistent -o "$FULL/initrd"; echo "code $?""#);
    assert_eq!(stdout(&output), "code 1\n");
    let full = place.path("full").display().to_string();
    let expected = format!(
        "creating {full}/initrd: Read-only file system (os error 30); {full} is not writable for this user: choose another directory"
    );
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    let missing = fail(ocinitrd().args(["convert", "-", "-o"]).arg(place.path("no/initrd")));
    assert!(missing.contains("make the directory first: mkdir -p"), "{missing}");
}

#[test]
fn a_killed_run_leaves_nothing() {
    for signal in ["TERM", "INT", "KILL"] {
        let place = Place::new();
        let mut child = place.convert("-").stdin(Stdio::piped()).spawn().unwrap();
        let whole = archive(&[file("a", &"x".repeat(1 << 20))]);
        child.stdin.as_mut().unwrap().write_all(&whole[..whole.len() / 2]).unwrap();
        // It has read what fits into no pipe, so its files are open.
        sleep(Duration::from_millis(100));
        succeed(Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()));
        assert!(!child.wait().unwrap().success());
        place.assert_untouched();
    }
}

#[test]
fn no_line_of_a_message_is_faked_and_no_terminal_is_steered() {
    let place = Place::new();
    let name = "none\x1b]0;title\x07\nerror: all is well\nwarning: \u{202e}";
    let message = fail(&mut place.convert(name));
    assert!(
        message.contains("none\\x1b]0;title\\x07\n  error: all is well\n  warning: \\xe2\\x80\\xae"),
        "{message:?}"
    );
    assert_eq!(message.lines().filter(|line| !line.starts_with("  ")).count(), 1, "{message:?}");
}

#[test]
fn many_oddities_of_one_kind_are_one_warning() {
    let place = Place::new();
    let script = "for i in $(seq 5000); do printf '%s,' odd$i:=1; done";
    let keywords = ocinitrd_support::process::Program::new("sh").args(["-c", script]).run().unwrap();
    let file = place.path("init");
    fs::write(&file, "").unwrap();
    let mut tar = Command::new("tar");
    // GNU tar takes KEYWORD=VALUE for a global header and KEYWORD:=VALUE for each entry's.
    let option = format!("--pax-option={}", keywords.trim_end_matches(',').replace(":=", "="));
    tar.args(["-C".as_ref(), place.path("").as_os_str(), "--format=pax".as_ref(), option.as_ref()]);
    let archive = tar.args(["-cf", "-", "init"]).output().unwrap();
    assert!(archive.status.success(), "{}", stderr(&archive));
    fs::write(place.path("layer"), archive.stdout).unwrap();
    let output = place.convert(place.path("layer")).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let warnings = stderr(&output).lines().filter(|line| line.starts_with("warning: ")).count();
    assert_eq!(warnings, 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("... (5000 in all)"), "{}", stderr(&output));
}
