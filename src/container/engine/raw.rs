//! One kind of HTTP request without bollard, for answers whose words or headers bollard has no room for: a GET whose whole
//! body is wanted, in HTTP/1.0, so that the connection's end is the body's end (RFC 1945).

use std::fmt::Write as _;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::endpoint::Endpoint;

/// What an engine answers.
#[derive(Debug, Eq, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header's lines, without the first.
    headers: String,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first header of that name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.headers.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// The answer to `GET path`.
///
/// # Errors
/// Fails when the engine does not answer or answers no HTTP.
pub async fn get(endpoint: &Endpoint, path: &str) -> io::Result<Answer> {
    match endpoint {
        Endpoint::Unix(socket) => exchange(UnixStream::connect(socket).await?, path).await,
        Endpoint::Tcp(address) => exchange(TcpStream::connect(address.as_str()).await?, path).await,
    }
}

async fn exchange(mut connection: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<Answer> {
    connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    split(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn split(answer: &[u8]) -> Option<Answer> {
    const END_OF_HEADERS: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END_OF_HEADERS.len()).position(|window| window == END_OF_HEADERS)?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let (status_line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status_line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, headers: headers.to_owned(), body: answer[end + END_OF_HEADERS.len()..].to_vec() })
}

/// Encodes a query's value (RFC 3986: everything but the unreserved characters).
pub fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => write!(encoded, "%{byte:02X}").expect("writing to a String does not fail"),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_body_is_what_follows_the_headers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().to_string());
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; b"GET /x?y=z HTTP/1.0\r\nHost: engine\r\n\r\n".len()];
            connection.read_exact(&mut request).await.unwrap();
            connection.write_all(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nline\r\n\r\nmore").await.unwrap();
            request
        });
        let answer = get(&endpoint, "/x?y=z").await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (404, b"line\r\n\r\nmore".as_slice()));
        assert_eq!((answer.header("a"), answer.header("line")), (Some("b"), None));
        assert!(server.await.unwrap().starts_with(b"GET /x?y=z HTTP/1.0\r\n"));
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for answer in ["", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(split(answer.as_bytes()), None, "{answer}");
        }
    }

    #[test]
    fn a_query_value_is_encoded() {
        assert_eq!(percent_encode(r#"{"label":["a.b-c"]}"#), "%7B%22label%22%3A%5B%22a.b-c%22%5D%7D");
    }
}
