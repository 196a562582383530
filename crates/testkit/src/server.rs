//! [`Server`]: a private Redis or Valkey server.

mod calls;
mod options;
mod process;
mod program;
mod raw;
mod readiness;
mod tls;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tempfile::TempDir;

pub use self::options::ServerOptions;
pub(crate) use self::options::url;
pub use self::program::Program;
pub use self::raw::RawReply;
pub use self::tls::Tls;
use crate::Error;
use crate::blocking::blocking;
use crate::port::Port;
use process::Process;
use readiness::await_answer;

/// A private server on a free port of the loopback interface, with its files in a temporary
/// folder. It is killed when this is dropped, and also when the process ends in any other way.
///
/// Its administrative methods use connections of their own to the server's unix socket, so they
/// depend neither on the driver under test nor on a [`Proxy`](crate::Proxy).
#[derive(Debug)]
pub struct Server {
    // The process goes before the folder.
    process: Mutex<Option<Process>>,
    folder: TempDir,
    program: Program,
    executable: PathBuf,
    options: ServerOptions,
    port: Port,
    bus_port: Option<Port>,
    tls: Option<Tls>,
    stopped: AtomicBool,
}

impl Server {
    /// Starts a Redis and returns when it answers.
    ///
    /// # Errors
    /// [`Error`] when there is none on this machine or it does not come up.
    pub async fn redis(options: ServerOptions) -> Result<Self, Error> {
        Self::start(Program::Redis, options).await
    }

    /// Starts a Valkey and returns when it answers.
    ///
    /// # Errors
    /// [`Error`] when there is none on this machine or it does not come up.
    pub async fn valkey(options: ServerOptions) -> Result<Self, Error> {
        Self::start(Program::Valkey, options).await
    }

    /// Starts a server and returns when it answers.
    ///
    /// # Errors
    /// [`Error`] when there is none on this machine or it does not come up.
    pub async fn start(program: Program, options: ServerOptions) -> Result<Self, Error> {
        blocking(move || {
            // Between choosing a port and the server's binding it, a program that is no test may take it.
            let mut taken = None;
            for _ in 0..5 {
                let server = Self::prepare(program, options.clone())?;
                match server.launch() {
                    Ok(()) => return Ok(server),
                    Err(error) if server.is_port_taken() => taken = Some(error),
                    Err(error) => return Err(error),
                }
            }
            Err(taken.unwrap_or(Error::NotFound {
                program: program.executable(),
                variable: program.variable(),
            }))
        })
        .await
    }

    /// Starts several at once.
    pub(crate) async fn start_many(
        program: Program,
        options: ServerOptions,
        count: usize,
    ) -> Result<Vec<Self>, Error> {
        let starting: Vec<_> = (0..count)
            .map(|_| tokio::spawn(Self::start(program, options.clone())))
            .collect();
        let mut servers = Vec::new();
        for server in starting {
            let server = server.await.map_err(io::Error::other);
            servers.push(server.map_err(Error::io("starting servers"))??);
        }
        Ok(servers)
    }

    /// Which program it is.
    pub fn program(&self) -> Program {
        self.program
    }

    /// The address of its port: TLS if [`ServerOptions::tls`] was chosen.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// Its URL, with whatever a client has to know: the password, the authority's certificate.
    pub fn url(&self) -> String {
        match self.options.unix_url {
            true => self.options.unix_url(&self.socket()),
            false => self.url_at(self.addr()),
        }
    }

    /// The same URL with another address in it: that of a proxy before this server.
    pub fn url_at(&self, addr: SocketAddr) -> String {
        self.options.url(addr, self.tls.as_ref())
    }

    /// The password that it demands.
    pub fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// Its certificates, if it speaks TLS.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// The folder with its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id; `None` after [`Server::kill9`].
    pub fn pid(&self) -> Option<u32> {
        let process = self.process.lock();
        u32::try_from(process.as_ref()?.pid().as_raw_nonzero().get()).ok()
    }

    /// Whether its process was started, and neither killed nor stopped by the methods here.
    pub fn is_running(&self) -> bool {
        self.process.lock().is_some() && !self.stopped.load(Ordering::Relaxed)
    }

