//! The server over TLS.

use std::path::{Path, PathBuf};

use crate::process::Process;
use crate::server::Server;

/// A certificate for these names, and its key, as files of the server.
fn identity(server: &Server, name: &str, names: &[&str]) -> (PathBuf, PathBuf) {
    let names = names.iter().map(|&name| name.to_owned());
    let made = rcgen::generate_simple_self_signed(names.collect::<Vec<_>>()).unwrap();
    let (certificate, key) = (
        server.file(&format!("{name}.pem")),
        server.file(&format!("{name}.key")),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

fn node(url: &str, trusts: &Path) -> Process {
    let trusts = trusts.to_str().unwrap();
    Process::with(url, &[("SSL_CERT_FILE", trusts), ("SSL_CERT_DIR", "")])
}

#[tokio::test]
async fn b8_over_tls_nodes_reach_each_other_and_a_server_that_is_not_trusted_is_told() {
    let Some(mut server) = Server::own() else {
        return;
    };
    let (certificate, key) = identity(&server, "server", &["127.0.0.1"]);
    let (stranger, _) = identity(&server, "stranger", &["127.0.0.1"]);
    server.kill();
    if !server.start_tls(&certificate, &key, "hush") {
        return;
    }
    let url = server.url().replace("redis://", "rediss://:hush@");

    let nodes = [node(&url, &certificate), node(&url, &certificate)];
    for node in &nodes {
        node.up().await;
    }
    let mut subscriber = nodes[1].subscriber(&["plain", "log"]).await;
    let mut client = nodes[0].client().await;
    client.send("publish plain hello").await;
    assert_eq!(subscriber.next().await, "hello");
    assert_eq!(client.ask("append log hello").await, "ok hello");
    assert!(subscriber.next().await.ends_with(" log hello"));

    let nothing = server.file("empty.pem");
    std::fs::write(&nothing, "").unwrap();
    for (url, trusts, expected) in [
        (url.clone(), &stranger, "invalid peer certificate"),
        (url.clone(), &nothing, "no certificates of authorities"),
        (
            url.replace("127.0.0.1", "localhost"),
            &certificate,
            "not valid for name",
        ),
        // It resets the connection, or closes it.
        (
            url.replace("rediss", "redis"),
            &certificate,
            "topics do not reach the other nodes: redis://",
        ),
    ] {
        let node = node(&url, trusts);
        node.logs(expected).await;
        let status = node.client().await.ask("status").await;
        assert!(status.starts_with("degraded"), "{status}");
        let log = node.log();
        assert!(!log.contains("hush"), "{log}");
    }
}
