//! One difference: where it is, in which field, and both values; as JSON and as a line of text.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use ocinitrd_format::compress::Codec;
use ocinitrd_format::text::one_line;

/// The field of a difference whose subject is only on one side.
const PRESENCE: &str = "presence";
/// The field of an entry whose data differs.
pub(super) const CONTENT: &str = "content";
/// The field of a segment that has the same entries in other bytes.
pub(super) const BYTES: &str = "bytes";
/// The field of a segment or the initrd's end: how many zeros there are before it.
pub(super) const PADDING: &str = "padding_bytes";

/// Something that is not the same in A and B. Sizes and offsets are in bytes, modes are octal text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The version of the kernel that it is about, where one side has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What differs.
    #[serde(flatten)]
    pub subject: Subject,
    /// In what: `mode`, `size_bytes`, ...; `presence` if it is only on one side.
    pub field: String,
    /// The value in A; null if there is none.
    pub a: Value,
    /// The value in B; null if there is none.
    pub b: Value,
    /// The first byte that differs: of an entry's content, of a segment, or, where padding differs, of the initrd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Why the bytes of a segment differ whose entries do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// What a difference is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum Subject {
    /// A key of the manifest, which is the field.
    Manifest,
    /// A package of the base.
    Package {
        /// `NAME.ARCH`.
        name: String,
    },
    /// A kernel; its version stands beside it, except where both sides have one only.
    Kernel,
    /// A package of the kernel layer.
    KernelPackage {
        /// `NAME.ARCH`.
        name: String,
    },
    /// A file that the manifests list.
    Output {
        /// The path relative to the output directory.
        path: String,
    },
    /// A segment that the manifests list, where the initrds themselves were not compared.
    RecordedSegment {
        /// `base`, `modules`, ...
        name: String,
    },
    /// A segment of the initrd.
    Segment(SegmentPlace),
    /// An entry of a segment.
    Entry {
        /// The segment it is in.
        #[serde(flatten)]
        segment: SegmentPlace,
        /// The path, escaped; `.` is the root.
        path: String,
        /// 1, or more if the segment has the path several times.
        occurrence: usize,
    },
    /// The initrd as a whole.
    Initrd,
}

/// A segment on one side or both.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct SegmentPlace {
    /// Its position in A, counted from 1; null if it is not there.
    pub segment_a: Option<usize>,
    /// Its position in B.
    pub segment_b: Option<usize>,
    /// How it is compressed in A.
    pub codec_a: Option<Codec>,
    /// How it is compressed in B.
    pub codec_b: Option<Codec>,
}

/// Why bytes differ though the entries are the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The archive is the same, compressed with another codec, level or compressor.
    Compression,
    /// The entries are in another order.
    Order,
    /// What the entries are not compared by: inode numbers, counts of links, how paths are spelled, zeros between.
    Headers,
}

impl Difference {
    /// A field with two values.
    pub(super) fn new(subject: Subject, field: &str, a: impl Into<Value>, b: impl Into<Value>) -> Self {
        let (a, b) = (a.into(), b.into());
        Difference { kernel: None, subject, field: field.to_owned(), a, b, offset: None, cause: None }
    }

    /// The same, said of the kernel of that version.
    pub(super) fn of_kernel(self, version: Option<&str>) -> Self {
        Difference { kernel: version.map(str::to_owned), ..self }
    }

    /// What is only on one side, with a word on it.
    pub(super) fn presence(subject: Subject, a: Option<String>, b: Option<String>) -> Self {
        Difference::new(subject, PRESENCE, a, b)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.subject, self.kernel.as_deref().map(one_line)) {
            (Subject::Manifest, _) => {}
            (Subject::Kernel, Some(version)) => write!(formatter, "kernel {version}: ")?,
            (subject, Some(version)) => write!(formatter, "kernel {version}, {subject}: ")?,
            (subject, None) => write!(formatter, "{subject}: ")?,
        }
        let offset = self.offset.unwrap_or_default();
        let (a, b) = (Shown(&self.a), Shown(&self.b));
        match self.field.as_str() {
            PRESENCE if self.b.is_null() => write!(formatter, "only in A ({a})"),
            PRESENCE => write!(formatter, "only in B ({b})"),
            CONTENT => write!(formatter, "content differs from byte {offset} on"),
            BYTES => {
                write!(formatter, "the same entries in other bytes, from its byte {offset} on")?;
                self.cause.map_or(Ok(()), |cause| write!(formatter, ": {cause}"))
            }
            PADDING => write!(formatter, "zeros before it {a} -> {b} bytes, from byte {offset} of the initrd on"),
            // Digests are written with the name of their algorithm.
            "sha256" => write!(formatter, "digest {a} -> {b}"),
            field => match field.strip_suffix("_bytes") {
                Some(field) => write!(formatter, "{} {a} -> {b} bytes", one_line(field).replace('_', " ")),
                None if matches!(self.subject, Subject::Manifest) => {
                    write!(formatter, "{}: {a} -> {b}", one_line(field))
                }
                None => write!(formatter, "{} {a} -> {b}", one_line(field).replace('_', " ")),
            },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Manifest => formatter.write_str("manifest"),
            Subject::Package { name } => write!(formatter, "package {}", one_line(name)),
            Subject::Kernel => formatter.write_str("kernel"),
            Subject::KernelPackage { name } => write!(formatter, "kernel package {}", one_line(name)),
            Subject::Output { path } => write!(formatter, "output {}", one_line(path)),
            Subject::RecordedSegment { name } => write!(formatter, "segment {}", one_line(name)),
            Subject::Segment(place) => write!(formatter, "{place}"),
            Subject::Entry { segment, path, occurrence: 1 } => write!(formatter, "{segment}, entry {}", one_line(path)),
            Subject::Entry { segment, path, occurrence } => {
                write!(formatter, "{segment}, entry {} (no. {occurrence} of that path)", one_line(path))
            }
            Subject::Initrd => formatter.write_str("end of the initrd"),
        }
    }
}

impl fmt::Display for SegmentPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("segment ")?;
        write_both(formatter, self.segment_a, self.segment_b)?;
        formatter.write_str(" (")?;
        write_both(formatter, self.codec_a, self.codec_b)?;
        formatter.write_str(")")
    }
}

/// One value where both sides agree or one has none, else both.
fn write_both<T: fmt::Display + PartialEq>(
    formatter: &mut fmt::Formatter<'_>,
    a: Option<T>,
    b: Option<T>,
) -> fmt::Result {
    match (a, b) {
        (Some(a), Some(b)) if a != b => write!(formatter, "{a} -> {b}"),
        (a, b) => a.or(b).map_or(Ok(()), |value| write!(formatter, "{value}")),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Cause::Compression => "compressed otherwise",
            Cause::Order => "in another order",
            Cause::Headers => "other inode numbers, counts of links, spellings of paths or padding",
        })
    }
}

/// A value as text: strings without quotes.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => formatter.write_str("none"),
            Value::String(text) => write!(formatter, "{}", one_line(text)),
            other => formatter.write_str(&one_line(&other.to_string())),
        }
    }
}
