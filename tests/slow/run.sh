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
cat >"$work/nginx.conf" <<END
daemon off;
user $(id -un) $(id -gn);
pid $work/nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    client_body_temp_path $work/nginx-body;
    proxy_temp_path $work/nginx-proxy;
    fastcgi_temp_path $work/nginx-fastcgi;
    uwsgi_temp_path $work/nginx-uwsgi;
    scgi_temp_path $work/nginx-scgi;
    server {
        listen 127.0.0.1:$proxy;
        location / {
            proxy_pass http://127.0.0.1:$port;
            proxy_http_version 1.1;
            proxy_set_header Host \$http_host;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection upgrade;
        }
    }
}
END
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
