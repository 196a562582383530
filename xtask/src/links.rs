//! `cargo xtask links`: every link of a document leads to a file of this repository, and to a heading in it. Links to
//! other places are not followed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use xshell::{Shell, cmd};

use crate::Failure;

/// Checks the links, and says how many documents there are.
pub(crate) fn run(sh: &Shell) -> Result<ExitCode, Failure> {
    check(sh)?;
    Ok(ExitCode::SUCCESS)
}

/// Fails with a list of the links that lead nowhere.
pub(crate) fn check(sh: &Shell) -> Result<(), Failure> {
    let files = cmd!(
        sh,
        "git ls-files --cached --others --exclude-standard --deduplicate -- *.md **/*.md"
    )
    .quiet()
    .read()?;
    let root = sh.current_dir();
    let mut documents = BTreeMap::new();
    for file in files.lines().map(PathBuf::from) {
        // A file that was deleted and not committed yet is still listed.
        if let Ok(text) = std::fs::read_to_string(root.join(&file)) {
            documents.insert(file, text);
        }
    }
    let broken = broken(&documents, |path| root.join(path).exists());
    println!("{} documents", documents.len());
    match broken.is_empty() {
        true => Ok(()),
        false => Err(broken.join("\n").into()),
    }
}

/// What a document offers and wants.
struct Page {
    anchors: BTreeSet<String>,
    /// The targets of its links, with their lines.
    links: Vec<(usize, String)>,
}

/// The links that lead nowhere: `page:line: target: why`.
fn broken(documents: &BTreeMap<PathBuf, String>, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let read = |(path, text): (&PathBuf, &String)| (path.clone(), page(text));
    let pages: BTreeMap<PathBuf, Page> = documents.iter().map(read).collect();
    let mut broken = Vec::new();
    for (path, page) in &pages {
        for (line, target) in &page.links {
            if let Some(why) = fault(path, target, &pages, &exists) {
                broken.push(format!("{}:{line}: {target}: {why}", path.display()));
            }
        }
    }
    broken
}

/// What is wrong with a link, if anything is.
fn fault(
    from: &Path,
    target: &str,
    pages: &BTreeMap<PathBuf, Page>,
    exists: impl Fn(&Path) -> bool,
) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let path = match file {
        "" => from.to_owned(),
        _ => match resolve(from, file) {
            Some(path) => path,
            None => return Some("it leads out of the repository"),
        },
    };
    match (pages.get(&path), anchor) {
        (Some(page), Some(anchor)) if !page.anchors.contains(anchor) => {
            Some("there is no such heading")
        }
        (Some(_), _) => None,
        (None, _) if !exists(&path) => Some("there is no such file"),
        (None, Some(_)) => Some("the file is no document with headings"),
        (None, None) => None,
    }
}

/// The path that a link of `from` names, from the root of the repository.
fn resolve(from: &Path, file: &str) -> Option<PathBuf> {
    let mut path = from.parent()?.to_owned();
    for part in Path::new(file).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn page(text: &str) -> Page {
    let mut page = Page {
        anchors: BTreeSet::new(),
        links: Vec::new(),
    };
    let mut seen = HashMap::new();
    let mut heading: Option<String> = None;
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                let number: &mut usize = seen.entry(anchor.clone()).or_default();
                page.anchors.insert(match *number {
                    0 => anchor,
                    number => format!("{anchor}-{number}"),
                });
                *number += 1;
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let before = text.get(..range.start).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                page.links.push((line, dest_url.into_string()));
            }
            _ => {}
        }
    }
    page
}

/// A heading's anchor, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().chars().flat_map(char::to_lowercase);
    letters
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            other => other.is_alphanumeric().then_some(other),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_in(pages: &[(&str, &str)]) -> Vec<String> {
        let documents = pages
            .iter()
            .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
            .collect();
        broken(&documents, |path| path == Path::new("src/lib.rs"))
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_line() {
        let guide = "# Guide\n\n[gone](gone.md), [lost](../README.md#lost),\n[out](../../x.md), [root](/README.md)\n\
                     [code](../src/lib.rs#L7), ![picture](a.png)\n";
        let found = broken_in(&[("README.md", "# Readme\n"), ("docs/guide.md", guide)]);
        assert_eq!(
            found,
            [
                "docs/guide.md:3: gone.md: there is no such file",
                "docs/guide.md:3: ../README.md#lost: there is no such heading",
                "docs/guide.md:4: ../../x.md: it leads out of the repository",
                "docs/guide.md:4: /README.md: it leads out of the repository",
                "docs/guide.md:5: ../src/lib.rs#L7: the file is no document with headings",
                "docs/guide.md:5: a.png: there is no such file",
            ]
        );
    }

    #[test]
    fn links_that_lead_somewhere_and_links_in_code_are_left_alone() {
        let guide = "# Two `Words`, and more!\n## Again\n## Again\n[a](#two-words-and-more) [b](#again-1) \
                     [c](../README.md) [d](../src/lib.rs) [e](https://docs.rs/x#y) | `[f](f.md)`\n\
                     ```rust\nlet x = y[0](z);\n```\n\n| t |\n|---|\n| [g](../README.md#readme) |\n";
        let found = broken_in(&[("README.md", "# Readme\n"), ("docs/guide.md", guide)]);
        assert_eq!(found, Vec::<String>::new());
    }
}
