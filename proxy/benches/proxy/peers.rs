//! The proxies that are compared, each a process of its own with one thread
//! that does the work.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::upstream::Upstream;

/// What the client shows; the proxies swap it for [`REAL_KEY`].
const TOKEN: &str = "bench-token-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// What the upstream is to see.
pub(crate) const REAL_KEY: &str =
    "sk-ant-api03-fake-CANARY-0123456789abcdefghijklmnopqrstuvwxyz-0123456789";

const START_DEADLINE: Duration = Duration::from_secs(20);

/// Where to send requests, and the token to send.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    HaProxy,
    Nginx,
    Node,
    /// No proxy at all.
    Direct,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Ours,
        Self::HaProxy,
        Self::Nginx,
        Self::Node,
        Self::Direct,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "Drawbridge",
            Self::HaProxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Node => "Node",
            Self::Direct => "no proxy",
        }
    }

    /// Its version, or why it cannot take part.
    pub(crate) fn version(self) -> Result<String, String> {
        let (program, argument) = match self {
            Self::Ours => return Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Direct => return Ok(String::new()),
            Self::HaProxy => ("haproxy", "-v"),
            Self::Nginx => ("nginx", "-v"),
            Self::Node => ("node", "--version"),
        };
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("version");
        let ran = || {
            let file = fs::File::create(&path)?;
            let errors = file.try_clone()?;
            Command::new(program)
                .arg(argument)
                .stdout(file)
                .stderr(errors)
                .status()?;
            fs::read_to_string(&path)
        };
        match ran() {
            Ok(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
            Err(error) => Err(format!("{program} cannot be run: {error}")),
        }
    }
}

/// A running proxy in front of one upstream.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) endpoint: Endpoint,
    process: Option<Child>,
}

impl Peer {
    /// Starts a proxy. `folder` is for its files, and its own.
    pub(crate) fn start(
        kind: Kind,
        upstream: &Upstream,
        is_tls: bool,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let certificate = folder.join("upstream.pem");
        fs::write(&certificate, &upstream.certificate)?;
        let target = Target {
            address: if is_tls { upstream.tls } else { upstream.clear },
            is_tls,
            certificate: certificate.display().to_string(),
        };
        let listen = free_address()?;
        let mut command = match kind {
            Kind::Direct => {
                // The client speaks clear text only.
                let endpoint = Endpoint {
                    address: upstream.clear,
                    token: TOKEN.to_owned(),
                };
                return Ok(Self {
                    kind,
                    endpoint,
                    process: None,
                });
            }
            Kind::Ours => target.ours()?,
            Kind::HaProxy => target.haproxy(listen, folder)?,
            Kind::Nginx => target.nginx(listen, folder)?,
            Kind::Node => target.node(listen),
        };
        let log = fs::File::create(folder.join("log"))?;
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", kind.name()))?;
        let endpoint = match kind {
            Kind::Ours => endpoint_of_ours(&mut process)?,
            _ => Endpoint {
                address: listen,
                token: TOKEN.to_owned(),
            },
        };
        let peer = Self {
            kind,
            endpoint,
            process: Some(process),
        };
        peer.wait_until_it_accepts()
            .with_context(|| fs::read_to_string(folder.join("log")).unwrap_or_default())?;
        Ok(peer)
    }

    fn wait_until_it_accepts(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(self.endpoint.address).is_err() {
            if begin.elapsed() > START_DEADLINE {
                bail!("{} does not accept connections", self.kind.name());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Its resident memory and the most it was since [`Peer::reset_peak`], in
    /// megabytes.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.as_ref()?.id()));
        let status = status.ok()?;
        let megabytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kilobytes * 1024.0 / 1e6)
        };
        Some(Memory {
            resident: megabytes("VmRSS:")?,
            peak: megabytes("VmHWM:")?,
        })
    }

    /// Processor time that it has used, in microseconds. On a machine that does
    /// other work too this is far steadier than times and rates are.
    pub(crate) fn processor_time(&self) -> Option<f64> {
        let tasks = format!("/proc/{}/task", self.process.as_ref()?.id());
        let of_task = |task: std::io::Result<fs::DirEntry>| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        };
        let nanoseconds: Option<f64> = fs::read_dir(tasks).ok()?.map(of_task).sum();
        Some(nanoseconds? / 1000.0)
    }

    pub(crate) fn reset_peak(&self) {
        if let Some(process) = &self.process {
            // Without it the peak is that of the whole run, which is larger.
            let _ = fs::write(format!("/proc/{}/clear_refs", process.id()), "5");
        }
    }
}

