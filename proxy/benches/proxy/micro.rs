//! What the passes over an answer's bytes cost, without any network.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use drawbridge_proxy::testing::UsageMeter;
use drawbridge_proxy::testing::{Patterns, Scrubber};

use crate::peers::REAL_KEY;

/// As much as hyper reads at once from a fast upstream.
const CHUNK: usize = 16 * 1024;
const TOTAL: usize = 8 * 1024 * 1024;

/// One pass over an answer, in gigabytes per second.
pub(crate) struct Pass {
    pub(crate) name: &'static str,
    pub(crate) speeds: Vec<f64>,
}

/// Measures each pass for `rounds` rounds.
pub(crate) fn passes(rounds: usize, time: Duration) -> anyhow::Result<Vec<Pass>> {
    let patterns = Patterns::of_secrets([REAL_KEY.as_bytes()])?;
    let events = Bytes::from(events());
    let base64 = Bytes::from(base64_text());
    let scrub = |text: &Bytes, chunk: usize| {
        let mut scrubber = Scrubber::new(patterns.clone());
        for start in (0..text.len()).step_by(chunk) {
            let end = text.len().min(start + chunk);
            black_box(scrubber.push(text.slice(start..end)));
        }
        black_box(scrubber.finish());
    };
    let meter = |text: &Bytes| {
        let mut meter = UsageMeter::event_stream();
        text.chunks(CHUNK).for_each(|chunk| meter.observe(chunk));
        black_box(meter.usage());
    };
    let each = |name, pass: &dyn Fn()| {
        let speeds = (0..rounds).map(|_| speed(pass, time)).collect();
        Pass { name, speeds }
    };
    let mut all = vec![
        each("Scrub an event stream, 16 KB at a time", &|| {
            scrub(&events, CHUNK)
        }),
        each(
            "Scrub an event stream, one event (190 bytes) at a time",
            &|| scrub(&events, 190),
        ),
        each(
            "Scrub base64, where beginnings of a key are common",
            &|| scrub(&base64, CHUNK),
        ),
        each("Read the token usage of an event stream", &|| {
            meter(&events)
        }),
    ];
    all.extend(recompression(&events, rounds));
    Ok(all)
}

#[expect(clippy::cast_precision_loss, reason = "8 MB is far below 2^52")]
fn speed(pass: &dyn Fn(), time: Duration) -> f64 {
    let begin = Instant::now();
    let mut bytes = 0;
    while begin.elapsed() < time {
        pass();
        bytes += TOTAL;
    }
    bytes as f64 / 1e9 / begin.elapsed().as_secs_f64()
}

/// Decoding and encoding again, which asking for `identity` saves: Node's zlib,
/// in process, on the same bytes.
fn recompression(events: &Bytes, rounds: usize) -> Option<Pass> {
    const SCRIPT: &str = "
        const { gunzipSync, gzipSync } = require('node:zlib');
        const fs = require('node:fs');
        const [path, rounds] = process.argv.slice(1);
        const plain = fs.readFileSync(path);
        const packed = gzipSync(plain);
        const speeds = [];
        for (let round = 0; round < Number(rounds); round += 1) {
          const begin = process.hrtime.bigint();
          gzipSync(gunzipSync(packed));
          speeds.push(plain.length / Number(process.hrtime.bigint() - begin));
        }
        fs.writeFileSync(path, speeds.join(' '));
    ";
    let run = || {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), events)?;
        let mut node = Command::new("node");
        node.arg("-e")
            .arg(SCRIPT)
            .arg(file.path())
            .arg(rounds.to_string());
        anyhow::ensure!(node.status()?.success(), "node failed");
        let speeds = std::fs::read_to_string(file.path())?;
        let speeds = speeds
            .split(' ')
            .map(|speed| speed.parse().context("not a number"));
        speeds.collect::<anyhow::Result<Vec<f64>>>()
    };
    let speeds = run().ok()?;
    Some(Pass {
        name: "Decode and encode gzip instead (zlib in Node)",
        speeds,
    })
}

fn events() -> Vec<u8> {
    let words = [
        "so", "it", "goes", "and", "the", "sky", "task", "Zm9v", "7", "%20", "json", "base64",
    ];
    let mut text = Vec::with_capacity(TOTAL + 200);
    let mut number = 1_usize;
    while text.len() < TOTAL {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let word = |shift: usize| words[(number >> shift) % words.len()];
        text.extend_from_slice(
            format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
                 \"delta\":{{\"type\":\"text_delta\",\"text\":\"{} {}\\n{} \\u00e9{}\"}}}}\n\n",
                word(33),
                word(37),
                word(41),
                word(45)
            )
            .as_bytes(),
        );
    }
    text.truncate(TOTAL);
    text
}

fn base64_text() -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut number = 1_usize;
    let mut next = || {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        DIGITS[(number >> 40) % 64]
    };
    (0..TOTAL).map(|_| next()).collect()
}
