//! `cargo xtask book`: docs/ as a book.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use xshell::{Shell, cmd};

use crate::Failure;

/// Builds the book, after checking that every page is in it.
pub(crate) fn run(sh: &Shell) -> Result<ExitCode, Failure> {
    let docs = sh.current_dir().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md"))?;
    let mut pages = Vec::new();
    collect(&docs, &docs, &mut pages)?;
    let left_out = left_out(&summary, &pages);
    if !left_out.is_empty() {
        return Err(format!("docs/SUMMARY.md lacks {}", left_out.join(", ")).into());
    }
    if cmd!(sh, "mdbook --version")
        .quiet()
        .ignore_stdout()
        .ignore_stderr()
        .run()
        .is_err()
    {
        return Err("mdBook is not here: `cargo install mdbook --locked` installs it".into());
    }
    cmd!(sh, "mdbook build docs").run()?;
    println!("target/book/index.html");
    Ok(ExitCode::SUCCESS)
}

/// The documents below a folder, by their paths from `docs`.
fn collect(docs: &Path, folder: &Path, pages: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(docs, &path, pages)?;
        } else if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path.strip_prefix(docs)?.to_owned());
        }
    }
    pages.sort();
    Ok(())
}

/// The pages that the summary does not name.
fn left_out(summary: &str, pages: &[PathBuf]) -> Vec<String> {
    let names = pages.iter().map(|page| page.display().to_string());
    names
        .filter(|name| name != "SUMMARY.md" && !summary.contains(&format!("({name})")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_not_in_the_summary_is_named() {
        let pages = ["SUMMARY.md", "start.md", "guides/lock.md"].map(PathBuf::from);
        let summary = "- [Start](start.md)\n";
        assert_eq!(left_out(summary, &pages), ["guides/lock.md"]);
    }
}
