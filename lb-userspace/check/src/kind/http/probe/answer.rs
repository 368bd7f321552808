//! An HTTP/1.1 answer as it is read from a connection (RFC 9112), with the tolerance that the RFC asks of a client.
//!
//! Invariant: what is made of an answer depends on its bytes alone, never on how the network has cut them up. So a
//! backend whose answer stays the same does not flap.

#[cfg(test)]
mod tests;

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::probe::{Miss, io_words};

/// Most that the answer's head may take, in bytes, with the interim answers before it.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// The longest line with the size of a chunk, in bytes.
const MAX_SIZE_LINE: usize = 256;
/// What every status line begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// An answer whose head has been read.
#[derive(Debug)]
pub(super) struct Answer<R> {
    reader: BufReader<R>,
    status: u16,
    body: Body,
}

/// How much of the body is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Bytes(u64),
    /// So many bytes of a chunk, and other chunks; `first` before the first one.
    Chunks {
        left: u64,
        first: bool,
    },
    UntilClosed,
}

impl<R: AsyncRead + Unpin> Answer<R> {
    /// Reads the head of the final answer; interim ones (1xx) before it say nothing.
    pub(super) async fn read(stream: R) -> Result<Self, Miss> {
        let mut reader = BufReader::new(stream);
        let mut left = MAX_HEAD;
        loop {
            let status = status_line(&mut reader, &mut left).await?;
            let fields = fields(&mut reader, &mut left).await?;
            if !(100..200).contains(&status) || status == 101 {
                let body = fields.body(status)?;
                return Ok(Self { reader, status, body });
            }
        }
    }

    pub(super) const fn status(&self) -> u16 {
        self.status
    }

    /// Appends what comes next of the body to `seen`, which takes `most` bytes; false at the body's end.
    pub(super) async fn read_body(&mut self, seen: &mut Vec<u8>, most: usize) -> Result<bool, Miss> {
        if let Body::Chunks { left: 0, first } = self.body {
            if !first {
                self.end_of_chunk().await?;
            }
            self.body = match self.chunk_size().await? {
                0 => Body::Bytes(0),
                left => Body::Chunks { left, first: false },
            };
        }
        let wanted = match self.body {
            Body::Bytes(left) | Body::Chunks { left, .. } => usize::try_from(left).unwrap_or(usize::MAX),
            Body::UntilClosed => usize::MAX,
        };
        if wanted == 0 {
            return Ok(false);
        }
        let data = self.reader.fill_buf().await.map_err(|error| io_miss(&error))?;
        let taken = data.len().min(wanted).min(most.saturating_sub(seen.len()));
        seen.extend_from_slice(&data[..taken]);
        let closed = data.is_empty();
        self.reader.consume(taken);
        match &mut self.body {
            Body::UntilClosed => return Ok(!closed),
            _ if closed => return Err(cut_short()),
            Body::Bytes(left) | Body::Chunks { left, .. } => *left -= taken as u64,
        }
        Ok(true)
    }

    /// RFC 9112 §7.1: the size in hexadecimal digits, and extensions that mean nothing here.
    async fn chunk_size(&mut self) -> Result<u64, Miss> {
        let mut left = MAX_SIZE_LINE;
        let line = line(&mut self.reader, &mut left).await.map_err(Bad::miss)?;
        let size = line
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let size = std::str::from_utf8(size)
            .ok()
            .filter(|size| !size.starts_with('+'));
        size.and_then(|size| u64::from_str_radix(size, 16).ok())
            .ok_or_else(not_http)
    }

    async fn end_of_chunk(&mut self) -> Result<(), Miss> {
        let mut left = MAX_SIZE_LINE;
        let end = line(&mut self.reader, &mut left).await.map_err(Bad::miss)?;
        if end.is_empty() { Ok(()) } else { Err(not_http()) }
    }
}

/// Why there is no line.
enum Bad {
    Io(io::Error),
    CutShort,
    TooLong,
}

impl Bad {
    /// Outside of a head.
    fn miss(self) -> Miss {
        match self {
            Self::Io(error) => io_miss(&error),
            Self::CutShort => cut_short(),
            Self::TooLong => not_http(),
        }
    }

    fn miss_in_head(self) -> Miss {
        match self {
            Self::TooLong => {
                Miss::Failure(format!("http: the answer's head exceeds {} KiB", MAX_HEAD / 1024))
            }
            other => other.miss(),
        }
    }
}

