# Sourced by .ci/run, fuzz/run.sh and the scripts of the tests: the tools they need, pinned and
# installed only where they are missing, and the examples they start.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=${TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tower-websocket}
work=$(mktemp -d)
servers=()
mkdir -p "$tools"

clean_up() {
    for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

die() {
    echo "error: $*" >&2
    exit 1
}

apt_install() {
    command -v apt-get >/dev/null || die "please install $*: there is no apt-get here to do it"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# once DIR COMMAND...: runs COMMAND, which fills $tools/DIR, unless it did so before.
once() {
    local dir=$tools/$1
    shift
    [ -e "$dir/.complete" ] && return
    rm -rf "$dir"
    mkdir -p "$dir"
    "$@" >"$dir/install.log" 2>&1 || {
        tail -n 30 "$dir/install.log" >&2
        die "could not install into $dir"
    }
    touch "$dir/.complete"
}

need_rust() {
    command -v cc >/dev/null || apt_install build-essential
    export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    command -v cargo >/dev/null && return
    command -v curl >/dev/null || apt_install curl ca-certificates
    curl -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
}

need_node() {
    local dir=node-ws-8.23.0-playwright-1.60.0-axe-4.14.1
    command -v npm >/dev/null || apt_install nodejs npm
    once $dir npm install --no-audit --no-fund --prefix "$tools/$dir" ws@8.23.0 \
        playwright-core@1.60.0 axe-core@4.14.1
    export NODE_PATH=$tools/$dir/node_modules
}

need_chromium() {
    CHROMIUM=${CHROMIUM:-$(command -v chromium || true)}
    if [ -z "$CHROMIUM" ]; then
        apt_install chromium fonts-dejavu-core
        CHROMIUM=$(command -v chromium)
    fi
    export CHROMIUM
}

# The server alone: the tests start it themselves, and no service is to run beside them.
need_redis() {
    command -v redis-server >/dev/null && return
    apt_install redis-server
    [ "$(id -u)" != 0 ] || service redis-server stop >/dev/null 2>&1 || true
}

# Sets $python to a Python that has the websockets package.
need_python_websockets() {
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3 python3-venv
    python=$tools/python-websockets-17.4/bin/python
    once python-websockets-17.4 install_python_websockets
}

install_python_websockets() {
    python3 -m venv "$tools/python-websockets-17.4"
    "$python" -m pip install -q websockets==17.4
}

# Sets $python to a Python that has HTTP/3, HTTP/2 and WebSockets without I/O.
need_python_http3() {
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3 python3-venv
    local dir=python-aioquic-1.7.2-h2-4.4.1-wsproto-1.3.2
    python=$tools/$dir/bin/python
    once $dir install_python_http3
}

install_python_http3() {
    python3 -m venv "$(dirname "$(dirname "$python")")"
    "$python" -m pip install -q aioquic==1.7.2 h2==4.4.1 wsproto==1.3.2
}

# nginx_config PORT UPSTREAM: writes a configuration with which nginx passes WebSockets on, as its
# documentation has it, and leaves nothing outside of $work.
nginx_config() {
    cat <<END
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
    map \$http_upgrade \$connection_upgrade {
        default upgrade;
        '' close;
    }
    server {
        listen 127.0.0.1:$1;
        location / {
            proxy_pass http://$2;
            proxy_http_version 1.1;
            proxy_set_header Host \$http_host;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection \$connection_upgrade;
        }
    }
}
END
}

# build_examples NAME...: sets $examples to the folder that has them.
# EXAMPLES_DIR names one with programs built elsewhere.
build_examples() {
    examples=${EXAMPLES_DIR:-}
    [ -n "$examples" ] && return
    need_rust
    (cd "$root" && cargo build --quiet --all-features "${@/#/--example=}")
    examples=${CARGO_TARGET_DIR:-$root/target}/debug/examples
}

# start_example NAME ARGS...: on a port the system chooses; sets $address and $log.
start_example() {
    local name=$1
    shift
    log=$work/$name.log
    "$examples/$name" --addr 127.0.0.1:0 "$@" >"$log" 2>&1 </dev/null &
    servers+=($!)
    for _ in $(seq 100); do
        address=$(sed -nE 's/.*listening on [^0-9]*([0-9.]+:[0-9]+).*/\1/p' "$log" | head -n 1)
        [ -n "$address" ] && return
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    cat "$log" >&2
    die "$name did not say within 10 s that it is listening"
}
