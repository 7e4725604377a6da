//! kernel-install's configuration: what it says, and the file that names ours; `kernel-install(8)`.
//!
//! Of `install.conf` one is read, that in `/etc` before that in `/usr/lib`. systemd 256 and newer read `install.conf.d/*.conf`
//! after it; an earlier one gets a whole `install.conf`, with all that the one it had says.

use anyhow::{Result, bail, ensure};

use super::finding::Place;
use super::plan::PlannedFile;
use super::source::{self, Source};

const MAIN: [&str; 4] =
    [OWN, "/run/kernel/install.conf", "/usr/local/lib/kernel/install.conf", "/usr/lib/kernel/install.conf"];
const OWN: &str = "/etc/kernel/install.conf";
const DROP_INS: [&str; 4] = [
    "/etc/kernel/install.conf.d",
    "/run/kernel/install.conf.d",
    "/usr/local/lib/kernel/install.conf.d",
    "/usr/lib/kernel/install.conf.d",
];
const DROP_IN: &str = "/etc/kernel/install.conf.d/90-ocinitrd.conf";
/// The first version of systemd that is certain to read drop-ins.
const DROP_INS_SINCE: u32 = 256;
const INITRD: &str = "initrd_generator";
const UKI: &str = "uki_generator";
const NAME: &str = "ocinitrd";
const COMMENT: &str =
    "# Written by `ocinitrd kernel-install setup`, and taken back by `ocinitrd kernel-install setup --undo`.\n";

/// What the configuration says.
#[derive(Debug, Default)]
pub struct InstallConf {
    /// Assignments in the order in which they are read: the last of a name counts.
    assignments: Vec<(Place, String, String)>,
    /// The `install.conf` that is read, and its text.
    main: Option<(String, String)>,
    reads_drop_ins: bool,
}

impl InstallConf {
    /// Reads it. Files of an earlier run are read as they were before that, by `original`.
    ///
    /// # Errors
    /// Fails on a file that cannot be read.
    pub fn read(
        source: &Source,
        systemd: Option<u32>,
        original: impl Fn(&str) -> Option<Option<Vec<u8>>>,
    ) -> Result<Self> {
        let text = |path: &str| match original(path) {
            Some(bytes) => Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
            None => source.text(path),
        };
        let reads_drop_ins = systemd.is_some_and(|version| version >= DROP_INS_SINCE);
        let mut conf = InstallConf { reads_drop_ins, ..InstallConf::default() };
        for path in MAIN {
            if let Some(text) = text(path)? {
                conf.add(path, &text);
                conf.main = Some((path.to_owned(), text));
                break;
            }
        }
        if reads_drop_ins {
            for path in source.drop_ins(&DROP_INS, source::is_configuration)? {
                if let Some(text) = text(&path)? {
                    conf.add(&path, &text);
                }
            }
        }
        Ok(conf)
    }

