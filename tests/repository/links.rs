//! Links: those of the Markdown files lead to files and headings, and those that rustdoc's front
//! page takes from the README lead to where the documentation has the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const DOCS_RS: &str = "https://docs.rs/crate/tower-websocket/latest/source/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The lines that are not code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The targets of `[text](target)`.
fn inline(text: &str) -> Vec<&str> {
    let links = prose(text).flat_map(|line| line.split("](").skip(1));
    links.filter_map(|rest| rest.split(')').next()).collect()
}

/// The definitions `[label]: target`, with or without the mark of a doc comment before them.
fn definitions(text: &str) -> BTreeMap<&str, &str> {
    let lines = prose(text).map(|line| line.trim_start_matches("//!").trim_start());
    lines
        .filter_map(|line| line.strip_prefix('[')?.split_once("]: "))
        .collect()
}

/// GitHub's and rustdoc's names of the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let name = |line: &str| {
        let line = line.trim_start_matches('#').trim().to_lowercase();
        let kept = line
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(name).collect()
}

fn is_relative(target: &str) -> bool {
    !target.contains(':') && !target.starts_with('#')
}

/// All Markdown files of the repository but those that a build or a package manager made.
fn pages() -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![root().to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules", "corpus"].contains(&name) {
                    open.push(path);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_relative_link_of_a_page_leads_to_a_file_or_a_heading() {
    let pages = pages();
    assert!(pages.contains(&root().join("README.md")), "{pages:?}");
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let anchors = anchors(&text);
        for target in inline(&text)
            .into_iter()
            .chain(definitions(&text).into_values())
        {
            let good = match target.strip_prefix('#') {
                Some(anchor) => anchors.contains(anchor),
                None if is_relative(target) => page.parent().unwrap().join(target).exists(),
                None => true,
            };
            assert!(good, "{}: {target}", page.display());
        }
    }
}

#[test]
fn the_front_page_of_the_documentation_has_no_link_that_only_the_repository_has() {
    let (readme, lib, guide) = (read("README.md"), read("src/lib.rs"), read("src/guide.rs"));
    let there = definitions(&lib);
    let include = read("Cargo.toml");
    let include = include
        .lines()
        .find(|line| line.starts_with("include"))
        .unwrap();
    let relative = inline(&readme)
        .into_iter()
        .filter(|target| is_relative(target));
    assert_eq!(
        relative.collect::<Vec<_>>(),
        [""; 0],
        "define them at the end"
    );
    for (label, target) in definitions(&readme) {
        if label == "picture" {
            continue;
        }
        let Some(ours) = there.get(label) else {
            assert!(!is_relative(target), "src/lib.rs does not define [{label}]");
            continue;
        };
        if let Some(page) = ours.strip_prefix("guide::") {
            assert!(guide.contains(&format!("pub mod {page} {{}}")), "{ours}");
            assert!(
                guide.contains(target.trim_start_matches("src/")),
                "{target}"
            );
        } else {
            // docs.rs shows the files of the package.
            assert_eq!(ours.strip_prefix(DOCS_RS), Some(target));
            let top = target.split('/').next().unwrap();
            assert!(include.contains(&format!("\"/{top}\"")), "{target}");
        }
    }
}

#[test]
fn the_pages_of_the_guide_have_no_relative_links() {
    let guide = read("src/guide.rs");
    let files = guide.split("include_str!(\"").skip(1);
    for file in files.map(|rest| rest.split('"').next().unwrap()) {
        let text = std::fs::read_to_string(root().join("src").join(file)).unwrap();
        let links = inline(&text)
            .into_iter()
            .chain(definitions(&text).into_values());
        let relative: Vec<&str> = links.filter(|target| is_relative(target)).collect();
        assert_eq!(relative, [""; 0], "{file}");
    }
}

/// `benches/plot.py` writes both.
#[test]
fn the_documentation_has_the_picture_of_the_readme() {
    let link = read("src/guide/picture.txt");
    let quoted = link.strip_prefix("[picture]: data:image/svg+xml,").unwrap();
    let mut parts = quoted.trim_end().split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        read("benches/results.svg")
    );
}