/// The next line without its end, which may be a lone LF (RFC 9112 §2.2). It draws on `left`, in bytes.
async fn line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>, left: &mut usize) -> Result<Vec<u8>, Bad> {
    let mut line = Vec::new();
    let mut bounded = reader.take(*left as u64);
    *left -= bounded.read_until(b'\n', &mut line).await.map_err(Bad::Io)?;
    match line.pop() {
        Some(b'\n') => {}
        _ if *left == 0 => return Err(Bad::TooLong),
        _ => return Err(Bad::CutShort),
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// Reads the status line; what speaks another protocol is told at its first byte that does not fit.
async fn status_line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>, left: &mut usize) -> Result<u16, Miss> {
    let mut matched = 0;
    while matched < VERSION.len() {
        let data = reader.fill_buf().await.map_err(|error| io_miss(&error))?;
        let Some(&byte) = data.first() else {
            return Err(cut_short());
        };
        reader.consume(1);
        *left = left.checked_sub(1).ok_or_else(|| Bad::TooLong.miss_in_head())?;
        let is_empty_line = matched == 0 && matches!(byte, b'\r' | b'\n');
        if !is_empty_line && byte != VERSION[matched] {
            return Err(not_http());
        }
        matched += usize::from(!is_empty_line);
    }
    let rest = line(reader, left).await.map_err(Bad::miss_in_head)?;
    code(&rest).ok_or_else(not_http)
}

/// The code in what follows `HTTP/1.`: a digit, blanks, three digits, and perhaps a reason.
fn code(rest: &[u8]) -> Option<u16> {
    let [b'0'..=b'9', rest @ ..] = rest else {
        return None;
    };
    let code = rest.trim_ascii_start();
    if code.len() == rest.len() {
        return None;
    }
    let (code, reason) = code.split_at_checked(3)?;
    let ends = reason.first().is_none_or(|byte| is_blank(*byte));
    let is_code = ends && code.iter().all(u8::is_ascii_digit);
    is_code.then(|| std::str::from_utf8(code).ok()?.parse().ok())?
}

/// The fields that say how long the body is.
#[derive(Debug, Default)]
struct Fields {
    length: Option<Vec<u8>>,
    encoding: Option<Vec<u8>>,
}

/// Reads the header fields. Blanks before the colon do not count, and lines that begin with blanks go on with the field
/// before (RFC 9112 §5.1, §5.2), or mean nothing where there is none (§2.2).
async fn fields<R: AsyncRead + Unpin>(reader: &mut BufReader<R>, left: &mut usize) -> Result<Fields, Miss> {
    let mut fields = Fields::default();
    let mut last: Option<&mut Vec<u8>> = None;
    loop {
        let line = line(reader, left).await.map_err(Bad::miss_in_head)?;
        let Some(first) = line.first() else {
            return Ok(fields);
        };
        if is_blank(*first) {
            if let Some(value) = &mut last {
                value.push(b' ');
                value.extend_from_slice(&line);
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(not_http)?;
        let (name, value) = (line[..colon].trim_ascii_end(), &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(not_http());
        }
        let known = if name.eq_ignore_ascii_case(b"content-length") {
            &mut fields.length
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            &mut fields.encoding
        } else {
            last = None;
            continue;
        };
        // Several fields of one name are one list (RFC 9110 §5.3).
        let list = match known {
            Some(list) => {
                list.push(b',');
                list
            }
            None => known.insert(Vec::new()),
        };
        list.extend_from_slice(value);
        last = Some(list);
    }
}

impl Fields {
    /// RFC 9112 §6.3.
    fn body(&self, status: u16) -> Result<Body, Miss> {
        if matches!(status, 100..200 | 204 | 304) {
            return Ok(Body::Bytes(0));
        }
        if let Some(encoding) = &self.encoding {
            let last = elements(encoding).last().unwrap_or_default();
            let is_chunked = last.eq_ignore_ascii_case(b"chunked");
            let chunks = Body::Chunks { left: 0, first: true };
            return Ok(if is_chunked { chunks } else { Body::UntilClosed });
        }
        let Some(length) = &self.length else {
            return Ok(Body::UntilClosed);
        };
        let mut lengths = elements(length).map(number);
        let first = lengths.next().flatten().ok_or_else(not_http)?;
        let agree = lengths.all(|other| other == Some(first));
        if agree {
            Ok(Body::Bytes(first))
        } else {
            Err(not_http())
        }
    }
}

fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What names are made of (RFC 9110 §5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(
            byte,
            b'"' | b'('
                | b')'
                | b','
                | b'/'
                | b':'
                | b';'
                | b'<'
                | b'='
                | b'>'
                | b'?'
                | b'@'
                | b'['
                | b'\\'
                | b']'
                | b'{'
                | b'}'
        )
}

pub(super) fn io_miss(error: &io::Error) -> Miss {
    Miss::Failure(format!("http: {}", io_words(error)))
}

fn cut_short() -> Miss {
    Miss::Failure("http: the backend closed the connection before a complete answer".to_owned())
}

fn not_http() -> Miss {
    Miss::Failure("http: the answer is not HTTP/1.1".to_owned())
}
