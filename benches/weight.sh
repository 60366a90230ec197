#!/usr/bin/env bash
# What the crate adds to an application with axum: CPU time of a build from nothing, size of the program.
# Beside it, axum's own WebSockets, doing the same. Fifteen minutes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# app NAME DEPENDENCY FEATURES_OF_AXUM ROUTE [ITEMS]
app() {
    mkdir -p "$work/$1/src"
    cat >"$work/$1/Cargo.toml" <<EOF
[package]
name = "weighed"
edition = "2024"

[dependencies]
axum = { version = "0.8", features = [$3] }
tokio = { version = "1", features = ["macros", "net", "rt-multi-thread"] }
$2

[workspace]
EOF
    cat >"$work/$1/src/main.rs" <<EOF
use axum::{Router, routing::get};

$5

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app: Router = Router::new().route("/", get(|| async { "hello" }))$4;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await
}
EOF
    # The versions that the benches have.
    cp "$root/benches/Cargo.lock" "$work/$1/Cargo.lock"
    (cd "$work/$1" && cargo fetch --quiet)
}

ours() {
    local name=$1 options=$2
    app "$name" "tower-websocket = { path = \"$root\", $options }" "${3:-}" '.layer(WebSocketLayer::new("/echo", Echo))' '
use tower_websocket::{Connection, Message, Result, WebSocketHandler, WebSocketLayer};

#[derive(Clone)]
struct Echo;

impl WebSocketHandler for Echo {
    async fn on_message(&mut self, conn: &mut Connection, message: Message) -> Result {
        conn.send(message).await?;
        Ok(())
    }
}'
}

app none '' '' '' ''
echo='
use axum::{extract::WebSocketUpgrade, response::Response};

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}'
app axum '' '"ws"' '.route("/echo", get(echo))' "$echo"
# The crate asks hyper for HTTP/2, which axum does not by default.
app axum_http2 '' '"ws", "http2"' '.route("/echo", get(echo))' "$echo"
ours ours 'features = ["axum"]'
ours ours_http2 'features = ["axum"]' '"http2"'
ours ours_all 'features = ["axum", "deflate", "json", "metrics", "redis-rustls"]'

measure() {
    python3 - "$work" "$@" <<'EOF'
import os, re, resource, subprocess, sys

work, *names = sys.argv[1:]
for profile, flags in (("dev", []), ("release", ["--release"])):
    least = {}
    for _ in range(int(os.environ.get("ROUNDS", 3))):
        for name in names:
            target = f"{work}/target"
            subprocess.run(["rm", "-rf", target], check=True)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(["cargo", "build", "--quiet", "--offline", *flags, "--target-dir", target],
                           cwd=f"{work}/{name}", check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            program = f"{target}/{'debug' if profile == 'dev' else 'release'}/weighed"
            subprocess.run(["strip", program], check=True)
            tree = subprocess.run(["cargo", "tree", "--offline", "--prefix", "none", "--edges", "no-dev"],
                                  cwd=f"{work}/{name}", check=True, capture_output=True, text=True).stdout
            crates = len({re.sub(r" \(.*", "", line) for line in tree.splitlines()})
            least[name] = min(least.get(name, (float("inf"), 0, 0)), (cpu, os.path.getsize(program), crates))
    for name, (cpu, size, crates) in least.items():
        print(f"{profile:8} {name:10} {cpu:6.1f} s of CPU  {size / 2**20:6.2f} MiB stripped  {crates} crates", flush=True)
EOF
}
measure none axum axum_http2 ours ours_http2 ours_all
