//! The storefront drives itself, on the embedded engine and on a real server.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xshell::{Shell, cmd};

use crate::Failure;
use crate::provision::REDIS;

/// Runs the storefront's smoke test on both.
pub(super) fn check(sh: &Shell) -> Result<(), Failure> {
    cmd!(sh, "cargo run -p storefront -- --smoke")
        .env_remove("REDIS_URL")
        .run()?;
    let folder = sh.create_temp_dir()?;
    let server = PrivateServer::start(&REDIS.provide(sh)?.path, folder.path())?;
    let url = format!("redis://127.0.0.1:{}", server.port);
    cmd!(sh, "cargo run -p storefront -- --smoke")
        .env("REDIS_URL", url)
        .run()?;
    Ok(())
}

/// A server without persistence, killed on drop. This crate depends on none of the workspace's, so
/// the test kit is out of reach.
struct PrivateServer {
    process: Child,
    port: u16,
}

impl PrivateServer {
    fn start(program: &Path, folder: &Path) -> Result<Self, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let log: PathBuf = folder.join("log");
        let process = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log)?)
            .spawn()?;
        let mut server = Self { process, port };
        let patience = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if server.process.try_wait()?.is_some() || Instant::now() > patience {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{} did not come up:\n{log}", program.display()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
