//! The engine over real podman: jobs, what they may not do, and that nothing of them stays.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use ocinitrd::container::engine::cancellation::{Signal, Trigger};
use ocinitrd::container::engine::{
    Cancellation, Engine, EngineChoice, EngineOptions, Image, ImageReference, Interrupted, Job, JobResult, NoEngine,
    Output,
};
use ocinitrd_support::process::find;
use ocinitrd_support::progress::{Progress, Verbosity};
use rustix::process::{Pid, kill_process};

use crate::fixture;

/// Names the builder image to a test that runs as another process or user.
pub const BUILDER: &str = "OCINITRD_TEST_BUILDER";
const MIB: usize = 1024 * 1024;

fn progress() -> Progress {
    Progress::new(Verbosity::Normal)
}

pub fn builder() -> ImageReference {
    std::env::var(BUILDER).unwrap_or_else(|_| fixture::builder("dnf5")).parse().unwrap()
}

/// As the program is started by this user, with a service of its own.
fn surroundings(directory: &Path) -> EngineOptions {
    EngineOptions {
        in_place: false,
        wish: EngineChoice {
            engine: Some("podman".to_owned()),
            user_id: rustix::process::geteuid().as_raw(),
            ..EngineChoice::default()
        },
        podman: find("podman").unwrap(),
        socket_directories: vec![directory.to_owned()],
    }
}

/// An engine over a service of its own, the image, and what asks for the end of the run.
pub struct Bench {
    engine: Engine,
    image: Image,
    trigger: Trigger,
    directory: tempfile::TempDir,
}

impl Bench {
    pub async fn new() -> Self {
        let (cancellation, trigger) = Cancellation::manual();
        Bench::with(cancellation, trigger).await
    }

    async fn with(cancellation: Cancellation, trigger: Trigger) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(&surroundings(directory.path()), &cancellation, &progress()).await.unwrap();
        let image = engine.ensure_image(&builder(), &progress()).await.unwrap();
        Bench { engine, image, trigger, directory }
    }

    fn job<'a>(&'a self, name: &'a str, script: &str) -> Job<'a> {
        Job {
            name,
            command: ["/bin/sh", "-euc", script].map(str::to_owned).to_vec(),
            environment: BTreeMap::new(),
            capabilities: Vec::new(),
            memory_limit_bytes: None,
            input: Box::new(|writer| Ok(tar::Builder::new(writer).finish()?)),
            outputs: Vec::new(),
        }
    }

    async fn run(&self, name: &str, script: &str) -> Result<JobResult> {
        self.engine.run(&self.image, self.job(name, script), &progress()).await
    }

    /// The same with so much memory and no more.
    pub async fn run_in_memory(&self, limit_bytes: u64, name: &str, script: &str) -> Result<JobResult> {
        let job = Job { memory_limit_bytes: Some(limit_bytes), ..self.job(name, script) };
        self.engine.run(&self.image, job, &progress()).await
    }

    /// The process id of the service that was started for this bench.
    fn service(&self) -> Pid {
        service_in(self.directory.path()).expect("the service runs")
    }
}

/// The service whose socket lies below `directory`, if one runs.
fn service_in(directory: &Path) -> Option<Pid> {
    let needle = format!("unix://{}/", directory.display());
    fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let command_line = fs::read(process.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&command_line).contains(&needle).then(|| Pid::from_raw(pid).unwrap())
    })
}

/// The names of the containers of a job, running or not.
pub fn containers(job: &str) -> Vec<String> {
    let filter = format!("name=^ocinitrd-{job}-");
    let listing =
        fixture::succeed(Command::new("podman").args(["ps", "--all", "--format={{.Names}}", "--filter", &filter]));
    listing.lines().map(str::to_owned).collect()
}

/// The names of the containers that a process has started, whatever for, running or not.
pub fn containers_of(pid: u32) -> Vec<String> {
    let filter = format!("name=^ocinitrd-[a-z-]*-{pid}-");
    let listing =
        fixture::succeed(Command::new("podman").args(["ps", "--all", "--format={{.Names}}", "--filter", &filter]));
    listing.lines().map(str::to_owned).collect()
}

