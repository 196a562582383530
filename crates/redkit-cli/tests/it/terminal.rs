//! A pseudo-terminal with a program on it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

/// What a terminal gets when it is left by a program that took the whole screen.
pub(crate) const LEFT: &str = "\u{1b}[?1049l";
pub(crate) const TAKEN: &str = "\u{1b}[?1049h";

pub(crate) struct Pty {
    child: Child,
    keyboard: File,
    /// The program's side, by which its modes are read.
    inner: OwnedFd,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    /// Runs a program on a terminal of 150 columns and 40 rows.
    pub(crate) fn run(mut command: Command) -> Self {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&outer).unwrap();
        unlockpt(&outer).unwrap();
        let name = ptsname(&outer, Vec::new()).unwrap();
        let inner = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: 40,
            ws_col: 150,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&inner, size).unwrap();
        let end = || Stdio::from(inner.try_clone().unwrap());
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn();
        let mut screen = File::from(outer);
        let keyboard = screen.try_clone().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&output);
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            // It ends with an error when nobody has the other side any more.
            while let Ok(count @ 1..) = screen.read(&mut some) {
                collected.lock().unwrap().extend_from_slice(&some[..count]);
            }
        });
        Self {
            child: child.unwrap(),
            keyboard,
            inner,
            output,
        }
    }

    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until the program has written this.
    pub(crate) fn until(&self, text: &str) {
        let patience = Instant::now() + Duration::from_secs(20);
        while !self.output().contains(text) {
            assert!(
                Instant::now() < patience,
                "no {text:?} in {:?}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; gives the exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < patience, "it goes on: {:?}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether lines are edited and echoed, as in a shell: a program that takes keys one by one switches that off.
    pub(crate) fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;

        let modes = tcgetattr(&self.inner).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
