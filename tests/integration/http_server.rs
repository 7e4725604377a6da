//! An HTTP/1.1 server for tests: serves a directory, with ranges, misbehaves on request and remembers what was asked.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How one answer goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status and no body.
    Status(u16),
    /// The same with header lines, each ended by `\r\n`.
    StatusWith(u16, String),
    /// A redirection to this URL.
    Redirect(String),
    /// A web page with status 200.
    Html,
    /// These bytes instead of the file, with status 200.
    Bytes(Vec<u8>),
    /// The connection ends after so many bytes of the body.
    CutAfter(usize),
    /// Nothing more comes after so many bytes of the body, but the connection stays.
    StallAfter(usize),
    /// The whole file, whatever range was asked for.
    WithoutRanges,
    /// A body without a length that never ends, as fast as it is taken.
    Endless,
    /// A body of this length, or without one, of which a byte comes every 20 ms.
    Trickle(Option<usize>),
    /// Headers that never end.
    EndlessHeaders,
    /// Headers of which a byte comes every 20 ms.
    TrickleHeaders,
    /// A length, and nothing behind it.
    Announced(u64),
}

/// A request that was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    once: BTreeMap<String, VecDeque<Fault>>,
    always: BTreeMap<String, Fault>,
    requests: Vec<Request>,
    content_types: BTreeMap<String, String>,
    sent_bytes: u64,
}

pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Serves `directory` on a port of its own until dropped.
    pub fn start(directory: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            stopped: Arc::new(AtomicBool::new(false)),
        };
        let (state, stopped, directory) = (server.state.clone(), server.stopped.clone(), directory.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (state, stopped, directory) = (state.clone(), stopped.clone(), directory.clone());
                thread::spawn(move || answer(&stream, &directory, &state, &stopped));
            }
        });
        server
    }

    /// `http://127.0.0.1:PORT` and `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next answer for `path` goes wrong; further calls are for the answers after it.
    pub fn fail_once(&self, path: &str, fault: Fault) {
        self.state.lock().unwrap().once.entry(path.to_owned()).or_default().push_back(fault);
    }

    /// All answers for `path` go wrong, or for all paths below it if it ends with a slash.
    pub fn fail_always(&self, path: &str, fault: Fault) {
        self.state.lock().unwrap().always.insert(path.to_owned(), fault);
    }

    /// Answers for `path` are right again.
    pub fn heal(&self, path: &str) {
        self.state.lock().unwrap().always.remove(path);
    }

    /// Answers for `path` say that they are of this type.
    pub fn answer_with(&self, path: &str, content_type: &str) {
        self.state.lock().unwrap().content_types.insert(path.to_owned(), content_type.to_owned());
    }

    /// How much answers without an end have sent.
    pub fn sent_bytes(&self) -> u64 {
        self.state.lock().unwrap().sent_bytes
    }

    /// What was asked since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn fault(&mut self, path: &str) -> Option<Fault> {
        if let Some(fault) = self.once.get_mut(path).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let matches = |prefix: &String| prefix == path || prefix.ends_with('/') && path.starts_with(prefix.as_str());
        self.always.iter().find(|(prefix, _)| matches(prefix)).map(|(_, fault)| fault.clone())
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
        .collect();
    let header = |name: &str| headers.get(name).cloned();
    Some(Request { path, range: header("range"), authorization: header("authorization") })
}

fn answer(stream: &TcpStream, directory: &Path, state: &Mutex<State>, stopped: &AtomicBool) {
    let Some(request) = read_request(stream) else { return };
    let (fault, headers) = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        let content_type = state.content_types.get(&request.path);
        let headers = content_type.map(|content_type| format!("Content-Type: {content_type}\r\n")).unwrap_or_default();
        (state.fault(&request.path), headers)
    };
    let mut file: PathBuf = directory.join(request.path.trim_start_matches('/'));
    if request.path.ends_with('/') {
        file.push("index.html");
    }
    let body = fs::read(file).ok();
    // A client may go away whenever it likes.
    let _ = match (fault, body) {
        (Some(Fault::Status(status)), _) => send(stream, &format!("{status} Fault"), "", b""),
        (Some(Fault::StatusWith(status, headers)), _) => send(stream, &format!("{status} Fault"), &headers, b""),
        (Some(Fault::Redirect(url)), _) => send(stream, "302 Found", &format!("Location: {url}\r\n"), b""),
        (Some(Fault::Html), _) => send(
            stream,
            "200 OK",
            "Content-Type: text/html; charset=utf-8\r\n",
            b"<!DOCTYPE html><html><title>Log in</title></html>",
        ),
        (Some(Fault::Endless), _) => send_for_ever(stream, "\r\n", &[b'x'; 4096], None, state, stopped),
        (Some(Fault::Trickle(length)), _) => {
            let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
            send_for_ever(stream, &format!("{length}\r\n"), b"x", TRICKLE, state, stopped)
        }
        (Some(Fault::EndlessHeaders), _) => send_for_ever(stream, "", b"X-Header: x\r\n", None, state, stopped),
        (Some(Fault::TrickleHeaders), _) => send_for_ever(stream, "X-Header: ", b"x", TRICKLE, state, stopped),
        (Some(Fault::Announced(length)), _) => {
            let mut stream = stream;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
        }
        (Some(Fault::Bytes(bytes)), _) => send(stream, "200 OK", &headers, &bytes),
        (_, None) => send(stream, "404 Not Found", "", b""),
        (Some(Fault::WithoutRanges), Some(body)) => send(stream, "200 OK", &headers, &body),
        (fault, Some(body)) => send_range(stream, &request, &headers, &body, fault, stopped),
    };
}

const TRICKLE: Option<Duration> = Some(Duration::from_millis(20));

/// Sends the same again and again until the client goes away; what was sent is counted.
fn send_for_ever(
    mut stream: &TcpStream,
    start: &str,
    piece: &[u8],
    pause: Option<Duration>,
    state: &Mutex<State>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n{start}")?;
    while !stopped.load(Ordering::Relaxed) {
        stream.write_all(piece)?;
        state.lock().unwrap().sent_bytes += piece.len() as u64;
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    }
    Ok(())
}

fn send(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}

fn send_range(
    mut stream: &TcpStream,
    request: &Request,
    headers: &str,
    body: &[u8],
    fault: Option<Fault>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let start = request.range.as_ref().map(|range| {
        range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).unwrap().parse::<usize>().unwrap()
    });
    let (status, range, rest) = match start {
        None => ("200 OK", String::new(), body),
        Some(start) if start < body.len() => {
            let range = format!("Content-Range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len());
            ("206 Partial Content", range, &body[start..])
        }
        Some(_) => return send(stream, "416 Range Not Satisfiable", "", b""),
    };
    let length = rest.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}{range}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    match fault {
        Some(Fault::CutAfter(count)) => stream.write_all(&rest[..count.min(length)]),
        Some(Fault::StallAfter(count)) => {
            stream.write_all(&rest[..count.min(length)])?;
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
        _ => stream.write_all(rest),
    }
}
