//! Expands a template and a row of random choices into command lines, always the same way, so that
//! shrinking the choices shrinks the commands.
//!
//! In a template, `{a|b c|}` is one of its alternatives, `+{…}` is one to three repetitions, `$x`
//! is a random argument of a sort, and ` ; ` separates commands. Quotes are part of the argument
//! only in scripts, which stand between backquotes.

use std::fmt;

use redkit_core::Command;

use super::sorts::{KEYS, SORTS};
use super::templates::TEMPLATES;

/// A command line.
#[derive(Clone)]
pub(super) struct Line(pub(super) Vec<String>);

impl Line {
    pub(super) fn command(&self) -> Command {
        let name = self.0.first().map_or("", String::as_str);
        Command::new(name).args(self.0.iter().skip(1).map(String::as_str))
    }

    /// The command's name in capitals; that of the command inside for a script that runs one.
    pub(super) fn effective_name(&self) -> String {
        let words = &self.0;
        let inner = words.first().is_some_and(|name| name.starts_with("EVAL"))
            && words
                .get(1)
                .is_some_and(|script| script.contains("unpack(ARGV)"));
        words
            .get(if inner { 3 } else { 0 })
            .map(|name| name.to_ascii_uppercase())
            .unwrap_or_default()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|word| format!("{word:?}")).collect();
        f.write_str(&words.join(" "))
    }
}

/// A line without choices.
pub(super) fn line(text: &str) -> Line {
    Line(text.split(' ').map(str::to_owned).collect())
}

/// What is under every key at the end, and when it expires.
pub(super) fn contents() -> impl Iterator<Item = Line> {
    let keys = SORTS.iter().filter(|(sort, _)| KEYS.contains(sort));
    let keys = keys.flat_map(|(_, keys)| keys.iter().copied());
    let mut keys: Vec<&str> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    let reads = [
        "TYPE {}",
        "PTTL {}",
        "GET {}",
        "LRANGE {} 0 -1",
        "HGETALL {}",
        "SMEMBERS {}",
        "ZRANGE {} 0 -1 WITHSCORES",
        "XRANGE {} - +",
        "XINFO STREAM {} FULL",
        "XINFO GROUPS {}",
    ];
    keys.into_iter()
        .flat_map(move |key| reads.map(|read| line(&read.replace("{}", key))))
        .chain([line("DBSIZE")])
}

/// The commands of a template. `at` is the position in the sequence.
pub(super) fn expand(template: u16, choices: &[u16], at: usize) -> Vec<Line> {
    let template = TEMPLATES[usize::from(template) % TEMPLATES.len()];
    let mut expansion = Expansion {
        choices: choices.iter().copied().cycle().enumerate(),
        at,
    };
    let mut text = String::new();
    expansion.write(template, &mut text);
    text.split(" ; ").map(|line| Line(words(line))).collect()
}

struct Expansion<I> {
    choices: I,
    at: usize,
}

impl<I: Iterator<Item = (usize, u16)>> Expansion<I> {
    /// One of `len`; the choices repeat, differently, when there are more than were drawn.
    fn choose(&mut self, len: usize) -> usize {
        let (round, choice) = self.choices.next().expect("the choices repeat for ever");
        (usize::from(choice) + round / 24) % len
    }

    fn write(&mut self, mut template: &str, out: &mut String) {
        while let Some(special) = template.find(['{', '+', '$', '`']) {
            out.push_str(&template[..special]);
            let rest = &template[special..];
            template = if let Some(script) = rest.strip_prefix('`') {
                let end = script.find('`').expect("a script ends") + 2;
                out.push_str(&rest[..end]);
                &rest[end..]
            } else if let Some(rest) = rest.strip_prefix("+{") {
                let (inside, rest) = braces(rest);
                for _ in 0..=self.choose(3) {
                    self.write(inside, out);
                    out.push(' ');
                }
                rest
            } else if let Some(rest) = rest.strip_prefix('{') {
                let (inside, rest) = braces(rest);
                let alternatives = alternatives(inside);
                let chosen = alternatives[self.choose(alternatives.len())];
                self.write(chosen, out);
                rest
            } else if let Some(rest) = rest.strip_prefix('$') {
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric())
                    .unwrap_or(rest.len());
                self.argument(&rest[..end], out);
                &rest[end..]
            } else {
                out.push('+');
                &rest[1..]
            };
        }
        out.push_str(template);
    }

    fn argument(&mut self, sort: &str, out: &mut String) {
        // No two expiries of a sequence lie close together, so that whether one is later than
        // another does not depend on how fast the commands run.
        if sort == "ttl" {
            let seconds = (self.choose(5) + 1) * 1_000 + self.at * 7;
            out.push_str(&seconds.to_string());
            return;
        }
        if sort == "ttlms" {
            let millis = ((self.choose(5) + 1) * 1_000 + self.at * 7) * 1_000;
            out.push_str(&millis.to_string());
            return;
        }
        // Ids that grow with the sequence, most of the time.
        if sort == "nid" {
            out.push_str(&format!("{}-{}", self.at + 1, self.choose(3)));
            return;
        }
        if sort == "any" {
            let template = TEMPLATES[self.choose(TEMPLATES.len())];
            let first = template.split(" ; ").next().unwrap_or_default();
            // Transactions do not nest: what happens to one with a MULTI or a WATCH inside depends on
            // the server's version.
            let is_plain = !first.contains('`') && !first.contains("$any");
            match !is_plain
                || ["MULTI", "WATCH"]
                    .iter()
                    .any(|name| first.starts_with(name))
            {
                true => out.push_str("PING"),
                false => self.write(first, out),
            }
            return;
        }
        let (_, values) = SORTS
            .iter()
            .find(|(name, _)| *name == sort)
            .unwrap_or_else(|| panic!("no sort ${sort}"));
        // Now and then a key of another type.
        let values = match KEYS.contains(&sort) && self.choose(12) == 11 {
            true => SORTS[self.choose(KEYS.len())].1,
            false => values,
        };
        out.push_str(values[self.choose(values.len())]);
    }
}

/// Splits the text inside the braces from the text behind them.
fn braces(text: &str) -> (&str, &str) {
    let mut depth = 1;
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[..index], &text[index + 1..]);
        }
    }
    panic!("braces do not match: {text}");
}

fn alternatives(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '|' if depth == 0 => {
                found.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found
}

/// Words are separated by blanks; text between backquotes is one word; `~` is an empty word,
/// `~~` a tilde.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('`').enumerate() {
        match index % 2 == 1 {
            true => words.push(part.to_owned()),
            false => words.extend(part.split_whitespace().map(|word| match word {
                "~" => String::new(),
                "~~" => "~".to_owned(),
                word => word.to_owned(),
            })),
        }
    }
    words
}
