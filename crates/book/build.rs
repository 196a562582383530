//! Makes a test of every Rust block of the documents: see the documentation of the crate.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// Documents about redkit's own tests, whose code is parts of tests.
const SKIPPED: &[&str] = &["docs/simulation.md", "docs/testing.md"];

/// A block of Rust in a document.
struct Block {
    /// Where it begins.
    line: usize,
    code: String,
    /// The lines in front of the block that the page does not show.
    setup: String,
    is_run: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    collect(&root.join("docs"), &mut pages)?;
    for entry in std::fs::read_dir(root.join("crates"))? {
        let readme = entry?.path().join("README.md");
        if readme.exists() {
            pages.push(readme);
        }
    }
    pages.sort();

    let mut tests = String::new();
    for page in &pages {
        println!("cargo::rerun-if-changed={}", page.display());
        let name = page.strip_prefix(&root)?.display().to_string();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(page)?;
        let is_guide = !name.starts_with("docs/") || name.starts_with("docs/guides/");
        let blocks = blocks(&text, is_guide).map_err(|error| format!("{name}: {error}"))?;
        if !blocks.is_empty() {
            write_page(&mut tests, &name, &blocks)?;
        }
    }
    // New pages and folders.
    println!("cargo::rerun-if-changed={}", root.join("docs").display());
    println!("cargo::rerun-if-changed={}", root.join("crates").display());
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("blocks.rs"), tests)?;
    Ok(())
}

/// All documents below a folder.
fn collect(folder: &Path, pages: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, pages)?;
        } else if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// The blocks of a document, in their order. In guides and in a `README.md` every block is compiled; elsewhere parts of
/// programs may be marked `rust,ignore`.
fn blocks(text: &str, is_guide: bool) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut setup = String::new();
    let mut open: Option<Block> = None;
    let mut html = String::new();
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                let line = text.get(..range.start).unwrap_or_default();
                let line = line.matches('\n').count() + 1;
                let is_run = match &*info {
                    "rust" => true,
                    "rust,no_run" => false,
                    "rust,ignore" if !is_guide => continue,
                    other if other.starts_with("rust") => {
                        return Err(format!(
                            "line {line}: `{other}` is neither `rust` nor `rust,no_run`"
                        ));
                    }
                    _ => continue,
                };
                let (code, setup) = (String::new(), setup.clone());
                open = Some(Block {
                    line,
                    code,
                    setup,
                    is_run,
                });
            }
            Event::Text(part) => {
                if let Some(block) = &mut open {
                    block.code.push_str(&part);
                }
            }
            Event::End(TagEnd::CodeBlock) => found.extend(open.take()),
            Event::Start(Tag::HtmlBlock) => html.clear(),
            Event::Html(part) => html.push_str(&part),
            Event::End(TagEnd::HtmlBlock) => {
                let inner = html.trim().strip_prefix("<!-- setup");
                if let Some(inner) = inner.and_then(|inner| inner.strip_suffix("-->")) {
                    setup = inner.to_owned();
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn write_page(tests: &mut String, name: &str, blocks: &[Block]) -> std::fmt::Result {
    let module = name.trim_end_matches(".md").to_lowercase();
    let module = module.replace(|other: char| !other.is_ascii_alphanumeric(), "_");
    writeln!(tests, "mod {module} {{")?;
    for block in blocks {
        write_block(tests, name, block)?;
    }
    writeln!(tests, "}}")
}

fn write_block(tests: &mut String, name: &str, block: &Block) -> std::fmt::Result {
    let Block {
        line,
        code,
        setup,
        is_run,
    } = block;
    writeln!(tests, "// {name}, line {line}")?;
    if code.contains("fn main()") {
        let test = if *is_run { "#[test]" } else { "" };
        return writeln!(
            tests,
            "mod line_{line} {{\n{setup}\n{code}\n{test}\nfn runs() {{\n\
             let code = std::process::Termination::report(main());\n\
             assert_eq!(code, std::process::ExitCode::SUCCESS);\n}}\n}}"
        );
    }
    let test = if *is_run { "#[tokio::test]" } else { "" };
    writeln!(
        tests,
        "{test}\nasync fn line_{line}() -> Result<(), Box<dyn std::error::Error>> {{\n{setup}\n{{\n{code}\n}}\nOk(())\n}}"
    )
}
