#!/usr/bin/env bash
# Real peers against the examples: Python's websockets and aioquic, Node's ws, yawc, headless Chromium,
# with Redis between two servers; proxies.
# The screenshots stay in target/screenshots.
set -euo pipefail
# shellcheck source=tests/tools/env.sh
source "$(dirname "$0")/../tools/env.sh"

need_python_websockets
need_node
need_chromium
need_redis
need_rust
build_examples echo chat wss unix_socket
yawc=${CARGO_TARGET_DIR:-$root/target}/peers
CARGO_TARGET_DIR=$yawc cargo build --quiet --locked --manifest-path "$root/tests/peers/yawc_client/Cargo.toml"
CARGO_TARGET_DIR=$yawc cargo build --quiet --locked --manifest-path "$root/examples/operator/Cargo.toml"
export SCREENSHOTS=${CARGO_TARGET_DIR:-$root/target}/screenshots
rm -rf "$SCREENSHOTS"
mkdir -p "$SCREENSHOTS"
cd "$root/tests/peers"

for deflate in "" --deflate; do
    start_example echo $deflate
    echo "Python websockets $deflate"
    timeout 120 "$python" python_client.py "$address" $deflate
    echo "Node ws $deflate"
    timeout 120 node --test-reporter=spec node_client.js "$address" $deflate
done
echo "Python websockets over a Unix domain socket"
timeout 120 "$python" unix_client.py "$examples/unix_socket" "$work/socket"
echo "yawc --deflate"
timeout 120 "$yawc/debug/yawc-client" "$address"
# Debian keeps servers where only root's PATH has them.
PATH=$PATH:/usr/sbin
command -v nginx >/dev/null || apt_install nginx
echo "Chromium on the chat page, direct and behind nginx"
timeout 300 node chat_browser.js "$examples/chat"
echo "Chromium on two chats with one Redis"
timeout 300 node chat_nodes_browser.js "$examples/chat"
echo "Chromium over HTTP/2"
timeout 120 node wss_h2_browser.js "$examples/wss"
echo "Chromium with compression"
timeout 120 node deflate_browser.js "$examples/echo"
echo "Chromium on the operator's page"
timeout 120 node operator_browser.js "$yawc/debug/operator-example"
echo "Proxies in front of the echo example"
"$root/tests/peers/proxies.sh"
echo "aioquic over HTTP/3"
"$root/tests/peers/http3.sh"
