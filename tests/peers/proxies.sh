#!/usr/bin/env bash
# tests/peers/proxies.sh [nginx|haproxy|lighttpd|nghttpx ...]
#
# The echo example behind Debian's nginx, HAProxy, lighttpd and nghttpx, each with the few lines
# its documentation asks for: 16 checks over HTTP/1.1 through each, and those of proxies_h2.js
# over HTTP/2 in front of nghttpx.
set -euo pipefail
# shellcheck source=tests/tools/env.sh
source "$(dirname "$0")/../tools/env.sh"

proxies=("$@")
[ $# -gt 0 ] || proxies=(nginx haproxy lighttpd nghttpx)
# Debian keeps servers where only root's PATH has them.
PATH=$PATH:/usr/sbin
declare -A package=([nginx]=nginx [haproxy]=haproxy [lighttpd]=lighttpd [nghttpx]=nghttp2-proxy)
missing=()
for proxy in "${proxies[@]}"; do
    [ -n "${package[$proxy]:-}" ] || die "no such proxy: $proxy"
    command -v "$proxy" >/dev/null || missing+=("${package[$proxy]}")
done
[ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"

need_python_websockets
need_rust
build_examples echo
start_example echo --deflate
upstream=$address

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

configure_nginx() {
    nginx_config "$port" "$upstream"
}

configure_haproxy() {
    cat <<END
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 1h
frontend front
    bind 127.0.0.1:$port
    default_backend echo
backend echo
    server echo $upstream
END
}

configure_lighttpd() {
    cat <<END
server.document-root = "$work"
server.bind = "127.0.0.1"
server.port = $port
server.upload-dirs = ("$work")
server.modules = ("mod_proxy")
proxy.server = ("" => (("host" => "${upstream%:*}", "port" => ${upstream#*:})))
proxy.header = ("upgrade" => "enable")
END
}

configure_nghttpx() {
    # HTTP/1.1 and, with prior knowledge, HTTP/2 on the same port.
    cat <<END
frontend=127.0.0.1,$port;no-tls
backend=${upstream%:*},${upstream#*:}
workers=1
errorlog-file=/dev/stderr
END
}

# start_proxy NAME: sets $port.
start_proxy() {
    local command
    port=$(free_port)
    "configure_$1" >"$work/$1.conf"
    case $1 in
        nginx) command=(nginx -p "$work" -e stderr -c "$work/nginx.conf") ;;
        haproxy) command=(haproxy -db -f "$work/haproxy.conf") ;;
        lighttpd) command=(lighttpd -D -f "$work/lighttpd.conf") ;;
        nghttpx) command=(nghttpx "--conf=$work/nghttpx.conf") ;;
    esac
    "${command[@]}" >"$work/$1.log" 2>&1 </dev/null &
    servers+=($!)
    for _ in $(seq 100); do
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/$1.log" >&2
    die "$1 did not listen within 10 s"
}

failed=()
for proxy in "${proxies[@]}"; do
    echo "$proxy in front"
    start_proxy "$proxy"
    timeout 60 "$python" "$root/tests/peers/proxies_client.py" "127.0.0.1:$port" || failed+=("$proxy")
    if [ "$proxy" = nghttpx ]; then
        command -v node >/dev/null || apt_install nodejs
        echo "$proxy in front, HTTP/2"
        timeout 60 node "$root/tests/peers/proxies_h2.js" "127.0.0.1:$port" || failed+=("$proxy over HTTP/2")
    fi
done
[ ${#failed[@]} -eq 0 ] || die "not through: ${failed[*]}"
