//! Other people's proxies, for comparison.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use crate::program::Program;
use crate::upstream::Upstream;
use crate::wait::eventually;

/// A proxy that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// nginx.
    Nginx,
    /// HAProxy.
    HaProxy,
}

/// A proxy of another kind in front of an upstream of its own. What does not
/// arrive within a second is given up.
#[derive(Debug)]
pub struct RunningPeer {
    /// Where it listens.
    pub address: SocketAddr,
    _program: Program,
    _folder: TempDir,
}

impl Peer {
    /// Name of its program.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
        }
    }

    /// Starts it.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(self, upstream: &Upstream) -> RunningPeer {
        let folder = tempfile::tempdir().unwrap();
        // Neither of them says which port it took.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let target = upstream.url().replace("http://", "");
        let path = folder.path().join("configuration");
        let mut command = Command::new(self.program());
        let text = match self {
            Self::Nginx => {
                command.arg("-p").arg(folder.path()).arg("-c").arg(&path);
                nginx(address, &target, &folder.path().display().to_string())
            }
            Self::HaProxy => {
                command.arg("-db").arg("-f").arg(&path);
                haproxy(address, &target)
            }
        };
        fs::write(&path, text).unwrap();
        let program = Program::start(&mut command);
        eventually("the peer to listen", || TcpStream::connect(address).ok());
        RunningPeer {
            address,
            _program: program,
            _folder: folder,
        }
    }
}

fn nginx(listen: SocketAddr, upstream: &str, folder: &str) -> String {
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 1000; }}\n\
         http {{\n  access_log off;\n\
         \x20 client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
         \x20 fastcgi_temp_path {folder}/f;\n  uwsgi_temp_path {folder}/u;\n  scgi_temp_path {folder}/s;\n\
         \x20 client_header_timeout 1s;\n  client_body_timeout 1s;\n  keepalive_timeout 1s;\n\
         \x20 lingering_close off;\n\
         \x20 server {{\n    listen {listen};\n    location / {{\n\
         \x20     proxy_pass http://{upstream};\n      proxy_http_version 1.1;\n\
         \x20     proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
    )
}

fn haproxy(listen: SocketAddr, upstream: &str) -> String {
    format!(
        "global\n  nbthread 1\n\
         defaults\n  mode http\n  timeout connect 10s\n  timeout client 1s\n  timeout server 10s\n\
         \x20 timeout http-request 1s\n  timeout http-keep-alive 1s\n\
         frontend in\n  bind {listen}\n  default_backend out\n\
         backend out\n  server upstream {upstream}\n"
    )
}