/// In megabytes.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) peak: f64,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Ours says where it listens and which token is good.
fn endpoint_of_ours(process: &mut Child) -> anyhow::Result<Endpoint> {
    let stdout = process.stdout.take().context("no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let (address, token) = line
        .trim()
        .split_once(' ')
        .context("the proxy did not start")?;
    Ok(Endpoint {
        address: address.parse()?,
        token: token.to_owned(),
    })
}

/// What a proxy is put in front of.
struct Target {
    address: SocketAddr,
    is_tls: bool,
    certificate: String,
}

impl Target {
    fn ours(&self) -> anyhow::Result<Command> {
        let scheme = if self.is_tls { "https" } else { "http" };
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(crate::ours::FLAG)
            .arg(&self.certificate)
            .env("ANTHROPIC_BASE_URL", format!("{scheme}://{}", self.address))
            .env("ANTHROPIC_API_KEY", REAL_KEY)
            .env_remove("CLAUDE_CODE_OAUTH_TOKEN");
        Ok(command)
    }

    fn haproxy(&self, listen: SocketAddr, folder: &Path) -> anyhow::Result<Command> {
        let Self {
            address,
            certificate,
            ..
        } = self;
        let tls = if self.is_tls {
            format!(
                "ssl verify required verifyhost localhost sni str(localhost) ca-file {certificate}"
            )
        } else {
            String::new()
        };
        let text = format!(
            "global\n  nbthread 1\n  maxconn 8000\n\
             defaults\n  mode http\n  timeout connect 10s\n  timeout client 300s\n  timeout server 600s\n\
             \x20 option http-no-delay\n\
             frontend in\n  bind {listen}\n\
             \x20 http-request deny deny_status 401 unless {{ req.hdr(x-api-key) -m str {TOKEN} }}\n\
             \x20 http-request deny deny_status 403 unless {{ method POST }} {{ path /v1/messages }}\n\
             \x20 http-request del-header authorization\n  http-request del-header cookie\n\
             \x20 http-request set-header x-api-key {REAL_KEY}\n\
             \x20 http-request set-header host {address}\n\
             \x20 http-request set-header accept-encoding identity\n\
             \x20 http-response del-header set-cookie\n\
             \x20 default_backend out\n\
             backend out\n  http-reuse always\n  server upstream {address} {tls}\n"
        );
        let path = folder.join("haproxy.cfg");
        fs::write(&path, text)?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(path);
        Ok(command)
    }

    fn nginx(&self, listen: SocketAddr, folder: &Path) -> anyhow::Result<Command> {
        let Self {
            address,
            certificate,
            ..
        } = self;
        let folder = folder.display();
        let scheme = if self.is_tls { "https" } else { "http" };
        let text = format!(
            "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
             events {{ worker_connections 8000; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
             \x20 fastcgi_temp_path {folder}/f;\n  uwsgi_temp_path {folder}/u;\n  scgi_temp_path {folder}/s;\n\
             \x20 keepalive_requests 100000000;\n  tcp_nodelay on;\n\
             \x20 upstream up {{ server {address}; keepalive 1100; keepalive_requests 100000000; }}\n\
             \x20 server {{\n    listen {listen} backlog=4096;\n    client_max_body_size 0;\n\
             \x20   location = /v1/messages {{\n\
             \x20     if ($http_x_api_key != \"{TOKEN}\") {{ return 401; }}\n\
             \x20     limit_except POST {{ deny all; }}\n\
             \x20     proxy_pass {scheme}://up;\n      proxy_http_version 1.1;\n\
             \x20     proxy_buffering off;\n      proxy_request_buffering off;\n      proxy_read_timeout 600s;\n\
             \x20     proxy_set_header Connection \"\";\n      proxy_set_header Host {address};\n\
             \x20     proxy_set_header Authorization \"\";\n      proxy_set_header Cookie \"\";\n\
             \x20     proxy_set_header X-Api-Key {REAL_KEY};\n      proxy_set_header Accept-Encoding identity;\n\
             \x20     proxy_hide_header Set-Cookie;\n\
             \x20     proxy_ssl_verify on;\n      proxy_ssl_name localhost;\n      proxy_ssl_server_name on;\n\
             \x20     proxy_ssl_trusted_certificate {certificate};\n\
             \x20   }}\n  }}\n}}\n"
        );
        fs::write(format!("{folder}/nginx.conf"), text)?;
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(folder.to_string())
            .arg("-c")
            .arg(format!("{folder}/nginx.conf"));
        Ok(command)
    }

    fn node(&self, listen: SocketAddr) -> Command {
        let scheme = if self.is_tls { "https" } else { "http" };
        let mut command = Command::new("node");
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/benches/proxy/node-proxy.js"
            ))
            .arg(listen.port().to_string())
            .arg(format!("{scheme}://{}", self.address))
            .env("BENCH_TOKEN", TOKEN)
            .env("BENCH_KEY", REAL_KEY)
            .env("NODE_EXTRA_CA_CERTS", &self.certificate);
        command
    }
}
