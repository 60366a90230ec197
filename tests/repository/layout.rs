//! No file of tests is forgotten: cargo looks for binaries in `tests/` itself only, and rustc says
//! nothing about a file that no `mod` names.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn entries(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(dir)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_program_of_tests_process_is_named_in_the_manifest() {
    let manifest = std::fs::read_to_string(root().join("tests/package/Cargo.toml")).unwrap();
    let mut count = 0;
    for path in entries("tests/process") {
        let file = if path.is_dir() {
            path.join("main.rs")
        } else {
            path
        };
        let file = file.strip_prefix(root().join("tests")).unwrap();
        let line = format!("path = \"../{}\"", file.to_str().unwrap());
        assert!(
            manifest.contains(&line),
            "tests/package/Cargo.toml has no [[test]] with {line}"
        );
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn every_file_of_tests_stack_and_redis_is_named_in_its_folder() {
    let mut folders = vec!["tests/stack".to_owned(), "tests/redis".to_owned()];
    while let Some(folder) = folders.pop() {
        let paths = entries(&folder);
        let index = paths
            .iter()
            .find(|path| path.ends_with("mod.rs") || path.ends_with("main.rs"));
        let index = std::fs::read_to_string(index.expect(&folder)).unwrap();
        for path in &paths {
            let name = path.file_stem().unwrap().to_str().unwrap();
            if path.is_dir() {
                folders.push(format!("{folder}/{name}"));
            } else if name == "mod" || name == "main" {
                continue;
            }
            let declared = index.lines().any(|line| line == format!("mod {name};"));
            assert!(declared, "{folder} does not declare `mod {name};`");
        }
    }
}
