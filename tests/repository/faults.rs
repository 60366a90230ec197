//! `faults.md` is the project's table of faults: what comes in, what must happen, and the tests
//! that show it. These tests see to it that no row is without one, and no name is invented.

use std::collections::BTreeSet;
use std::path::Path;

/// Every row that there must be.
const ROWS: [(&str, std::ops::RangeInclusive<u32>); 12] = [
    ("H", 1..=27),
    ("F", 1..=34),
    ("N", 1..=12),
    ("A", 1..=18),
    ("R", 1..=12),
    ("2.", 1..=13),
    ("X", 1..=7),
    ("P", 1..=8),
    ("S", 1..=10),
    ("E", 1..=2),
    ("T", 1..=16),
    ("B", 1..=10),
];

struct Row {
    id: String,
    tests: Vec<String>,
}

fn rows() -> Vec<Row> {
    include_str!("faults.md")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line
                .strip_prefix("| ")?
                .split(" | ")
                .map(str::trim)
                .collect();
            let [id, _, _, tests] = cells[..] else {
                panic!("a row has four cells: {line}");
            };
            let tests = tests.trim_end_matches('|').split('`').skip(1).step_by(2);
            Some(Row {
                id: id.to_owned(),
                tests: tests.map(str::to_owned).collect(),
            })
        })
        .filter(|row| row.id != "#" && !row.id.starts_with('-'))
        .collect()
}

/// Whether `name` is a test in `file`, and is not left out of the runs.
fn is_test(file: &str, name: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let Ok(source) = std::fs::read_to_string(path) else {
        return false;
    };
    let Some(at) = source.find(&format!("fn {name}(")) else {
        return false;
    };
    // Its attributes stand between the item before it and its name.
    let before = source[..at].rfind("\n}").or(source[..at].rfind("    }\n"));
    let attributes = &source[before.unwrap_or(0)..at];
    let attributes: String = attributes.lines().rev().take(12).collect();
    attributes.contains("test") && !attributes.contains("#[ignore")
}

#[test]
fn every_row_of_the_table_has_a_test() {
    let rows = rows();
    let there: BTreeSet<&str> = rows.iter().map(|row| &*row.id).collect();
    assert_eq!(there.len(), rows.len(), "a row is there twice");
    let wanted: BTreeSet<String> = ROWS
        .iter()
        .flat_map(|(letter, numbers)| numbers.clone().map(move |n| format!("{letter}{n}")))
        .collect();
    let wanted: BTreeSet<&str> = wanted.iter().map(|id| &**id).collect();
    assert_eq!(there, wanted);
    let without: Vec<&str> = rows
        .iter()
        .filter(|row| row.tests.is_empty())
        .map(|row| &*row.id)
        .collect();
    assert!(without.is_empty(), "no test for {without:?}");
}

#[test]
fn every_test_of_the_table_exists_and_runs() {
    for row in rows() {
        for test in &row.tests {
            let (file, name) = test.split_once("::").expect("file::name");
            assert!(
                is_test(file, name),
                "{}: {test} is no test that runs",
                row.id
            );
        }
    }
}
