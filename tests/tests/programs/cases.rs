//! The matrix: plain messages, and ones that two parsers could read differently.

/// One conversation.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    text: &'static str,
    /// Whether nothing is wrong with it, so that it has to pass.
    pub(crate) is_plain: bool,
}

impl Case {
    /// The bytes, with the sentinel behind them.
    pub(crate) fn bytes(&self, index: usize) -> Vec<u8> {
        let sentinel = "GET /SENTINEL HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let text = match self.text.strip_prefix("raw:") {
            Some(raw) => raw.to_owned(),
            None => format!("POST /a HTTP/1.1\r\nHost: x\r\n{}", self.text),
        };
        let key = "\nX-Api-Key: placeholder\r\n";
        let with_key = |text: &str| text.replacen('\n', key, 1);
        let text = if self.text.starts_with("raw:") {
            text
        } else {
            with_key(&text)
        };
        let whole = text + &with_key(sentinel);
        whole
            .replace("KEY:", "X-Api-Key: placeholder")
            .replace("/a", &format!("{}a", mark(index)))
            .replace("/SENTINEL", &format!("{}sentinel", mark(index)))
            .into_bytes()
    }

    /// How many requests it holds, the sentinel included, if it is plain.
    pub(crate) fn requests(&self) -> usize {
        2 + self.text.matches("/a HTTP/1").count()
    }
}

/// What tells a case's requests from the others' in an upstream.
pub(crate) fn mark(index: usize) -> String {
    format!("/case-{index:03}/")
}

pub(crate) fn all() -> Vec<Case> {
    let plain = PLAIN.iter().map(|(name, text)| Case {
        name,
        text,
        is_plain: true,
    });
    let odd = HEADS.iter().chain(CHUNKS).chain(LINES);
    let odd = odd.map(|(name, text)| Case {
        name,
        text,
        is_plain: false,
    });
    plain.chain(odd).collect()
}

type Named = (&'static str, &'static str);

const PLAIN: &[Named] = &[
    ("no body", "\r\n"),
    ("length", "Content-Length: 3\r\n\r\nabc"),
    ("length of zero", "Content-Length: 0\r\n\r\n"),
    (
        "chunks",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    ),
    (
        "a request within a body",
        "Content-Length: 18\r\n\r\nGET /x HTTP/1.1\r\n\r",
    ),
    (
        "two requests at once",
        "Content-Length: 3\r\n\r\nabcPOST /a HTTP/1.1\r\nHost: x\r\nKEY:\r\nContent-Length: 2\r\n\r\nde",
    ),
];

