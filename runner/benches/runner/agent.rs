//! The agent under both runners: it speaks Claude Code's lines, notes when it
//! was started and when a message came, and produces what a message asks for.

use std::fs::OpenOptions;
use std::io::{BufRead, BufWriter, Write};

use serde_json::{Value, json};

use crate::clock;

/// Events that a message `events COUNT` asks for are each of this size.
const EVENT_TEXT: usize = 120;
/// Output of a tool comes in lines of this size.
const OUTPUT_LINE: usize = 1 << 20;

/// Runs until its input ends.
pub(crate) fn main() -> anyhow::Result<()> {
    note("started")?;
    #[expect(clippy::disallowed_methods, reason = "standard output is the protocol")]
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        if line["type"] != "user" {
            continue;
        }
        let text = line["message"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        note(&text)?;
        let lifecycle = |state: &str| json!({"type": "command_lifecycle", "command_uuid": line["uuid"], "state": state});
        let has_id = line["uuid"].is_string();
        if has_id {
            writeln!(out, "{}", lifecycle("started"))?;
        }
        let session = "5e551017-0000-4000-8000-000000000001";
        let init = json!({"type": "system", "subtype": "init", "session_id": session});
        writeln!(out, "{init}")?;
        work(&text, &mut out)?;
        writeln!(
            out,
            "{}",
            json!({"type": "result", "subtype": "success", "result": text})
        )?;
        if has_id {
            writeln!(out, "{}", lifecycle("completed"))?;
        }
        let idle = json!({"type": "system", "subtype": "session_state_changed", "state": "idle"});
        writeln!(out, "{idle}")?;
        out.flush()?;
    }
    Ok(())
}

fn work(text: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let (what, count) = text.split_once(' ').unwrap_or_default();
    let count: usize = count.parse().unwrap_or_default();
    match what {
        "events" => {
            let content = json!([{"type": "text", "text": "x".repeat(EVENT_TEXT)}]);
            let event = json!({"type": "assistant", "message": {"model": "m", "content": content}});
            for _ in 0..count {
                writeln!(out, "{event}")?;
            }
        }
        "megabytes" => {
            let content = json!([{"type": "tool_result", "tool_use_id": "t",
                                  "content": "y".repeat(OUTPUT_LINE)}]);
            let event = json!({"type": "user", "message": {"content": content}});
            for _ in 0..count {
                writeln!(out, "{event}")?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Adds a line with the time to the file that the bench reads.
fn note(what: &str) -> anyhow::Result<()> {
    let now = clock::nanos();
    let mut file = OpenOptions::new().create(true).append(true).open("notes")?;
    file.write_all(format!("{now} {what}\n").as_bytes())?;
    Ok(())
}
