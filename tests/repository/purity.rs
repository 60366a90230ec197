//! The floors of the design: what each may know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(dir);
    let mut found = Vec::new();
    let mut open = vec![dir];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // Unit tests may use what they like; comments may name it.
                let code = match path.ends_with("tests.rs") {
                    true => "",
                    false => text.split("#[cfg(test)]").next().unwrap_or_default(),
                };
                let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
                found.push((path, lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(
        !found.is_empty(),
        "{dir:?}",
        dir = env!("CARGO_MANIFEST_DIR")
    );
    found
}

fn forbid(dir: &str, words: &[&str], except: &[&str]) {
    for (path, code) in sources(dir) {
        if except.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for word in words {
            assert!(!code.contains(word), "{} knows {word}", path.display());
        }
    }
}

#[test]
fn protocol_and_handshake_know_no_runtime_no_server_and_no_clock() {
    let words = ["tokio::", "hyper::", "hyper_util", "Instant", "SystemTime"];
    forbid("protocol", &words, &[]);
    // The accept key is tungstenite's; it is a function of bytes.
    forbid("handshake", &words, &[]);
}

#[test]
fn only_the_start_of_the_driver_knows_hypers_upgrade() {
    let words = ["hyper::upgrade"];
    let except = [
        "driver/evidence.rs",
        "driver/io.rs",
        "driver/upgrade.rs",
        "driver/upgraded.rs",
        // A client.
        "test/request.rs",
    ];
    forbid("", &words, &except);
}

/// A user who fuzzes an application sets `--cfg fuzzing` for all crates in it. What that compiles of
/// ours must be what the user deploys.
#[test]
fn s10_nothing_is_compiled_differently_where_a_user_fuzzes() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    assert!(!manifest.contains("cfg(fuzzing"), "Cargo.toml");
    // The harness of our own fuzzers included.
    for (path, code) in sources("").into_iter().chain(sources("../fuzz/properties")) {
        for line in code.lines().filter(|line| line.contains("cfg")) {
            let line = line.replace("tower_websocket_fuzzing", "");
            assert!(!line.contains("fuzzing"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn each_floor_uses_only_what_is_below_it() {
    // From the top; each line may use those below it, and itself.
    let floors: &[&[&str]] = &[
        &["lib.rs", "fuzzing", "guide"],
        &["test"],
        &["service"],
        &["operator"],
        &["driver"],
        &["handler"],
        &["connection"],
        &["topics"],
        &["error"],
        &["handshake", "protocol"],
        &["shutdown", "json"],
        &["measure"],
        &["close", "config"],
        &["message"],
        &["logging", "jitter", "spawn", "sync"],
    ];
    let floor_of = |name: &str| floors.iter().position(|floor| floor.contains(&name));
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (path, code) in sources("") {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
        let module = name.split(['/', '.']).next().unwrap();
        let own = floor_of(if name == "lib.rs" { name } else { module });
        let own = own.unwrap_or_else(|| panic!("{name} stands on no floor"));
        for used in code.split("use crate::").skip(1) {
            let used = used
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next();
            let Some(floor) = floor_of(used.unwrap()) else {
                continue;
            };
            assert!(
                floor > own || floor == own && used == Some(module) || own == 0,
                "{name} uses {used:?}, which is not below it"
            );
        }
    }
}

/// Files of one folder that use each other in a circle can only be read together.
#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut uses: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for (path, code) in sources("") {
        // What a folder's mod.rs names are its own files.
        if path.ends_with("mod.rs") || path.ends_with("lib.rs") {
            continue;
        }
        let folder = path.parent().unwrap();
        let used = code.split("super::").skip(1).filter_map(|used| {
            let name = used
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()?;
            let file = folder.join(format!("{name}.rs"));
            file.exists().then_some(file)
        });
        uses.insert(path.clone(), used.collect());
    }
    // Whoever uses nothing that is left is in no circle.
    loop {
        let left: BTreeSet<PathBuf> = uses.keys().cloned().collect();
        uses.retain(|_, used| used.iter().any(|file| left.contains(file)));
        if uses.len() == left.len() {
            break;
        }
    }
    assert!(uses.is_empty(), "{uses:#?}");
}

#[test]
fn every_folder_says_what_lives_in_it() {
    for (path, _) in sources("") {
        if !path.ends_with("mod.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let docs = text.lines().take_while(|line| line.starts_with("//!"));
        assert!(docs.count() >= 5, "{} has no picture", path.display());
    }
}

/// A file that was moved or renamed is still named by the pages that lead to it.
#[test]
fn every_file_that_the_pages_for_contributors_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<PathBuf> = sources("").into_iter().map(|(path, _)| path).collect();
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let names = text.split(|c: char| !c.is_alphanumeric() && !"._-/".contains(c));
        let names = names.map(|name| name.trim_end_matches(['.', '/']));
        // A recipe names files that are yet to be written.
        for name in names.filter(|name| !name.contains("NAME")) {
            let (top, _) = name.split_once('/').unwrap_or_default();
            let folder = ["src", "tests", "fuzz", "benches", "examples", ".ci"].contains(&top);
            let exists = if folder {
                // The crate is published without some of them.
                root.join(name).exists() || !root.join(top).exists()
            } else if name.ends_with(".md") {
                root.join(name).exists()
            } else if name.ends_with(".rs") {
                // The text around it says in which folder.
                sources.iter().any(|path| path.ends_with(name))
            } else {
                true
            };
            assert!(exists, "{page} names {name}");
        }
    }
}
