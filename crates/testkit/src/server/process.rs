//! [`Process`]: a server's process, which never outlives the process that started it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

/// Starts the server, tells its process id, and waits for the pipe to close. The system closes it
/// however the test's process ends, SIGKILL included, where no destructor and no exit handler
/// runs. Then the server is killed (a stopped one too) and its folder removed, unless the word
/// before the end says that the folder is needed again.
///
/// When the test's process ends while the server is stopped, the system sends SIGHUP to their group.
///
/// The server holds the pipe of the supervisor's output too: when that closes, the server has ended.
const SUPERVISOR: &str = r#"
trap '' HUP
folder=$1; shift
"$@" 9>&1 >&2 &
server=$!
echo "$server"
exec 1>&-
read -r word
kill -9 "$server" 2>/dev/null
wait "$server" 2>/dev/null
[ "$word" = keep ] || rm -rf -- "$folder"
"#;

/// A server's process.
#[derive(Debug)]
pub(super) struct Process {
    supervisor: Child,
    /// Closing it ends the server.
    lifeline: Option<ChildStdin>,
    /// Closed when the server has ended.
    output: ChildStdout,
    pid: Pid,
}

impl Process {
    /// Starts `program` with its configuration file, its output going to `log`. `folder` is removed when this
    /// process ends without [`Process::kill`].
    pub(super) fn start(
        program: &Path,
        configuration: &Path,
        sentinel: bool,
        folder: &Path,
        log: &File,
    ) -> io::Result<Self> {
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(folder)
            .arg(program)
            .arg(configuration)
            .args(sentinel.then_some("--sentinel"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            // Of its own, so that Ctrl-C ends the test and leaves the supervisor to clean up.
            .process_group(0)
            .spawn()?;
        let lifeline = supervisor.stdin.take();
        let mut output = supervisor
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the supervisor has no output"))?;
        let mut line = String::new();
        BufReader::new(&mut output).read_line(&mut line)?;
        let pid = line
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the supervisor told no process id"))?;
        Ok(Self {
            supervisor,
            lifeline,
            output,
            pid,
        })
    }

    /// The server's process id.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether the server has ended.
    pub(super) fn has_ended(&self) -> bool {
        let mut output = [PollFd::new(&self.output, PollFlags::IN)];
        poll(&mut output, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Sends a signal to the server. The supervisor has not waited for it yet, so the number
    /// cannot have gone to another process, even when the server has ended.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::kill_process(self.pid, signal)?)
    }

    /// Kills the server, keeps its folder, and returns when the server is gone.
    pub(super) fn kill(mut self) {
        if let Some(lifeline) = &mut self.lifeline {
            // Fails only if the supervisor is gone, and the server with it.
            let _ = lifeline.write_all(b"keep\n");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let patience = Instant::now() + Duration::from_secs(5);
        while Instant::now() < patience {
            match self.supervisor.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
    }
}