    fn add(&mut self, path: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
                let value = value.trim().trim_matches(['"', '\'']).to_owned();
                self.assignments.push((Place::line(path, number + 1), key.trim().to_owned(), value));
            }
        }
    }

    /// What a key is set to, and where; an empty value is none.
    pub fn value(&self, key: &str) -> Option<(&Place, &str)> {
        let (place, _, value) = self.assignments.iter().rfind(|(_, name, _)| name == key)?;
        Some((place, value.as_str())).filter(|(_, value)| !value.is_empty())
    }

    /// Whether ours is the generator of initrds.
    pub fn names_ours(&self) -> bool {
        self.value(INITRD).is_some_and(|(_, value)| value == NAME)
    }

    /// The file that has kernel-install ask ours; nothing where it does already.
    ///
    /// # Errors
    /// Fails where a file that is read later names another generator.
    pub fn opt_in(&self, layout: &str) -> Result<Option<PlannedFile>> {
        let mut wanted = vec![INITRD];
        // It makes images only of an initrd that is its own.
        if layout == "uki" && self.value(UKI).is_some_and(|(_, value)| value == "dracut") {
            wanted.push(UKI);
        }
        if wanted.iter().all(|key| self.value(key).is_some_and(|(_, value)| value == NAME)) {
            return Ok(None);
        }
        let lines: String = wanted.iter().map(|key| format!("{key}={NAME}\n")).collect();
        if !self.reads_drop_ins {
            return self.whole(&lines).map(Some);
        }
        let is_later =
            |place: &Place| place.file.contains("/install.conf.d/") && file_name(&place.file) > file_name(DROP_IN);
        if let Some((place, key, _)) =
            self.assignments.iter().find(|(place, key, _)| wanted.contains(&key.as_str()) && is_later(place))
        {
            bail!("{place} sets {key}, and is read after {DROP_IN}: take that line out");
        }
        let reason = "has kernel-install ask ocinitrd for initrds, and not another generator".to_owned();
        Ok(Some(PlannedFile::new(DROP_IN, format!("{COMMENT}{lines}").into_bytes(), reason)))
    }

    /// A whole install.conf.
    fn whole(&self, lines: &str) -> Result<PlannedFile> {
        let (from, before) = self.main.as_ref().map_or((None, ""), |(path, text)| (Some(path.as_str()), text.as_str()));
        ensure!(
            !before.trim_end_matches('\n').ends_with('\\'),
            "the last line of {} goes on behind its end: end it without a backslash",
            from.unwrap_or(OWN)
        );
        let end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        let reason = match from {
            None => "names the generator".to_owned(),
            Some(OWN) => "names the generator, behind what it has; this systemd may read no drop-ins".to_owned(),
            Some(from) => format!(
                "names the generator, behind all that {from} has, which is no longer read; this systemd may read no drop-ins"
            ),
        };
        Ok(PlannedFile::new(OWN, format!("{before}{end}{COMMENT}{lines}").into_bytes(), reason))
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    fn read(root: &Fixture, systemd: Option<u32>) -> InstallConf {
        InstallConf::read(&Source::open(root.path()).unwrap(), systemd, |_| None).unwrap()
    }

    fn planned(root: &Fixture, systemd: Option<u32>) -> Option<(String, String)> {
        let file = read(root, systemd).opt_in("bls").unwrap()?;
        Some((file.path, String::from_utf8(file.bytes).unwrap()))
    }

    #[test]
    fn a_newer_systemd_gets_a_drop_in_and_an_older_one_all_that_was_read() {
        let root = Fixture::new();
        root.write("usr/lib/kernel/install.conf", "#layout=bls\nlayout=bls\nMACHINE_ID=\"1\"");
        let lines = format!("{COMMENT}initrd_generator=ocinitrd\n");
        assert_eq!(planned(&root, Some(257)), Some((DROP_IN.to_owned(), lines.clone())));
        for systemd in [None, Some(252), Some(255)] {
            let (path, text) = planned(&root, systemd).unwrap();
            assert_eq!((path.as_str(), text), (OWN, format!("#layout=bls\nlayout=bls\nMACHINE_ID=\"1\"\n{lines}")));
        }
        root.write("etc/kernel/install.conf", "initrd_generator=dracut\n");
        assert_eq!(planned(&root, Some(252)).unwrap().1, format!("initrd_generator=dracut\n{lines}"));
        assert_eq!(read(&root, Some(252)).value("layout"), None);
        root.write("etc/kernel/install.conf", "initrd_generator=dracut\ninitrd_generator = ocinitrd\n");
        assert_eq!(planned(&root, Some(252)), None);
        root.write("etc/kernel/install.conf", "layout=bls \\\n");
        let error = read(&root, Some(252)).opt_in("bls").unwrap_err().to_string();
        assert!(error.contains("/etc/kernel/install.conf goes on behind its end"), "{error}");
    }

    #[test]
    fn a_later_drop_in_of_another_generator_is_refused() {
        let root = Fixture::new();
        root.write("usr/lib/kernel/install.conf.d/50-dracut.conf", "initrd_generator=dracut\n");
        assert_eq!(planned(&root, Some(257)).unwrap().0, DROP_IN);
        root.write("etc/kernel/install.conf.d/99-mine.conf", "# mine\ninitrd_generator=dracut\n");
        let error = read(&root, Some(257)).opt_in("bls").unwrap_err().to_string();
        assert!(error.starts_with("/etc/kernel/install.conf.d/99-mine.conf:2 sets initrd_generator"), "{error}");
        // It is not read by an older one.
        assert_eq!(planned(&root, Some(252)).unwrap().0, OWN);
    }

    #[test]
    fn images_that_dracut_made_are_made_by_ours() {
        let root = Fixture::new();
        root.write("etc/kernel/install.conf", "layout=uki\nuki_generator=dracut\n");
        let of = |layout| String::from_utf8(read(&root, Some(257)).opt_in(layout).unwrap().unwrap().bytes).unwrap();
        assert!(of("uki").contains("uki_generator=ocinitrd") && !of("bls").contains("uki_generator"));
        root.write("etc/kernel/install.conf", "layout=uki\nuki_generator=ukify\n");
        assert!(!of("uki").contains("uki_generator"));
    }

    #[test]
    fn what_an_earlier_run_wrote_is_read_as_it_was() {
        let root = Fixture::new();
        root.write("etc/kernel/install.conf", "initrd_generator=ocinitrd\n");
        let original = |path: &str| (path == OWN).then(|| Some(b"layout=bls\n".to_vec()));
        let conf = InstallConf::read(&Source::open(root.path()).unwrap(), Some(252), original).unwrap();
        assert_eq!(
            conf.opt_in("bls").unwrap().unwrap().bytes,
            format!("layout=bls\n{COMMENT}initrd_generator=ocinitrd\n").as_bytes()
        );
    }
}
