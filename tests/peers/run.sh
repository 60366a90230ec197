#!/usr/bin/env bash
# Real peers against the examples: Python's websockets, Node's ws, headless Chromium.
# The screenshots stay in target/screenshots.
set -euo pipefail
# shellcheck source=tests/env.sh
source "$(dirname "$0")/../env.sh"

need_python_websockets
need_node
need_chromium
build_examples echo chat wss
export SCREENSHOTS=${CARGO_TARGET_DIR:-$root/target}/screenshots
rm -rf "$SCREENSHOTS"
mkdir -p "$SCREENSHOTS"
cd "$root/tests/peers"

start_example echo
echo "Python websockets"
timeout 120 "$python" python_client.py "$address"
echo "Node ws"
timeout 120 node --test-reporter=spec node_client.js "$address"
echo "Chromium on the chat page"
timeout 180 node chat_browser.js "$examples/chat"
echo "Chromium over HTTP/2"
timeout 120 node wss_h2_browser.js "$examples/wss"
