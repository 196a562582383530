//! [`TestProcess`]: another process of a test's own program, which is stopped, continued and killed.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::Error;

/// For how long a line is waited for.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// A process of the running test program that runs one of its ignored tests, and says on its standard output what
/// happens to it, line by line. It is killed when this is dropped.
#[derive(Debug)]
pub struct TestProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl TestProcess {
    /// Starts this program for the ignored test `name`, with these variables in its environment.
    ///
    /// # Errors
    /// [`Error::Io`] when the process cannot be started.
    pub fn start(name: &str, variables: &[(&str, &str)]) -> Result<Self, Error> {
        let starting = Error::io("starting a process of the test program");
        let start = || {
            let mut child = Command::new(std::env::current_exe()?)
                .args(["--ignored", "--exact", name, "--nocapture"])
                .envs(variables.iter().copied())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let said = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
            let lines = BufReader::new(said).lines();
            Ok(Self { child, lines })
        };
        start().map_err(starting)
    }

    /// Its process id; `None` when it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Stops it (SIGSTOP): it does nothing more, and its connections stay open.
    ///
    /// # Errors
    /// [`Error::Io`] when it has ended.
    pub fn stop(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// [`Error::Io`] when it has ended.
    pub fn cont(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Waits for a line with this word, and gives the rest of the line.
    ///
    /// # Errors
    /// [`Error::Io`] when the process ends without it, or does not say it within a minute.
    pub async fn says(&mut self, word: &str) -> Result<String, Error> {
        let line = timeout(LONGEST_SILENCE, async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some((_, rest)) = line.split_once(word) {
                    return Ok(rest.trim().to_owned());
                }
            }
            Err(std::io::ErrorKind::UnexpectedEof.into())
        });
        line.await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(Error::io("waiting for a line of a process"))
    }

    /// Kills it (SIGKILL), and gives the lines that it said and that were not read yet.
    pub async fn kill(mut self) -> Vec<String> {
        // One that has ended has said what it said.
        let _ = self.child.start_kill();
        let mut lines = Vec::new();
        while let Ok(Some(line)) = self.lines.next_line().await {
            lines.push(line);
        }
        lines
    }

    /// The numbers behind `word` in the lines that have it, where there are so many of them.
    pub fn numbers<const COUNT: usize>(lines: &[String], word: &str) -> Vec<[i64; COUNT]> {
        let word = format!("{word} ");
        let numbers = lines.iter().filter_map(|line| {
            // The first line of a process has the name of its test before it; a word may end another one.
            let at = line.find(&word)?;
            let is_word = at == 0 || line.as_bytes().get(at - 1) == Some(&b' ');
            let numbers = line.get(at + word.len()..).filter(|_| is_word)?;
            let numbers: Result<Vec<i64>, _> = numbers.split(' ').map(str::parse).collect();
            numbers.ok()?.try_into().ok()
        });
        numbers.collect()
    }

    /// Nanoseconds of a clock that all processes of the machine share.
    pub fn now() -> i64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec * 1_000_000_000 + now.tv_nsec
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        match pid.and_then(Pid::from_raw) {
            Some(pid) => kill_process(pid, signal).map_err(Into::into),
            None => Err(std::io::Error::other("it has ended")),
        }
        .map_err(Error::io("signalling a process"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_behind_the_whole_word() {
        let lines = [
            "test child ... turn 1 2",
            "turn 3 4",
            "return 5 6",
            "turn 7",
            "turn x y",
        ];
        let lines = lines.map(str::to_owned);
        assert_eq!(TestProcess::numbers(&lines, "turn"), [[1, 2], [3, 4]]);
    }

    /// Not a test: the process of the test below.
    #[test]
    #[ignore = "it is a child of the test beside it"]
    fn child() {
        println!("lives {}", std::env::var("REDKIT_TEST_PROCESS").is_ok());
        std::thread::sleep(LONGEST_SILENCE);
    }

    #[tokio::test]
    async fn a_process_is_heard_stopped_and_killed() {
        let name = "test_process::tests::child";
        let start = || TestProcess::start(name, &[("REDKIT_TEST_PROCESS", "1")]).unwrap();
        let mut process = start();
        assert_eq!(process.says("lives").await.unwrap(), "true");
        process.stop().unwrap();
        process.cont().unwrap();
        assert_eq!(process.kill().await, Vec::<String>::new());
    }
}
