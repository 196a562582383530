//! Numbers, times and keys as people read them.

use std::time::{Duration, SystemTime};

/// `1.5 MiB`
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut unit, mut below) = (0, 1_u64);
    while unit + 1 < UNITS.len() && count / below >= 1024 {
        unit += 1;
        below *= 1024;
    }
    let name = UNITS.get(unit).unwrap_or(&"B");
    match unit {
        0 => format!("{count} {name}"),
        // Tenths, without floating point.
        _ => format!("{}.{} {name}", count / below, count % below * 10 / below),
    }
}

/// `3m 20s`, `1.2s`, `350ms`
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time < Duration::from_millis(1) => format!("{}us", time.as_micros()),
        0 => format!("{}ms", time.as_millis()),
        1..=9 => format!("{seconds}.{}s", time.subsec_millis() / 100),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// How long ago a moment was, or is still to come.
pub(crate) fn ago(moment: SystemTime) -> String {
    match SystemTime::now().duration_since(moment) {
        Ok(ago) => format!("{} ago", duration(ago)),
        Err(ahead) => format!("in {}", duration(ahead.duration())),
    }
}

/// A moment for programs: RFC 3339.
pub(crate) fn time(moment: SystemTime) -> String {
    humantime::format_rfc3339_millis(moment).to_string()
}

/// Bytes as a text in which nothing moves the cursor or ends a line. Text of other alphabets stands as it is.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => printable(text),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// A text in which nothing moves the cursor or ends a line.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() || is_bidirectional(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// Whether it turns the order of what follows on a terminal.
fn is_bidirectional(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most so many characters.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}

/// Seconds as a number for programs.
pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
        assert_eq!(duration(Duration::from_micros(12)), "12us");
        assert_eq!(duration(Duration::from_millis(1_250)), "1.2s");
        assert_eq!(duration(Duration::from_secs(90_061)), "1d 1h");
        assert_eq!(
            ago(SystemTime::now() + Duration::from_secs(7_230)),
            "in 2h 0m"
        );
    }

    #[test]
    fn nothing_stored_reaches_the_terminal_as_a_command() {
        assert_eq!(text(b"a\x1b[2J\n"), "a\\u{1b}[2J\\n");
        assert_eq!(text("zür:\u{202e}x".as_bytes()), "zür:\\u{202e}x");
        assert_eq!(text(b"\xff\x01"), "\\xff\\x01");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