/// What follows `POST /a HTTP/1.1`, `Host` and the key.
const HEADS: &[Named] = &[
    (
        "length, then chunks",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks, then length",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "the same length twice",
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    ),
    (
        "two lengths",
        "Content-Length: 0\r\nContent-Length: 3\r\n\r\nabc",
    ),
    ("a list of one length", "Content-Length: 3, 3\r\n\r\nabc"),
    ("a list of two lengths", "Content-Length: 0, 3\r\n\r\nabc"),
    ("length with plus", "Content-Length: +3\r\n\r\nabc"),
    ("negative length", "Content-Length: -3\r\n\r\nabc"),
    ("length with leading zero", "Content-Length: 03\r\n\r\nabc"),
    ("hexadecimal length", "Content-Length: 0x3\r\n\r\nabc"),
    ("length with a letter", "Content-Length: 3a\r\n\r\nabc"),
    (
        "length with a space within",
        "Content-Length: 3 0\r\n\r\nabc",
    ),
    ("empty length", "Content-Length:\r\n\r\nabc"),
    (
        "length that overflows",
        "Content-Length: 18446744073709551619\r\n\r\nabc",
    ),
    (
        "length with a vertical tab",
        "Content-Length: \u{b}3\r\n\r\nabc",
    ),
    (
        "space before the colon of a length",
        "Content-Length : 3\r\n\r\nabc",
    ),
    ("folded length", "Content-Length:\r\n 3\r\n\r\nabc"),
    (
        "unknown coding",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice in a list",
        "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in two lines",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked and identity in two lines",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "another coding before chunked",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "identity with a length",
        "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    ),
    (
        "chunked with a parameter",
        "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in quotes",
        "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    ),
    (
        "a tab before chunked",
        "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a vertical tab before chunked",
        "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a byte behind chunked",
        "Transfer-Encoding: chunked\u{1}\r\n\r\n0\r\n\r\n",
    ),
    (
        "space before the colon of chunked",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in a folded line",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in the fold of another line",
        "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    ),
    (
        "chunked behind a bare line feed",
        "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked behind a bare carriage return",
        "X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked with an underscore",
        "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked with a NUL in its name",
        "Transfer-\0Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked named in Connection",
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "length named in Connection",
        "Connection: content-length\r\nContent-Length: 3\r\n\r\nabc",
    ),
    ("NUL in a value", "X: a\0b\r\n\r\n"),
    ("NUL in a name", "X\0: a\r\n\r\n"),
    ("no colon", "X\r\n\r\n"),
    ("no name", ": a\r\n\r\n"),
    ("a name with a space", "X Y: a\r\n\r\n"),
    ("a carriage return too many", "X: a\r\r\n\r\n"),
    ("Host twice", "Host: y\r\n\r\n"),
    (
        "an upgrade by POST with a request behind it",
        "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ),
    (
        "an upgrade with a body",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
    ),
];

/// What follows the same head, with a body in chunks.
const CHUNKS: &[Named] = &[
    (
        "chunk extension",
        "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk extension with a line feed",
        "Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "space behind a chunk's size",
        "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
    ),
    (
        "space before a chunk's size",
        "Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk's size with 0x",
        "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk's size with plus",
        "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk's size with an underscore",
        "Transfer-Encoding: chunked\r\n\r\n0_3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk's size that overflows",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk's size with many zeros",
        "Transfer-Encoding: chunked\r\n\r\n00000000000000000003\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "no chunk's size",
        "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk longer than its size",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ),
    (
        "chunk without a line end",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
    ),
    (
        "bare line feed behind a chunk's size",
        "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    ),
    (
        "bare line feed behind a chunk",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
    ),
    (
        "bare line feed at the end",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
    ),
    (
        "bare carriage return behind a chunk's size",
        "Transfer-Encoding: chunked\r\n\r\n3\rabc\r\n0\r\n\r\n",
    ),
    (
        "length in a trailer",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
    ),
    (
        "folded trailer",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n b\r\n\r\n",
    ),
];

/// Whole conversations.
const LINES: &[Named] = &[
    ("line feeds only", "raw:GET /a HTTP/1.1\nHost: x\nKEY:\n\n"),
    (
        "a bare line feed behind the request line",
        "raw:GET /a HTTP/1.1\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "a bare line feed at the end of the head",
        "raw:GET /a HTTP/1.1\r\nHost: x\r\nKEY:\r\n\n",
    ),
    (
        "an empty line before",
        "raw:\r\nGET /a HTTP/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "a line feed before",
        "raw:\nGET /a HTTP/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "a space before the request line",
        "raw: GET /a HTTP/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "a space before the first header",
        "raw:GET /a HTTP/1.1\r\n Host: x\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "two spaces before the target",
        "raw:GET  /a HTTP/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "tabs in the request line",
        "raw:GET\t/a\tHTTP/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "a space in the target",
        "raw:GET /a b HTTP/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "a byte that is not ASCII in the target",
        "raw:GET /a\u{e4} HTTP/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    ("no version", "raw:GET /a\r\nHost: x\r\nKEY:\r\n\r\n"),
    (
        "a version in small letters",
        "raw:GET /a http/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    ("HTTP/1.2", "raw:GET /a HTTP/1.2\r\nHost: x\r\nKEY:\r\n\r\n"),
    (
        "HTTP/2.0 in text",
        "raw:GET /a HTTP/2.0\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "HTTP/01.1",
        "raw:GET /a HTTP/01.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "chunks in HTTP/1.0",
        "raw:POST /a HTTP/1.0\r\nHost: x\r\nKEY:\r\nConnection: keep-alive\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("no Host", "raw:GET /a HTTP/1.1\r\nKEY:\r\n\r\n"),
    (
        "absolute form of another host",
        "raw:GET http://evil.example/a HTTP/1.1\r\nHost: x\r\nKEY:\r\n\r\n",
    ),
    (
        "an upgrade with a request behind it",
        "raw:GET /a HTTP/1.1\r\nHost: x\r\nKEY:\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
    ),
    (
        "GET with a body",
        "raw:GET /a HTTP/1.1\r\nHost: x\r\nKEY:\r\nContent-Length: 3\r\n\r\nabc",
    ),
    (
        "a method in small letters",
        "raw:post /a HTTP/1.1\r\nHost: x\r\nKEY:\r\nContent-Length: 3\r\n\r\nabc",
    ),
];
