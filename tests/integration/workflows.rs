//! The workflows of `.github`: that they name what there is, and that their steps run.
//!
//! What only a hosted runner has is told apart in [`stand_in`]; a step that is none of these and cannot be run is an error, so that a
//! workflow cannot come to hold what nothing has tried.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use ocinitrd::cli::args::CommandLine;
use ocinitrd::definition::Definition;
use serde::Deserialize;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::fixture::{self, checkout, is_root, stderr, stdout, succeed};

/// Actions of others, by the tags of their major versions: what is behind these is known here.
const ACTIONS: [&str; 3] = ["actions/cache@v4", "actions/checkout@v4", "actions/upload-artifact@v4"];

/// Programs that every runner has and that are not ours to check.
const COMMANDS: [&str; 3] = ["chmod", "cmp", "rustup"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Workflow {
    name: String,
    #[serde(rename = "on")]
    _events: Value,
    #[serde(rename = "permissions")]
    _permissions: BTreeMap<String, String>,
    jobs: BTreeMap<String, Job>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Job {
    #[serde(rename = "runs-on")]
    _runs_on: String,
    timeout_minutes: u32,
    strategy: Option<Strategy>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Strategy {
    #[serde(rename = "fail-fast")]
    _fail_fast: bool,
    matrix: BTreeMap<String, Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Step {
    name: Option<String>,
    uses: Option<String>,
    run: Option<String>,
    with: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    #[serde(rename = "if")]
    condition: Option<String>,
}

/// What stands for `matrix.NAME`.
type Combination = BTreeMap<String, String>;

impl Job {
    /// What the matrix stands for: a list of values, or a list of combinations.
    fn combinations(&self) -> Vec<Combination> {
        let Some(strategy) = &self.strategy else { return vec![Combination::new()] };
        let (name, values) = strategy.matrix.iter().next().expect("a matrix has values");
        assert_eq!(strategy.matrix.len(), 1, "one list of a matrix is known here: {:?}", strategy.matrix);
        let combination = |value: &Value| match value {
            Value::Object(_) if name == "include" => serde_json::from_value(value.clone()).unwrap(),
            value => Combination::from([(name.clone(), value.as_str().expect("a value is text").to_owned())]),
        };
        values.iter().map(combination).collect()
    }
}

/// All workflows, by the names of their files.
fn workflows() -> BTreeMap<String, Workflow> {
    let directory = checkout().join(".github/workflows");
    let read = |path: PathBuf| {
        let mut documents = YamlLoader::load_from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let value = value(documents.pop().expect("there is a document"));
        let workflow = serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_name().unwrap().to_string_lossy().into_owned(), workflow)
    };
    fs::read_dir(directory).unwrap().map(|entry| read(entry.unwrap().path())).collect()
}

fn value(yaml: Yaml) -> Value {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => Value::String(text),
        Yaml::Integer(number) => number.into(),
        Yaml::Boolean(value) => value.into(),
        Yaml::Array(values) => values.into_iter().map(value).collect(),
        Yaml::Hash(entries) => {
            let key = |key: Yaml| key.into_string().expect("a key is text");
            Value::Object(entries.into_iter().map(|(name, entry)| (key(name), value(entry))).collect())
        }
        Yaml::Null => Value::Null,
        other => panic!("no workflow of ours has {other:?}"),
    }
}

/// The text with what GitHub puts in the place of `${{ ... }}`.
fn substituted(text: &str, combination: &Combination) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        let (expression, remaining) = after.split_once("}}").expect("an expression ends");
        result.push_str(before);
        result.push_str(&evaluated(expression.trim(), combination));
        rest = remaining;
    }
    result + rest
}

fn evaluated(expression: &str, combination: &Combination) -> String {
    if let Some(name) = expression.strip_prefix("matrix.") {
        return combination.get(name).unwrap_or_else(|| panic!("the matrix has no {name}")).clone();
    }
    match expression {
        "!cancelled()" => "true",
        "github.run_id" => "1",
        "github.token" => "a-token",
        "hashFiles('Cargo.lock')" => "a-digest",
        "runner.os" => "Linux",
        // What it is on this machine.
        "vars.DEBIAN_MIRROR" => return std::env::var("DEBIAN_MIRROR").unwrap_or_default(),
        other => panic!("no value is known here for {other:?}"),
    }
    .to_owned()
}