    /// The port of its cluster bus, if it is a cluster's node.
    pub(crate) fn bus_port(&self) -> Option<u16> {
        self.bus_port.as_ref().map(Port::number)
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Stops the process (SIGSTOP): its sockets stay open and the system goes on accepting
    /// connections for it, but nothing is answered.
    ///
    /// # Errors
    /// [`Error::Io`] when it is not running.
    pub fn stop(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)?;
        self.stopped.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Lets a stopped process go on (SIGCONT).
    ///
    /// # Errors
    /// [`Error::Io`] when it is not running.
    pub fn cont(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)?;
        self.stopped.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Kills the process (SIGKILL) and returns when it is gone. What it had written to its folder
    /// stays for [`Server::restart`].
    pub async fn kill9(&self) {
        let process = self.process.lock().take();
        if let Some(process) = process {
            let ended = blocking(move || {
                process.kill();
                Ok(())
            });
            // It fails only if the thread panicked, which drops the process as well.
            let _ = ended.await;
        }
    }

    /// Kills the process if it runs, starts it again on the same port and folder, and returns when
    /// it answers. Unless the options said otherwise, its data are gone.
    ///
    /// # Errors
    /// [`Error::NotUp`] when it does not come up.
    pub async fn restart(&self) -> Result<(), Error> {
        self.kill9().await;
        let process = self.spawn()?;
        let (socket, password) = (self.socket(), self.options.password.clone());
        let (process, up) = blocking(move || {
            let up = await_answer(&socket, password.as_deref(), &process);
            Ok((process, up))
        })
        .await?;
        up.map_err(|cause| self.not_up(cause))?;
        self.stopped.store(false, Ordering::Relaxed);
        *self.process.lock() = Some(process);
        Ok(())
    }

    /// Sends one command over a connection of its own and gives the reply, an error reply too.
    ///
    /// # Errors
    /// [`Error::Io`] when the server does not answer within five seconds.
    pub async fn raw(&self, command: &[&str]) -> Result<RawReply, Error> {
        let command = command
            .iter()
            .map(|part| part.as_bytes().to_vec())
            .collect();
        self.raw_bytes(command).await
    }

    /// [`Server::raw`] with arguments that are not text.
    ///
    /// # Errors
    /// [`Error::Io`] when the server does not answer within five seconds.
    pub async fn raw_bytes(&self, command: Vec<Vec<u8>>) -> Result<RawReply, Error> {
        let (socket, password) = (self.socket(), self.options.password.clone());
        blocking(move || {
            raw::exchange(&socket, password.as_deref(), &command)
                .map_err(Error::io("an administrative command"))
        })
        .await
    }

    /// Closes the connections of all clients that are not subscribed (`CLIENT KILL TYPE normal`)
    /// and gives their number.
    ///
    /// # Errors
    /// [`Error`] when the server does not answer or refuses.
    pub async fn kill_clients(&self) -> Result<u64, Error> {
        self.kill_client_type("normal").await
    }

    /// Closes the connections of all subscribed clients (`CLIENT KILL TYPE pubsub`) and gives
    /// their number.
    ///
    /// # Errors
    /// [`Error`] when the server does not answer or refuses.
    pub async fn kill_subscribers(&self) -> Result<u64, Error> {
        self.kill_client_type("pubsub").await
    }

    async fn kill_client_type(&self, kind: &str) -> Result<u64, Error> {
        let reply = self.raw(&["CLIENT", "KILL", "TYPE", kind]).await?;
        reply
            .int()
            .and_then(|killed| u64::try_from(killed).ok())
            .ok_or_else(|| Error::Refused {
                command: "CLIENT KILL".to_owned(),
                reply: format!("{reply:?}"),
            })
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        match &*self.process.lock() {
            Some(process) => process.signal(signal),
            None => Err(io::Error::other("the server was killed")),
        }
        .map_err(Error::io("signalling the server"))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn prepare(program: Program, options: ServerOptions) -> Result<Self, Error> {
        let executable = program.find()?;
        let folder = folder().map_err(Error::io("making a temporary folder"))?;
        let tls = match (&options.tls_of, options.tls) {
            (Some(tls), _) => Some(tls.clone()),
            (None, true) => Some(Tls::make(folder.path(), options.has_expired)?),
            (None, false) => None,
        };
        let free = || Port::choose().map_err(Error::io("looking for a free port"));
        let server = Self {
            process: Mutex::new(None),
            folder,
            program,
            executable,
            port: free()?,
            bus_port: options.cluster_node.then(free).transpose()?,
            options,
            tls,
            stopped: AtomicBool::new(false),
        };
        std::fs::write(server.configuration_file(), server.configuration())
            .map_err(Error::io("writing the server's configuration"))?;
        Ok(server)
    }

    fn configuration_file(&self) -> PathBuf {
        self.folder.path().join("conf")
    }

    fn configuration(&self) -> String {
        let folder = self.folder.path();
        let mut text = self.options.configuration(
            self.port.number(),
            folder,
            &self.socket(),
            self.tls.as_ref(),
        );
        if let Some(port) = self.bus_port() {
            text += &format!("cluster-port {port}\n");
        }
        text
    }

    fn spawn(&self) -> Result<Process, Error> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .map_err(Error::io("opening the server's log"))?;
        Process::start(
            &self.executable,
            &self.configuration_file(),
            self.options.sentinel,
            self.folder.path(),
            &log,
        )
        .map_err(Error::io("starting the server"))
    }

    fn launch(&self) -> Result<(), Error> {
        let process = self.spawn()?;
        await_answer(&self.socket(), self.password(), &process)
            .map_err(|cause| self.not_up(cause))?;
        *self.process.lock() = Some(process);
        Ok(())
    }

    fn is_port_taken(&self) -> bool {
        self.log().contains("Address already in use")
    }

    fn not_up(&self, (waited, cause): (Duration, String)) -> Error {
        Error::NotUp {
            program: self.executable.display().to_string(),
            waited,
            cause,
            log: self.log(),
        }
    }
}

/// In memory where there is such a place: sentinels wait for the disk at every change of their
/// configuration, and a disk that is busy with a build takes many seconds.
fn folder() -> std::io::Result<TempDir> {
    let mut folder = tempfile::Builder::new();
    folder.prefix("redkit-");
    folder.tempdir_in("/dev/shm").or_else(|_| folder.tempdir())
}
