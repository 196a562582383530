//! The terminal: drawing on it, its keys, and leaving it as it was.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressed {
    Quit,
    Pause,
    Slower,
    Faster,
    /// The terminal has another size.
    Redraw,
}

/// The terminal while it is drawn on. It is as it was before when this is dropped, and after a panic too.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    keys: Keys,
    ended: Ended,
    _restored: Restored,
}

struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Screen {
    /// Takes the terminal. In a runtime.
    pub(super) fn open() -> io::Result<Self> {
        let (terminal, restored) = open()?;
        Ok(Self {
            terminal,
            keys: Keys::begin()?,
            ended: Ended::new()?,
            _restored: restored,
        })
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw)?;
        Ok(())
    }

    /// Waits for a key that means something; asking the program to end is one.
    pub(super) async fn pressed(&mut self) -> Pressed {
        tokio::select! {
            pressed = self.keys.pressed.recv() => pressed.unwrap_or(Pressed::Quit),
            () = self.ended.wait() => Pressed::Quit,
        }
    }

    /// Waits until it is to quit; other keys meanwhile are lost.
    pub(super) async fn quits(&mut self) {
        while self.pressed().await != Pressed::Quit {}
    }
}

/// Draws with `work` on the terminal, which is as it was before afterwards.
///
/// # Errors
/// When the terminal cannot be drawn on.
#[doc(hidden)]
pub fn with_terminal<T>(work: impl FnOnce(&mut DefaultTerminal) -> T) -> io::Result<T> {
    let (mut terminal, _restored) = open()?;
    Ok(work(&mut terminal))
}

fn open() -> io::Result<(DefaultTerminal, Restored)> {
    // It restores the terminal after a panic, before the message is printed.
    let terminal = ratatui::try_init()?;
    Ok((terminal, Restored))
}

/// Reads keys on a thread of its own, since reading blocks.
struct Keys {
    pressed: mpsc::Receiver<Pressed>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How soon the thread notices that it is over.
const BLINK: Duration = Duration::from_millis(50);

impl Keys {
    fn begin() -> io::Result<Self> {
        let (sender, pressed) = mpsc::channel(64);
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let event = match event::poll(BLINK) {
                        Ok(false) => continue,
                        Ok(true) => event::read(),
                        Err(error) => Err(error),
                    };
                    // Without a terminal to read from nobody could end it.
                    let Ok(event) = event else {
                        let _ = sender.blocking_send(Pressed::Quit);
                        return;
                    };
                    if let Some(pressed) = meaning(&event)
                        && sender.blocking_send(pressed).is_err()
                    {
                        return;
                    }
                }
            })?;
        Ok(Self {
            pressed,
            is_over,
            thread: Some(thread),
        })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.pressed.close();
        if let Some(thread) = self.thread.take() {
            // It ends within a blink; a panic in it was printed.
            let _ = thread.join();
        }
    }
}

fn meaning(event: &Event) -> Option<Pressed> {
    let key = match event {
        Event::Resize(..) => return Some(Pressed::Redraw),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if is_control => Some(Pressed::Quit),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Pressed::Quit),
        KeyCode::Char('p' | ' ') => Some(Pressed::Pause),
        KeyCode::Char('+') => Some(Pressed::Slower),
        KeyCode::Char('-') => Some(Pressed::Faster),
        _ => None,
    }
}

/// The signal to end.
#[cfg(unix)]
struct Ended(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Ended {
    fn new() -> io::Result<Self> {
        let kind = tokio::signal::unix::SignalKind::terminate();
        tokio::signal::unix::signal(kind).map(Self)
    }

    async fn wait(&mut self) {
        self.0.recv().await;
    }
}

/// Where there is no such signal, the keys end it.
#[cfg(not(unix))]
struct Ended;

#[cfg(not(unix))]
impl Ended {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn wait(&mut self) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let key = |code| meaning(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        assert_eq!(key(KeyCode::Char('q')), Some(Pressed::Quit));
        assert_eq!(key(KeyCode::Esc), Some(Pressed::Quit));
        assert_eq!(key(KeyCode::Char('c')), None);
        assert_eq!(key(KeyCode::Char(' ')), Some(Pressed::Pause));
        assert_eq!(key(KeyCode::Char('+')), Some(Pressed::Slower));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(meaning(&Event::Key(control_c)), Some(Pressed::Quit));
        assert_eq!(meaning(&Event::Resize(1, 1)), Some(Pressed::Redraw));
    }
}
