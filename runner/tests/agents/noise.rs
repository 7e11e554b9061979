//! What a fake of any protocol does in the middle of a turn.

use std::io::Write;
use std::process::{Command, Stdio};

/// Makes one kind of noise on standard output; some of it is the process's last.
#[expect(clippy::disallowed_methods, reason = "bytes that are no text")]
pub(crate) fn make(kind: &str) {
    let mut out = std::io::stdout().lock();
    match kind {
        "flood" => {
            for number in 0..20_000 {
                writeln!(out, "{{\"type\":\"noise\",\"n\":{number}}}").unwrap();
            }
        }
        "invalid-utf8" => {
            let bytes =
                b"\xff\xfe\x00\n{\"type\":\"\xff\"}\n{\"method\":\"\xc3\x28\"}\n\xed\xa0\x80\n";
            out.write_all(bytes).unwrap();
        }
        "long-line" => {
            let long = "x".repeat(20 << 20);
            writeln!(out, "{long}\n{{\"type\":\"noise\",\"method\":\"{long}\"}}").unwrap();
        }
        // What is left behind holds the pipe, and fills it once this one is gone.
        "flooding-grandchild" => {
            drop(out);
            let mut shell = Command::new("sh");
            shell
                .args(["-c", "read line; exec yes $(printf %4000s | tr ' ' y)"])
                .stdin(Stdio::piped());
            std::mem::forget(shell.spawn().unwrap());
        }
        "half-line" => {
            out.write_all(b"{\"type\":\"result\",\"method\":\"tur")
                .unwrap();
            out.flush().unwrap();
            leave_with(9);
        }
        "leaves" => leave_with(0),
        "silence" => silence(),
        other => panic!("unknown noise {other:?}"),
    }
}

#[expect(clippy::exit, reason = "an agent that leaves does not tidy up")]
fn leave_with(code: i32) -> ! {
    eprintln!("last words");
    std::process::exit(code)
}

/// Ends with an error.
pub(crate) fn leave() -> ! {
    leave_with(9)
}

/// Says nothing any more, and ignores the end of input and SIGTERM.
pub(crate) fn silence() -> ! {
    use std::os::unix::process::CommandExt;
    let error = Command::new("sh")
        .args(["-c", "trap '' TERM; exec sleep 300"])
        .exec();
    panic!("{error}");
}
