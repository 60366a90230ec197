#!/usr/bin/env bash
# tests/slow/run.sh
#
# Measures peers that read steadily over slow links, and peers that read nothing, against a server
# with default options. All run at once; the whole takes about five minutes, so it is not part of the
# gate. A peer that reads 16 kB/s or more must get every byte and a clean end. The server must
# give up a peer that reads nothing within 30 s and 1 s for each 16 kB that the kernel took.
#
# Last run: 2026-11-26, Linux 6.18, all passed; the kernel took 3.6 and 3.9 MB of the messages that
# nobody read, and those peers were given up after 251 and 272 s.
set -euo pipefail
# shellcheck source=tests/tools/env.sh
source "$(dirname "$0")/../tools/env.sh"

need_rust
PATH=$PATH:/usr/sbin
command -v nginx >/dev/null || apt_install nginx
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/slow
manifest=$root/tests/slow/Cargo.toml
cargo build --quiet --locked --manifest-path "$manifest"

# nginx must know the server's port before the server starts.
read -r port proxy < <(python3 -c 'import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')
nginx_config "$proxy" "127.0.0.1:$port" >"$work/nginx.conf"
nginx -p "$work" -e stderr -c "$work/nginx.conf" &
servers+=($!)
for _ in $(seq 100); do
    (: <"/dev/tcp/127.0.0.1/$proxy") 2>/dev/null && break
    sleep 0.1
done
timeout 660 cargo run --quiet --locked --manifest-path "$manifest" -- \
    --addr "127.0.0.1:$port" --proxy "127.0.0.1:$proxy" &
servers+=($!)
wait $!
