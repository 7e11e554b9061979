//! The beginning and the end of a long output.

use drawbridge_io::tail::Tail;

/// Bytes kept from the beginning.
const HEAD_BYTES: usize = 8 * 1024;
/// Bytes kept from the end, where errors and totals stand.
const TAIL_BYTES: usize = 24 * 1024;

/// Output of any length in bounded memory.
#[derive(Debug)]
pub(super) struct HeadAndTail {
    head: Vec<u8>,
    tail: Tail,
}

impl Default for HeadAndTail {
    fn default() -> Self {
        Self {
            head: Vec::new(),
            tail: Tail::new(TAIL_BYTES),
        }
    }
}

impl HeadAndTail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let free = HEAD_BYTES - self.head.len();
        let (head, rest) = bytes.split_at(free.min(bytes.len()));
        self.head.extend_from_slice(head);
        self.tail.push(rest);
    }

    /// The output as the model reads it; how the command ended comes last, when
    /// it failed or the output is empty.
    pub(super) fn describe(&self, ending: &str, is_success: bool) -> String {
        let tail = self.tail.to_vec();
        let mut text = if self.tail.dropped() == 0 {
            let whole = [self.head.as_slice(), &tail].concat();
            String::from_utf8_lossy(&whole).into_owned()
        } else {
            let (head, tail) = (
                String::from_utf8_lossy(&self.head),
                String::from_utf8_lossy(&tail),
            );
            format!(
                "{head}\n[... {} bytes left out ...]\n{tail}",
                self.tail.dropped()
            )
        };
        if !is_success || text.trim().is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text += &format!("[{ending}]");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_whole_whatever_its_pieces() {
        let mut output = HeadAndTail::default();
        for piece in "grüße\n".as_bytes().chunks(1) {
            output.push(piece);
        }
        assert_eq!(output.describe("exit code 0", true), "grüße\n");
        assert_eq!(
            output.describe("exit code 3", false),
            "grüße\n[exit code 3]"
        );
    }

    #[test]
    fn silence_is_told() {
        assert_eq!(
            HeadAndTail::default().describe("exit code 0", true),
            "[exit code 0]"
        );
    }

    #[test]
    fn long_output_keeps_its_ends_and_counts_the_rest() {
        let mut output = HeadAndTail::default();
        output.push(b"first");
        for _ in 0..100 {
            output.push(&[b'x'; 1024]);
        }
        output.push(b"last");
        let excluded = 5 + 100 * 1024 + 4 - HEAD_BYTES - TAIL_BYTES;
        let text = output.describe("exit code 0", true);
        assert!(text.starts_with("first") && text.ends_with("last"));
        assert!(text.contains(&format!("[... {excluded} bytes left out ...]")));
        assert!(text.len() < HEAD_BYTES + TAIL_BYTES + 100);
    }
}
