//! Standard output: a table for people, or JSON for programs.

use std::io::{self, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::failure::Failure;

/// Prints a document as JSON.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|error| {
        Failure::new(
            format!("cannot write JSON: {error}"),
            "report this as a bug",
        )
    })?;
    line(&text)
}

/// Prints a document as one line of JSON.
pub(crate) fn json_line(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(document).map_err(|error| {
        Failure::new(
            format!("cannot write JSON: {error}"),
            "report this as a bug",
        )
    })?;
    line(&text)
}

/// Says on standard error that a list is not all there is.
pub(crate) fn left_out(many: usize) {
    if many > 0 {
        eprintln!("{many} more are not shown: see --limit");
    }
}

/// Prints a line. A reader that has gone away (`| head`) ends the program quietly.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(
            format!("cannot write to standard output: {error}"),
            "look at where it goes to",
        )),
    }
}

/// Columns of text.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| head.to_uppercase());
        Self {
            rows: vec![heads.collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it, or `none` when it has no rows.
    pub(crate) fn print(&self, none: &str) -> Result<(), Failure> {
        match self.rows.len() {
            0 | 1 => line(none),
            _ => line(&self.to_text()),
        }
    }

    fn to_text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width_of = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width_of).collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| {
                let space = width.saturating_sub(cell.width());
                format!("{cell}{}", " ".repeat(space))
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_a_terminal_shows() {
        let mut table = Table::new(&["key", "n"]);
        table.row(["日本".to_owned(), "1".to_owned()]);
        table.row(["a".to_owned(), "22".to_owned()]);
        assert_eq!(table.to_text(), "KEY   N\n日本  1\na     22");
    }
}
