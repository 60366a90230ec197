//! The floors of the design: what each may know.

#![expect(clippy::unwrap_used, reason = "a test may")]

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
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
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
fn only_the_service_and_the_driver_know_hypers_upgrade() {
    let words = ["OnUpgrade", "Upgraded"];
    let except = [
        "service/service.rs",
        "service/guard.rs",
        "driver/upgraded.rs",
        // Names the stream's type in signatures (`stream` hands out a `WebSocketStream` of it).
        "driver/endpoint.rs",
        "service/layer.rs",
    ];
    forbid("", &words, &except);
}

#[test]
fn each_floor_uses_only_what_is_below_it() {
    let floors = [
        (
            "logging.rs",
            vec![
                "error",
                "message",
                "shutdown",
                "protocol",
                "handshake",
                "connection",
                "handler",
                "driver",
                "service",
            ],
        ),
        (
            "message.rs",
            vec![
                "error",
                "shutdown",
                "protocol",
                "handshake",
                "connection",
                "handler",
                "driver",
                "service",
            ],
        ),
        (
            "config.rs",
            vec![
                "error",
                "message",
                "shutdown",
                "protocol",
                "handshake",
                "connection",
                "handler",
                "driver",
                "service",
            ],
        ),
        (
            "error.rs",
            vec![
                "shutdown",
                "protocol",
                "handshake",
                "connection",
                "handler",
                "driver",
                "service",
            ],
        ),
        (
            "shutdown.rs",
            vec![
                "protocol",
                "handshake",
                "connection",
                "handler",
                "driver",
                "service",
            ],
        ),
        (
            "protocol/",
            vec![
                "shutdown",
                "handshake",
                "connection",
                "handler",
                "driver",
                "service",
            ],
        ),
        (
            "handshake/",
            vec![
                "shutdown",
                "protocol",
                "connection",
                "handler",
                "driver",
                "service",
            ],
        ),
        ("connection/", vec!["handler", "driver", "service"]),
        ("handler.rs", vec!["driver", "service"]),
        ("driver/", vec!["service"]),
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (path, code) in sources("") {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
        let Some((_, above)) = floors.iter().find(|(floor, _)| name.starts_with(floor)) else {
            continue;
        };
        for floor in above {
            let word = format!("use crate::{floor}");
            assert!(
                !code.contains(&word),
                "{name} uses {floor}, a floor above it"
            );
        }
    }
}