/// Waits until something holds.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A test of this binary as a process of its own; `print` is what it prints when it has come to the interesting point.
fn other_process(test: &str, print: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(BUILDER, builder().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(print)), "{test} ended before it printed {print}");
    // The rest is read so that the process does not fail for want of a reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gets_its_input_and_returns_its_outputs_and_what_it_printed() {
    let bench = Bench::new().await;
    let (mut upper, mut sizes) = (Vec::new(), Vec::new());
    let mut job = bench.job(
        "roundtrip",
        "tr a-z A-Z </in/text >/upper; stat -c '%s %u:%g %a' /in/text >/sizes; echo $GREETING; echo oops >&2; printf end",
    );
    job.environment = BTreeMap::from([("GREETING".to_owned(), "good day".to_owned())]);
    job.input = Box::new(|writer| {
        let mut archive = tar::Builder::new(writer);
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o640);
        archive.append_data(&mut header, "in/text", &b"hello"[..])?;
        Ok(archive.finish()?)
    });
    job.outputs = vec![
        Output { path: "/upper".to_owned(), sink: &mut upper },
        Output { path: "/sizes".to_owned(), sink: &mut sizes },
    ];
    let result = bench.engine.run(&bench.image, job, &progress()).await.unwrap();
    assert_eq!(result.exit_code, 0);
    assert_eq!(upper, b"HELLO");
    assert_eq!(sizes, b"5 0:0 640\n");
    assert_eq!(result.output_bytes, [5, 10]);
    let mut lines: Vec<&str> = result.log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["end", "good day", "oops"]);
    assert_eq!(containers("roundtrip"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_no_network_and_neither_the_hosts_name_nor_its_limits() {
    let bench = Bench::new().await;
    let script = "ls /sys/class/net; cat /proc/sys/kernel/hostname; pwd; id -u; ulimit -n";
    let result = bench.run("inside", script).await.unwrap();
    let (facts, open_files) = result.log.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(facts, "lo\nocinitrd\n/\n0");
    if fixture::is_root() {
        assert_eq!(open_files, "4096");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_program_is_reported_with_its_exit_code_and_all_it_printed() {
    let bench = Bench::new().await;
    let mut nothing = Vec::new();
    let mut job = bench.job("failing", "seq 1 20000; exit 42");
    job.outputs = vec![Output { path: "/never/made".to_owned(), sink: &mut nothing }];
    let result = bench.engine.run(&bench.image, job, &progress()).await.unwrap();
    assert_eq!((result.exit_code, result.output_bytes.len()), (42, 0));
    let expected: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert!(result.log == expected, "{} of {} bytes were heard", result.log.len(), expected.len());
    assert_eq!(containers("failing"), [""; 0]);
}

/// What becomes of a job that sleeps while `command` is run with the name of its container.
async fn disturbed(bench: &Bench, name: &str, command: &[&str]) -> String {
    let own = format!("{name}-{}", std::process::id());
    let disturbing = async {
        while containers(&own).is_empty()
            || !fixture::succeed(Command::new("podman").args(["ps", "--format={{.Names}}"])).contains(&own)
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        fixture::succeed(Command::new("podman").args(command).args(containers(&own)));
    };
    let (result, ()) = tokio::join!(bench.run(name, "echo asleep; sleep 600"), disturbing);
    assert_eq!(containers(&own), [""; 0]);
    format!("{:#}", result.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_ended_from_outside_did_not_fail_by_itself() {
    let bench = Bench::new().await;
    let killed = disturbed(&bench, "killed", &["kill"]).await;
    assert!(killed.contains("the job \"killed\": it was ended from outside, by signal 9 (SIGKILL)"), "{killed}");
    let removed = disturbed(&bench, "removed", &["rm", "--force", "--time=0"]).await;
    assert!(removed.contains("the job \"removed\": its container was removed from outside"), "{removed}");
    // One of its programs; the shell tells the signal on.
    let error = format!("{:#}", bench.run("child", "sh -c 'kill -TERM $$'").await.unwrap_err());
    assert!(error.contains("it was ended from outside, by signal 15 (SIGTERM); start again"), "{error}");
    assert_eq!(bench.run("failed", "exit 90").await.unwrap().exit_code, 90, "an end of its own is no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_unfit_outputs_are_errors_that_name_them() {
    let bench = Bench::new().await;
    for (path, reason) in [("/no/such/file", "no such file"), ("/etc", "regular file")] {
        let mut sink = Vec::new();
        let mut job = bench.job("outputs", "true");
        job.outputs = vec![Output { path: path.to_owned(), sink: &mut sink }];
        let message = format!("{:#}", bench.engine.run(&bench.image, job, &progress()).await.unwrap_err());
        assert!(message.contains(&format!("fetching {path} from the container")), "{message}");
        assert!(message.to_lowercase().contains(reason), "{message}");
    }
    assert_eq!(containers("outputs"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_cannot_be_made_is_the_error_and_the_program_is_not_started() {
    let bench = Bench::new().await;
    let mut job = bench.job("badinput", "true");
    job.input = Box::new(|writer| {
        writer.write_all(&[0; 300])?;
        anyhow::bail!("the package is truncated")
    });
    let message = format!("{:#}", bench.engine.run(&bench.image, job, &progress()).await.unwrap_err());
    assert!(message.ends_with("sending the input into the container: the package is truncated"), "{message}");
    let mut job = bench.job("badinput", "true");
    job.input = Box::new(|writer| Ok(writer.write_all(&vec![b'x'; 40 * MIB])?));
    let message = format!("{:#}", bench.engine.run(&bench.image, job, &progress()).await.unwrap_err());
    assert!(message.contains("the engine says") && !message.contains("stopped reading"), "{message}");
    assert_eq!(containers("badinput"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_step_can_mount_and_chroot() {
    let bench = Bench::new().await;
    mount_and_chroot(&bench).await;
}

/// What the install step needs: `/proc` and `/dev` in a directory, as root of the container and nothing more.
async fn mount_and_chroot(bench: &Bench) {
    let mut job = bench.job(
        "mounts",
        "mkdir -p /rootfs/proc /rootfs/dev\n\
         cp -a /bin /sbin /lib /lib64 /usr /rootfs/ 2>/dev/null || true\n\
         mount --rbind /proc /rootfs/proc; mount --rbind /dev /rootfs/dev\n\
         chroot /rootfs /bin/sh -c 'test -e /proc/self/status && echo null >/dev/null && echo inside'\n\
         umount -R /rootfs/dev; umount -R /rootfs/proc; ls /rootfs/proc | wc -l",
    );
    job.capabilities = vec!["SYS_ADMIN".to_owned(), "SYS_CHROOT".to_owned(), "MKNOD".to_owned()];
    let result = bench.engine.run(&bench.image, job, &progress()).await.unwrap();
    assert_eq!((result.exit_code, result.log.as_str()), (0, "inside\n0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_at_once_and_leaves_nothing() {
    let bench = Bench::new().await;
    let waiting = async {
        let started = Instant::now();
        while containers("cancelled").is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        bench.trigger.pull(Signal::Terminate);
        started.elapsed()
    };
    let started = Instant::now();
    let (result, waited) = tokio::join!(bench.run("cancelled", "sleep 600"), waiting);
    assert_eq!(Interrupted::find(&result.unwrap_err()).unwrap().exit_code(), 143);
    assert!(started.elapsed() - waited < Duration::from_secs(8));
    assert_eq!(containers("cancelled"), [""; 0]);
    let error = bench.run("cancelled", "true").await.unwrap_err();
    assert!(Interrupted::find(&error).is_some(), "nothing more is started: {error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_also_ends_an_upload_and_a_download() {
    let bench = Bench::new().await;
    let mut job = bench.job("uploading", "true");
    let trigger = &bench.trigger;
    job.input = Box::new(move |writer| {
        let mut archive = tar::Builder::new(writer);
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::MAX >> 20);
        header.set_mode(0o644);
        let endless = std::io::repeat(b'u').take(64 * MIB as u64);
        trigger.pull(Signal::Interrupt);
        Ok(archive.append_data(&mut header, "endless", endless.chain(std::io::repeat(b'u')))?)
    });
    let error = bench.engine.run(&bench.image, job, &progress()).await.unwrap_err();
    assert_eq!(Interrupted::find(&error).unwrap().exit_code(), 130, "{error:#}");
    assert_eq!(containers("uploading"), [""; 0]);

    struct PullsTheTrigger<'a>(&'a Trigger, usize);
    impl Write for PullsTheTrigger<'_> {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.1 += data.len();
            self.0.pull(Signal::Interrupt);
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let bench = Bench::new().await;
    let mut sink = PullsTheTrigger(&bench.trigger, 0);
    let mut job = bench.job("fetching", "truncate -s 1G /large");
    job.outputs = vec![Output { path: "/large".to_owned(), sink: &mut sink }];
    let error = bench.engine.run(&bench.image, job, &progress()).await.unwrap_err();
    assert!(Interrupted::find(&error).is_some(), "{error:#}");
    assert!(sink.1 < 64 * MIB, "{} bytes came after the end was asked for", sink.1);
    assert_eq!(containers("fetching"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_that_was_started_ends_with_the_run() {
    let bench = Bench::new().await;
    let directory = bench.directory.path().to_owned();
    let socket = PathBuf::from(bench.engine.endpoint().to_string().strip_prefix("unix://").unwrap());
    assert_eq!(fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(service_in(&directory).is_some());
    drop(bench.engine);
    assert_eq!(service_in(&directory), None);
    assert_eq!(fixture::names(&directory), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_in_the_middle_is_named_and_nothing_stays() {
    let bench = Bench::new().await;
    let killing = async {
        while containers("dying").is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        kill_process(bench.service(), rustix::process::Signal::KILL).unwrap();
    };
    let (result, ()) = tokio::join!(bench.run("dying", "sleep 600"), killing);
    let message = format!("{:#}", result.unwrap_err());
    assert!(message.contains(&format!("the engine at {} went away during the job \"dying\"", bench.engine.endpoint())));
    assert_eq!(containers("dying"), [""; 0], "{message}");
}

#[test]
#[ignore = "run as a process of its own by other tests"]
fn a_run_that_sleeps() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let code = runtime.block_on(async {
        let bench = Bench::with(Cancellation::on_signals().unwrap(), Cancellation::manual().1).await;
        let own = format!("sleeping-{}", std::process::id());
        let printing = async {
            while containers(&own).is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            println!("asleep in {}", bench.directory.path().display());
        };
        let (result, ()) = tokio::join!(bench.run("sleeping", "sleep 600"), printing);
        Interrupted::find(&result.unwrap_err()).unwrap().exit_code()
    });
    std::process::exit(code.into());
}

#[test]
fn ctrl_c_on_a_terminal_leaves_neither_container_nor_service() {
    let mut run = other_process("engine::a_run_that_sleeps", "asleep in");
    let pid = Pid::from_child(&run);
    let service = service_of(pid);
    assert_ne!(rustix::process::getpgid(Some(service)).unwrap(), pid, "Ctrl-C must not reach the service");
    // As a terminal does it: to everybody in the foreground.
    rustix::process::kill_process_group(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(containers(&format!("sleeping-{}", run.id())), [""; 0]);
    assert!(rustix::process::test_kill_process(service).is_err(), "the service still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_is_removed_by_the_next_and_a_living_runs_is_not() {
    let mut living = other_process("engine::a_run_that_sleeps", "asleep in");
    let mut killed = other_process("engine::a_run_that_sleeps", "asleep in");
    let (living_id, killed_id) = (living.id(), killed.id());
    let of_living = || containers(&format!("sleeping-{}", living_id)).len();
    let of_killed = || containers(&format!("sleeping-{}", killed_id)).len();
    assert_eq!((of_living(), of_killed()), (1, 1));
    killed.kill().unwrap();
    killed.wait().unwrap();
    Bench::new().await;
    assert_eq!((of_living(), of_killed()), (1, 0));
    living.kill().unwrap();
    living.wait().unwrap();
    Bench::new().await;
    assert_eq!((of_living(), of_killed()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_of_a_killed_run_ends_by_itself() {
    let mut killed = other_process("engine::a_run_that_sleeps", "asleep in");
    let service = service_of(Pid::from_child(&killed));
    killed.kill().unwrap();
    killed.wait().unwrap();
    Bench::new().await;
    eventually("the service ends", Duration::from_secs(30), || rustix::process::test_kill_process(service).is_err());
}

/// The podman service that a process has started.
pub fn service_of(process: Pid) -> Pid {
    let is_service = |child: &Pid| {
        let command_line = fs::read(format!("/proc/{}/cmdline", child.as_raw_pid())).unwrap_or_default();
        String::from_utf8_lossy(&command_line).contains("\0service\0")
    };
    children(process).into_iter().find(is_service).expect("the process has started a service")
}

/// The processes that a process started and that still run.
fn children(parent: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task", parent.as_raw_pid());
    let threads = fs::read_dir(path).unwrap().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>())
        .collect()
}

/// A podman service on a TCP port, which ends when this is dropped.
pub struct TcpService {
    pub url: String,
    process: Child,
}

impl TcpService {
    pub fn start() -> Self {
        Self::by(Duration::from_secs(20), |_, url| {
            let mut command = Command::new("podman");
            command.args(["system", "service", "--time=0", url]).stderr(Stdio::null());
            command
        })
    }

    /// The service that a command starts on the port and address it is given, within `limit`.
    pub fn by(limit: Duration, command: impl FnOnce(u16, &str) -> Command) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("tcp://127.0.0.1:{port}");
        let service = TcpService { process: command(port, &url).spawn().unwrap(), url };
        eventually("the service listens", limit, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        service
    }
}

impl Drop for TcpService {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), rustix::process::Signal::TERM);
        // unshare(1) does not listen to that, and ends its child when it is killed.
        for _ in 0..50 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_a_tcp_port_serves_as_a_remote_engine() {
    let service = TcpService::start();
    let url = &service.url;
    let wish = EngineChoice { container_host: Some(url.clone()), ..EngineChoice::default() };
    let (cancellation, _trigger) = Cancellation::manual();
    let surroundings = EngineOptions { wish, ..EngineOptions::default() };
    let engine = Engine::open(&surroundings, &cancellation, &progress()).await.unwrap();
    assert!(engine.to_string().ends_with(&format!(" at {url} ({}), named by CONTAINER_HOST", rights())), "{engine}");
    let image = engine.ensure_image(&builder(), &progress()).await.unwrap();
    let mut fetched = Vec::new();
    let job = Job {
        name: "remote",
        command: ["/bin/sh", "-c", "cat /in.txt >/out.txt; echo done"].map(str::to_owned).to_vec(),
        environment: BTreeMap::new(),
        capabilities: Vec::new(),
        memory_limit_bytes: None,
        input: Box::new(|writer| {
            let mut archive = tar::Builder::new(writer);
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            archive.append_data(&mut header, "in.txt", &b"abc"[..])?;
            Ok(archive.finish()?)
        }),
        outputs: vec![Output { path: "/out.txt".to_owned(), sink: &mut fetched }],
    };
    let result = engine.run(&image, job, &progress()).await.unwrap();
    assert_eq!((result.exit_code, result.log.as_str(), fetched.as_slice()), (0, "done\n", &b"abc"[..]));
}

fn rights() -> &'static str {
    if fixture::is_root() { "root" } else { "rootless" }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_engine_the_error_lists_what_was_tried() {
    let directory = tempfile::tempdir().unwrap();
    let (cancellation, _trigger) = Cancellation::manual();
    let wish =
        EngineChoice { runtime_directory: Some(directory.path().to_owned()), user_id: 1000, ..EngineChoice::default() };
    let surroundings = EngineOptions { wish, ..EngineOptions::default() };
    // The system's socket may exist on the machine that runs this test; the other two do not.
    if let Err(error) = Engine::find(&surroundings, &cancellation).await {
        let tried = &error.downcast_ref::<NoEngine>().unwrap().tried;
        assert!(
            tried[0].0.starts_with(&format!("unix://{}/podman/podman.sock", directory.path().display())),
            "{tried:?}"
        );
        assert_eq!(tried.last().unwrap().1, "the program podman is not installed");
    }
    let wish = EngineChoice { docker_host: Some("unix:///nonexistent.sock".to_owned()), ..EngineChoice::default() };
    let surroundings = EngineOptions { wish, podman: find("podman").unwrap(), ..EngineOptions::default() };
    let error = Engine::find(&surroundings, &cancellation).await.unwrap_err();
    let tried = &error.downcast_ref::<NoEngine>().unwrap().tried;
    assert_eq!(tried.len(), 1, "an endpoint that was named is not replaced by another: {tried:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_pulls_and_absent_images_say_what_to_do() {
    let bench = Bench::new().await;
    let digest = ocinitrd_format::digest::Digest::of(b"an image that nobody made");
    for (repository, expected) in [
        ("localhost:1/nobody/serves", "pull refused: localhost:1 cannot be reached from the engine"),
        ("localhost/not/made", "is not in this engine's storage"),
    ] {
        let reference: ImageReference = format!("{repository}@{digest}").parse().unwrap();
        let message = format!("{:#}", bench.engine.ensure_image(&reference, &progress()).await.unwrap_err());
        assert!(message.contains(expected) && message.contains(repository), "{message}");
    }
    assert_eq!(bench.image.digest, builder().digest());
}
