#!/usr/bin/env bash
# aioquic against examples/http3, and h2 and wsproto over TLS on the same port number.
set -euo pipefail
# shellcheck source=tests/tools/env.sh
source "$(dirname "$0")/../tools/env.sh"

need_python_http3
need_rust
target=${CARGO_TARGET_DIR:-$root/target}/peers
CARGO_TARGET_DIR=$target cargo build --quiet --locked --manifest-path "$root/examples/http3/Cargo.toml"
timeout 300 "$python" "$root/tests/peers/http3.py" "$target/debug/http3-example"
