//! A git server that demands Basic, as GitHub does: `git http-backend` behind
//! TLS.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;

use crate::exchange::Exchange;
use crate::request::Request;
use crate::upstream::Upstream;

/// A server with one empty repository, `team/project.git`.
pub struct GitServer {
    /// Where it listens.
    pub upstream: Upstream,
    _folder: TempDir,
}

impl GitServer {
    /// Starts a server that knows this user and password.
    ///
    /// # Panics
    /// The repository cannot be made.
    #[must_use]
    pub fn start(user: &str, password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let repository = root.join("team/project.git");
        fs::create_dir_all(&repository).unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            let status = command.args(args).current_dir(&repository).status();
            assert!(status.unwrap().success(), "git {args:?}");
        };
        git(&["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        git(&["config", "http.receivepack", "true"]);
        let expected = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        let upstream = Upstream::start_tls(move |request, exchange| {
            if request.header("authorization") == Some(&expected) {
                return backend(&root, request, exchange);
            }
            let challenge = ("www-authenticate", "Basic realm=\"git\"");
            exchange.respond(401, &[challenge], "who are you?")
        });
        Self {
            upstream,
            _folder: folder,
        }
    }
}

impl fmt::Debug for GitServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitServer").finish_non_exhaustive()
    }
}

/// Has git's own CGI program answer.
fn backend(root: &Path, request: &Request, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let header = |name| request.header(name).unwrap_or_default();
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "tester")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    let body = request.body.clone();
    let feeding = std::thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output()?.stdout;
    // Git may answer before it has read everything.
    let _ = feeding.join().unwrap();
    let end = memchr::memmem::find(&output, b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let mut fields: Vec<_> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let status = fields.iter().position(|(name, _)| *name == "Status");
    let status = status.map(|at| fields.remove(at).1[..3].parse().unwrap());
    exchange.respond(status.unwrap_or(200), &fields, &output[end + 4..])
}
