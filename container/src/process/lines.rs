//! Lines of standard input, whatever is in them.

use std::io;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, LinesCodec, LinesCodecError};

/// Lines, among them those that are too long or not Unicode: an error of the
/// decoder itself would end the stream, and lose the lines behind it.
#[derive(Debug)]
pub(crate) struct Lines(LinesCodec);

impl Lines {
    pub(crate) fn up_to(max_bytes: usize) -> Self {
        Self(LinesCodec::new_with_max_length(max_bytes))
    }
}

impl Decoder for Lines {
    type Item = Result<String, LinesCodecError>;
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok(self.0.decode(bytes).transpose())
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        Ok(self.0.decode_eof(bytes).transpose())
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;
    use tokio_util::codec::FramedRead;

    use super::*;

    #[tokio::test]
    async fn a_line_that_cannot_be_read_does_not_end_the_others() {
        let bytes = &b"one\n\xff\ntwo\nfar too long\nthree"[..];
        let lines = FramedRead::new(bytes, Lines::up_to(5));
        let lines: Vec<_> = lines.map(|line| line.unwrap().ok()).collect().await;
        let expected = [Some("one"), None, Some("two"), None, Some("three")];
        assert_eq!(lines, expected.map(|line| line.map(str::to_owned)));
    }
}
