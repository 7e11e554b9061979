//! `credential-proxy`, for tests, which can ask it how much of its heap is in use.

use std::alloc::System;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use drawbridge_testkit::HEAP_SOCKET;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    if let Some(socket) = std::env::var_os(HEAP_SOCKET) {
        // A socket that is in the way fails the test that waits for it.
        let listener = UnixListener::bind(socket);
        std::thread::spawn(|| listener.map(|listener| tell(&listener)));
    }
    drawbridge_proxy::main_impl(std::env::args_os()).into()
}

/// Tells whoever connects how many bytes are in use.
fn tell(listener: &UnixListener) {
    for mut asking in listener.incoming().flatten() {
        let stats = HEAP.stats();
        let in_use = stats
            .bytes_allocated
            .saturating_sub(stats.bytes_deallocated);
        let _ = write!(asking, "{in_use}");
    }
}