/// The commands of a script, each as its words; `sudo` is left out.
fn commands(script: &str) -> Vec<Vec<String>> {
    let parts = script.lines().flat_map(|line| line.split("&&"));
    let words = |command: &str| -> Vec<String> {
        // Words in quotes are one: nothing here has a quote within a word.
        let mut words = Vec::new();
        for (position, part) in command.split('"').enumerate() {
            match position % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        words.into_iter().skip_while(|word| word == "sudo").collect()
    };
    parts.map(words).filter(|words| !words.is_empty()).collect()
}

/// Insists that a command is one of ours, and that what it names is there.
fn check_command(words: &[String], files: &[PathBuf]) {
    let (program, arguments) = words.split_first().unwrap();
    let exists = |path: &str| files.iter().any(|file| file == Path::new(path));
    match program.as_str() {
        "make" => {
            let makefile = fs::read_to_string(checkout().join("Makefile")).unwrap();
            for target in arguments.iter().filter(|argument| !argument.contains('=')) {
                assert!(makefile.contains(&format!("\n{target}: ")), "the Makefile has no target {target}");
            }
        }
        "target/release/ocinitrd" => check_own_command(words),
        "cargo" => assert_eq!(arguments, ["build", "--release", "--locked"]),
        script if script.starts_with("scripts/") => {
            let mode = fs::metadata(checkout().join(script)).unwrap_or_else(|error| panic!("{script}: {error}"));
            assert!(mode.permissions().mode() & 0o111 != 0, "{script} is not executable");
            if script == "scripts/require.sh" {
                let table = fs::read_to_string(checkout().join(script)).unwrap();
                for name in arguments {
                    assert!(table.contains(&format!("\n{name} ")), "{script} knows no package with {name}");
                }
            }
            for workflow in arguments.iter().filter(|argument| argument.ends_with(".yml")) {
                assert!(exists(workflow), "there is no workflow {workflow}");
            }
        }
        known if COMMANDS.contains(&known) => {}
        other => panic!("{other} is nothing that a workflow of ours calls"),
    }
}

/// The program itself reads its arguments; an image and its profiles are there.
fn check_own_command(words: &[String]) {
    let matches =
        CommandLine::command().try_get_matches_from(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let (name, matches) = matches.subcommand().expect("a command is given");
    if name == "build" {
        let image = matches.get_raw("image").and_then(|mut values| values.next()).expect("an image is given");
        let definition = Definition::load(image.to_str().unwrap(), checkout()).unwrap();
        let profiles = matches.get_raw("profiles").into_iter().flatten();
        let profiles: Vec<String> = profiles.map(|profile| profile.to_str().unwrap().to_owned()).collect();
        definition.added(&profiles).unwrap();
    }
}

#[test]
fn workflows_name_what_there_is_and_call_the_program_as_it_takes_it() {
    let workflows = workflows();
    let files: Vec<PathBuf> = workflows.keys().map(PathBuf::from).collect();
    assert_eq!(workflows.keys().collect::<Vec<_>>(), ["builder.yml", "ci.yml", "fedora.yml", "fuzz.yml"]);
    for (file, workflow) in &workflows {
        assert_eq!(file.strip_suffix(".yml"), Some(workflow.name.as_str()));
        for (name, job) in &workflow.jobs {
            assert!((1..=90).contains(&job.timeout_minutes), "{file}: {name}");
            for (combination, step) in
                job.combinations().iter().flat_map(|one| job.steps.iter().map(move |step| (one, step)))
            {
                let texts = step.with.values().chain(step.env.values()).chain(&step.condition);
                texts.for_each(|text| drop(substituted(text, combination)));
                match (&step.uses, &step.run) {
                    (Some(action), None) => {
                        assert!(ACTIONS.contains(&action.as_str()), "{file}: {action} is not known")
                    }
                    (None, Some(script)) => {
                        commands(&substituted(script, combination))
                            .iter()
                            .for_each(|words| check_command(words, &files));
                    }
                    _ => panic!("{file}: a step either uses an action or runs a script: {step:?}"),
                }
            }
        }
    }
}

#[test]
fn each_reader_of_foreign_bytes_is_fuzzed() {
    let targets = |combinations: Vec<Combination>| -> Vec<String> {
        combinations.into_iter().map(|mut combination| combination.remove("target").unwrap()).collect()
    };
    let fuzzed = targets(workflows()["fuzz.yml"].jobs["fuzz"].combinations());
    let files = fixture::names(&checkout().join("fuzz/fuzz_targets"));
    let there: Vec<&str> = files.iter().map(|name| name.trim_end_matches(".rs")).collect();
    assert_eq!(fuzzed, there);
}

/// A place where a job runs.
struct Place {
    directory: PathBuf,
    /// Programs that stand for those of a runner.
    programs: tempfile::TempDir,
    environment: Vec<(&'static str, PathBuf)>,
}

/// What is done in the place of a step that only a hosted runner can take, if it is one.
fn stand_in(step: &Step, combination: &Combination, place: &Place) -> Option<String> {
    match step.uses.as_deref() {
        Some("actions/checkout@v4") => return Some("it is checked out".to_owned()),
        Some("actions/cache@v4") => return Some("there is no earlier run".to_owned()),
        Some("actions/upload-artifact@v4") => {
            for path in substituted(&step.with["path"], combination).lines() {
                assert!(place.directory.join(path).exists(), "nothing to upload: {path}");
            }
            return Some("all of it is there".to_owned());
        }
        Some(other) => panic!("{other} cannot be run here"),
        None => {}
    }
    match step.run.as_deref()?.trim() {
        "rustup update stable && rustup default stable" => Some("the toolchain is this machine's".to_owned()),
        "sudo chmod 0666 /dev/kvm" if !Path::new("/dev/kvm").exists() => Some("there is no KVM here".to_owned()),
        // `make test-matrix`, which this test is part of, begins with it.
        "make test" => {
            succeed(Command::new("make").args(["--dry-run", "test"]).current_dir(&place.directory));
            Some("it has just been run".to_owned())
        }
        _ => None,
    }
}

impl Place {
    fn new(directory: &Path) -> Place {
        let place =
            Place { directory: directory.to_owned(), programs: tempfile::tempdir().unwrap(), environment: Vec::new() };
        if is_root() {
            // What sudo gives root: a home of its own.
            place.program("sudo", "unset XDG_CACHE_HOME\nHOME=/root exec \"$@\"");
        }
        place
    }

    fn program(&self, name: &str, script: &str) {
        write_program(&self.programs.path().join(name), script);
    }

    /// Runs the steps of a job as a runner does, in a shell of its own each.
    fn run(&self, job: &Job, combination: &Combination) -> Vec<String> {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}:/usr/local/sbin:/usr/sbin:/sbin", self.programs.path().display());
        let mut outputs = Vec::new();
        for step in &job.steps {
            let title = step.name.as_deref().or(step.run.as_deref()).or(step.uses.as_deref()).unwrap_or_default();
            if let Some(instead) = stand_in(step, combination, self) {
                eprintln!("{title}: {instead}");
                continue;
            }
            eprintln!("{title}");
            let script = self.programs.path().join("step.sh");
            fs::write(&script, substituted(step.run.as_deref().unwrap(), combination)).unwrap();
            let mut command = Command::new("bash");
            command
                .arg("-e")
                .arg(&script)
                .current_dir(&self.directory)
                .env("PATH", &path)
                .envs(self.environment.clone());
            command.envs(step.env.iter().map(|(name, value)| (name, substituted(value, combination))));
            let output = command.output().unwrap();
            let said = format!("{}{}", stdout(&output), stderr(&output));
            assert!(output.status.success(), "{title}:\n{said}");
            outputs.push(said);
        }
        outputs
    }
}

fn write_program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost", "-c", "init.defaultBranch=main"];
    succeed(Command::new("git").args(identity).args(arguments).current_dir(directory))
}

/// A pull request of what the program makes of a definition, as the workflow `builder` makes it; `gh` and the program are
/// stand-ins.
#[test]
fn the_builder_s_pin_is_renewed_by_one_pull_request() {
    let workflow = &workflows()["builder.yml"];
    let job = &workflow.jobs["renew"];
    let combination = Combination::from([("image".to_owned(), "fedora-44".to_owned())]);
    let scratch = tempfile::tempdir().unwrap();
    let (source, origin, asked) =
        (scratch.path().join("source"), scratch.path().join("origin"), scratch.path().join("asked"));
    fs::create_dir(&source).unwrap();
    let parts = ["images", "containerfiles", "scripts"].map(|part| checkout().join(part));
    succeed(Command::new("cp").arg("-r").args(parts).arg(&source));
    git(&source, &["init", "--quiet"]);
    git(&source, &["add", "--all"]);
    git(&source, &["commit", "--quiet", "--message", "All"]);
    git(scratch.path(), &["clone", "--quiet", "--bare", "source", "origin"]);

    // Runs the job in a checkout of its own, with a program that renews the pin to `digit` repeated.
    let run = |digit: &str| {
        let directory = scratch.path().join("checkout");
        let _ = fs::remove_dir_all(&directory);
        git(scratch.path(), &["clone", "--quiet", "origin", "checkout"]);
        let place = Place::new(&directory);
        let digest = digit.repeat(64);
        let update = format!(
            "[ \"$*\" = 'update fedora-44 --builder' ]\n[ -z '{digest}' ] || sed -i 's/@sha256:[0-9a-f]*/@sha256:{digest}/' images/parts/fedora-44.toml"
        );
        let program = directory.join("target/release/ocinitrd");
        write_program(&scratch.path().join("update"), &update);
        place.program(
            "cargo",
            &format!("mkdir -p target/release; cp {} {}", scratch.path().join("update").display(), program.display()),
        );
        let (asked, known) = (asked.display(), scratch.path().join("known"));
        place.program(
            "gh",
            &format!(
                "[ \"$GH_TOKEN\" = a-token ]\necho \"$*\" >> {asked}\ncase \"$1 $2\" in 'pr create') touch {0} ;; \
                 'pr list') [ ! -e {0} ] || echo 1 ;; esac",
                known.display()
            ),
        );
        fs::write(directory.join(".git/info/exclude"), "target\n").unwrap();
        place.run(job, &combination).pop().unwrap()
    };
    let asked = || fs::read_to_string(&asked).unwrap_or_default();
    let proposed = |path: &str| git(&origin, &["show", &format!("builder-fedora-44:{path}")]);

    assert_eq!(run(""), "nothing changed\n");
    assert_eq!(asked(), "");

    run("1");
    let digest = format!("registry.fedoraproject.org/fedora:44@sha256:{}", "1".repeat(64));
    assert!(proposed("images/parts/fedora-44.toml").contains(&format!("image = \"{digest}\"\n")));
    assert!(proposed("containerfiles/ocinitrd.containerfile").contains(&format!("ARG FEDORA={digest}\n")));
    let first = asked();
    assert!(
        first.contains("pr create --head builder-fedora-44 --title Renew the builder image of fedora-44"),
        "{first}"
    );
    assert!(first.ends_with("workflow run fedora.yml --ref builder-fedora-44\n"), "{first}");

    // Until it is merged, each day finds the same; nothing begins anew.
    assert!(run("1").ends_with("builder-fedora-44 has that already\n"));
    assert_eq!(asked(), first);

    run("2");
    assert!(proposed("images/parts/fedora-44.toml").contains(&"2".repeat(64)));
    let second = asked();
    assert_eq!(second.matches("pr create").count(), 1, "{second}");
    assert_eq!(second.matches("workflow run").count(), 2, "{second}");
    assert!(!git(&origin, &["show", "main:images/parts/fedora-44.toml"]).contains(&"2".repeat(64)));
}

/// All steps of the workflows that build and test, with the offline image in the place of those that need the internet.
#[test]
#[ignore = "builds three images and boots each root: half an hour"]
fn the_steps_of_the_workflows_run_with_the_offline_image() {
    let store = tempfile::tempdir_in(checkout().join("target")).unwrap();
    let workflows = workflows();
    for file in ["ci.yml", "fedora.yml"] {
        for (name, job) in &workflows[file].jobs {
            let mut combination = job.combinations().swap_remove(0);
            combination.entry("image".to_owned()).and_modify(|image| "offline".clone_into(image));
            eprintln!("{file}: {name} {combination:?}");
            let mut place = Place::new(checkout());
            place.environment.push(("XDG_CACHE_HOME", store.path().to_owned()));
            place.run(job, &combination);
        }
    }
}
