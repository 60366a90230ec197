#!/usr/bin/env bash
# benches/run.sh [--check] [--quick] [--rounds N] [--seconds N] [--workloads "w1 w2"]
#                [--peers "ours floor"] [--syscalls | --instructions | --fairness]
#
# Runs every peer on every workload, interleaved: one round is each peer once, the server pinned
# to one core and the load to another. Prints medians, the least, and ratios; with --check it fails where the
# crate misses its goals. --quick has three rounds of one second on the main workloads.
#
# --syscalls counts the system calls of a message with strace, --instructions those of the CPU
# with valgrind; both on w1 and w2 if nothing else is said. On w7, --instructions counts those of
# a handshake.
#
# --fairness measures what a quiet client notices of floods on the same server, in one round of a
# minute if --rounds says no more; --workloads chooses floods, --check fails beyond the goals.
set -euo pipefail
cd "$(dirname "$0")"

# What is compared: name, program and flags. A program takes `--addr HOST:PORT`, answers
# `/echo`, uses one thread, and prints `listening on HOST:PORT`.
declare -A servers=(
    [ours]="ours"
    [ours_axum]="ours --axum"
    [ours_recv]="ours --recv"
    [ours_stream]="ours --stream"
    [ours_forget]="ours --forget"
    [ours_http1]="ours --http1"
    [ours_tls]="ours --tls"
    [ours_threads]="ours --workers 2"
    [ours_threads_fair]="ours --workers 2 --fair 2"
    [ours_each]="ours --threads 2"
    [ours_topics]="ours --topics"
    [ours_topics_lossy]="ours --topics --lossy"
    [bare]="ours --bare"
    [axum_default]="axum"
    [axum_tuned]="axum --tuned"
    [axum_batched]="axum --tuned --batched"
    [hyper_tungstenite_default]="hyper_tungstenite"
    [hyper_tungstenite_batched]="hyper_tungstenite --tuned --batched"
    [tokio_tungstenite_default]="tokio_tungstenite"
    [tokio_tungstenite_tuned]="tokio_tungstenite --tuned"
    [tokio_tungstenite_batched]="tokio_tungstenite --tuned --batched"
    [fastwebsockets_default]="fastwebsockets"
    [fastwebsockets_tuned]="fastwebsockets --tuned"
    [fastwebsockets_auto]="fastwebsockets --auto"
    [fastwebsockets_tls]="fastwebsockets --tuned --tls"
    [tokio_tungstenite_tls]="tokio_tungstenite --tuned --tls"
    [tokio_tungstenite_tls_batched]="tokio_tungstenite --tuned --batched --tls"
    [tokio_websockets_default]="tokio_websockets"
    [tokio_websockets_batched]="tokio_websockets --tuned --batched"
    [yawc_default]="yawc"
    [yawc_batched]="yawc --tuned --batched"
    [sockudo_default]="sockudo"
    [sockudo_batched]="sockudo --batched"
    [warp_default]="warp"
    [warp_batched]="warp --batched"
    [actix]="actix"
    [soketto_default]="soketto"
    [soketto_batched]="soketto --batched"
    [node_default]="node_ws.js"
    [node_batched]="node_ws.js --batched"
    [bun]="bun.js"
    [socketioxide]="socketioxide"
    [socket_io]="socket_io.js"
    [floor]="floor"
    [floor_h2]="floor_h2"
    [ours_deflate]="ours --deflate"
    [yawc_deflate]="yawc --tuned --deflate"
    [yawc_deflate_pool]="yawc --deflate --pool"
    [sockudo_deflate]="sockudo --deflate"
    [node_deflate]="node_ws.js --deflate"
    [python_deflate]="python_websockets.py --deflate"
)
# On what work: the flags of `load`.
declare -A loads=(
    [w1]="--connections 100 --size 64 --kind text"
    [w2]="--connections 100 --size 64 --kind text --in-flight 16"
    [w3]="--connections 16 --size 16384 --kind binary"
    [w3t]="--connections 16 --size 16384 --kind text"
    [w3u]="--connections 16 --size 16384 --kind utf8"
    [w4]="--connections 4 --size 1048576 --kind binary"
    [w5]="--connections 1000 --size 512 --kind text"
    [w5g]="--connections 100 --size 512 --kind text --greedy 1"
    [c1]="--connections 100 --size 64 --kind text"
    [c5]="--connections 1000 --size 512 --kind text"
    [p5]="--connections 1000 --size 512 --kind text"
    [p5z]="--connections 1000 --size 512 --kind text"
    [mem]="--idle --connections 10000 --size 65536"
    [mem_browser]="--idle --connections 10000 --size 65536 --browser"
    [w7]="--handshakes"
    [w7g]="--gets"
    [w8]="--broadcast --connections 1000 --size 512 --kind text"
    [w8k]="--broadcast --connections 10000 --size 512 --kind text"
    [w8b]="--broadcast --connections 1000 --size 512 --kind text --in-flight 16"
    [w8t]="--rooms --size 512 --kind text"
    [w8u]="--broadcast --connections 1000 --size 4096 --kind text --warm-up 5"
    [w8x]="--broadcast --connections 990 --size 4096 --kind text --warm-up 5 --stuck 10"
    [w9]="--http --connections 100"
    [h1]="--connections 100 --size 64 --kind text --http2 1"
    [h1c]="--connections 100 --size 64 --kind text --http2 100"
    [h2]="--connections 100 --size 64 --kind text --in-flight 16 --http2 1"
    [h2a]="--connections 100 --size 64 --kind text --in-flight 16 --http2 1 --apart"
    [h2c]="--connections 100 --size 64 --kind text --in-flight 16 --http2 100"
    [h4]="--connections 4 --size 1048576 --kind binary --http2 1"
    [h4c]="--connections 4 --size 1048576 --kind binary --http2 4"
    [t1]="--connections 100 --size 64 --kind text --tls"
    [t2]="--connections 100 --size 64 --kind text --in-flight 16 --tls"
    [t2a]="--connections 100 --size 64 --kind text --in-flight 16 --tls --apart"
    [t3]="--connections 16 --size 16384 --kind binary --tls"
    [t4]="--connections 4 --size 1048576 --kind binary --tls"
    [z200]="--connections 100 --size 200 --kind json --deflate"
    [z2k]="--connections 100 --size 2048 --kind json --deflate"
    [z64k]="--connections 16 --size 65536 --kind json --deflate"
    [zmem]="--idle --connections 1000 --size 65536 --kind json --deflate"
    [w10_10]="--connections 10 --size 64 --kind text"
    [w10_1000]="--connections 1000 --size 64 --kind text"
    [w10_10000]="--connections 10000 --size 64 --kind text"
    [w10_16B]="--connections 16 --size 16 --kind binary"
    [w10_1KiB]="--connections 16 --size 1024 --kind binary"
    [w10_4KiB]="--connections 16 --size 4096 --kind binary"
    [w10_64KiB]="--connections 16 --size 65536 --kind binary"
    [w10_16MiB]="--connections 4 --size 16777216 --kind binary"
)
# What else the server has to do meanwhile: the flags of further loads.
declare -A beside=(
    [p5]="--connections 10 --size 1048576 --kind binary
        --handshakes --rate 500"
    [p5z]="--connections 10 --size 1048576 --kind binary
        --connections 10 --size 65536 --kind json --deflate
        --handshakes --rate 500"
)
every="ours ours_axum ours_recv ours_stream axum_default axum_tuned axum_batched
    hyper_tungstenite_default hyper_tungstenite_batched tokio_tungstenite_default
    tokio_tungstenite_tuned tokio_tungstenite_batched fastwebsockets_default fastwebsockets_tuned
    tokio_websockets_default tokio_websockets_batched yawc_default yawc_batched sockudo_default
    sockudo_batched warp_default warp_batched actix soketto_default soketto_batched node_default
    node_batched floor"
some="ours fastwebsockets_tuned tokio_websockets_batched axum_tuned floor"
over_http2="ours axum_default axum_tuned axum_batched floor_h2"
over_tls="ours_tls tokio_tungstenite_tls tokio_tungstenite_tls_batched fastwebsockets_tls"
deflate="ours_deflate yawc_deflate yawc_deflate_pool sockudo_deflate node_deflate python_deflate"
# Where not every peer has something to say.
declare -A who=(
    [w5g]="ours"
    [c1]="ours ours_threads ours_threads_fair ours_each" [c5]="ours ours_threads ours_threads_fair ours_each"
    [p5]="ours axum_tuned tokio_websockets_batched fastwebsockets_tuned node_default"
    [p5z]="ours_deflate yawc_deflate_pool node_deflate"
    [mem]="ours ours_forget $every"
    [mem_browser]="ours ours_axum axum_default axum_tuned fastwebsockets_default"
    [w7]="ours ours_http1 axum_default hyper_tungstenite_default fastwebsockets_default fastwebsockets_auto floor"
    [w7g]="ours bare"
    [w8]="ours ours_topics axum_default axum_tuned sockudo_default sockudo_batched socketioxide node_default socket_io bun floor"
    [w8k]="ours ours_topics axum_tuned sockudo_default socketioxide node_default bun floor"
    [w8b]="ours ours_topics axum_tuned sockudo_default sockudo_batched socketioxide node_default socket_io bun floor"
    [w8t]="ours_topics sockudo_default sockudo_batched socketioxide node_default bun floor"
    [w8u]="ours_topics ours_topics_lossy axum_tuned node_default bun"
    [w8x]="ours_topics ours_topics_lossy axum_tuned node_default bun"
    [w9]="ours bare"
    [h1]=$over_http2 [h1c]=$over_http2 [h2]=$over_http2 [h2a]=$over_http2 [h2c]=$over_http2 [h4]=$over_http2 [h4c]=$over_http2
    [t1]=$over_tls [t2]=$over_tls [t2a]=$over_tls [t3]=$over_tls [t4]=$over_tls
    [z200]=$deflate [z2k]=$deflate [z64k]=$deflate [zmem]=$deflate
    [w10_10]=$some [w10_1000]=$some [w10_10000]=$some [w10_16B]=$some [w10_1KiB]=$some
    [w10_4KiB]=$some [w10_64KiB]=$some [w10_16MiB]=$some
)
peers=
workloads="w1 w2 w3 w3t w3u w4 w5 w5g c1 c5 p5 p5z mem mem_browser w7 w7g w8 w8k w8b w8t w8u w8x w9 h1 h1c h2 h2a h2c h4 h4c t1 t2 t2a t3 t4 z200 z2k z64k zmem w10_10 w10_1000 w10_10000
    w10_16B w10_1KiB w10_4KiB w10_64KiB w10_16MiB"
chosen=
rounds=
seconds=1.5
mode=time
check=()

while [ $# -gt 0 ]; do
    case $1 in
        --check) check=(--check) ;;
        --quick)
            rounds=3 seconds=1 workloads="w1 w2 mem" peers="ours axum_default floor"
            ;;
        --rounds) rounds=$2; shift ;;
        --seconds) seconds=$2; shift ;;
        --workloads) chosen=$2; shift ;;
        --peers) peers=$2; shift ;;
        --syscalls) mode=syscalls ;;
        --instructions) mode=instructions ;;
        --fairness) mode=fairness ;;
        *) sed -n '2,15s/^# \{0,1\}//p' run.sh >&2; exit 2 ;;
    esac
    shift
done
target=${CARGO_TARGET_DIR:-target}
programs=$target/release
if [ "$mode" = fairness ]; then
    cargo build --release --locked --bin fairness
    rounds=${rounds:-1}
    floods=()
    [ -z "$chosen" ] || floods=(--floods "$chosen")
    echo "$(uname -sr), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) cores"
    # A cell takes its seconds, and up to four more where the victim waits in vain.
    most=$(awk -v rounds="$rounds" -v seconds="$seconds" 'BEGIN { print int(rounds * 32 * (seconds + 4)) }')
    exec timeout "$most" "$programs/fairness" --rounds "$rounds" --seconds "$seconds" \
        --out "$target/fairness.jsonl" "${floods[@]}" "${check[@]}"
fi
rounds=${rounds:-5}
[ "$mode" = time ] || workloads="w1 w2"
workloads=${chosen:-$workloads}

cargo build --release --locked
results=$target/results.jsonl
log=$(mktemp)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -f "$log" "$log".*' EXIT
trap 'exit 130' INT TERM

# Two cores of those this process may use, one for each side; on a single one they share it.
mapfile -t cores < <(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep="\n")')
server_core=${cores[0]} load_core=${cores[1]:-${cores[0]}}
# On c1 and c5 the server may have both, and the load takes what it needs of them.
both_cores=$server_core,$load_core
# 10,000 connections, on both sides.
ulimit -n "$(ulimit -Hn)"

node_packages="ws@8.23.0 socket.io@4.8.4 @socket.io/redis-adapter@8.3.0 redis@6.3.1"
# The binary, for processors with AVX2.
bun_package=@oven/bun-linux-x64 bun_version=1.4.5
bun=$target/bun/node_modules/$bun_package/bin/bun
# Whether a peer can run here.
available() {
    if [[ ${servers[$1]:?no such peer} == *.py* ]]; then
        [ -x "$target/python/bin/python" ] || {
            python3 -m venv "$target/python" && "$target/python/bin/pip" install -q websockets==17.4 >&2
        } || { echo "no Python with venv: $1 is left out" >&2; return 1; }
        return 0
    fi
    [[ ${servers[$1]} == *.js* ]] || return 0
    if [[ ${servers[$1]} == bun.js* ]]; then
        [ -x "$bun" ] ||
            npm install --silent --no-audit --no-fund --prefix "$target/bun" "$bun_package@$bun_version" >&2 ||
            { echo "npm does not give Bun: $1 is left out" >&2; return 1; }
        return 0
    fi
    command -v node >/dev/null || { echo "no Node.js: $1 is left out" >&2; return 1; }
    # shellcheck disable=SC2086 # words
    [ -d "$target/node/node_modules/socket.io" ] ||
        npm install --silent --no-audit --no-fund --prefix "$target/node" $node_packages >&2
}

# start PEER [COMMAND ...]: runs the server, under the command if there is one.
start() {
    local words peer=$1
    shift
    read -ra words <<<"${servers[$peer]}"
    if [[ ${words[0]} == bun.js ]]; then
        words=("$bun" "src/${words[@]}")
    elif [[ ${words[0]} == *.js ]]; then
        words=(env NODE_PATH="$target/node/node_modules" node "src/${words[@]}")
    elif [[ ${words[0]} == *.py ]]; then
        words=("$target/python/bin/python" "src/${words[@]}")
    else
        words[0]=$programs/${words[0]}
    fi
    : >"$log"
    local own_cores=$server_core
    [[ $workload != c* ]] || own_cores=$both_cores
    taskset -c "$own_cores" "$@" "${words[@]}" --addr 127.0.0.1:0 >"$log" 2>&1 &
    server=$!
    for _ in $(seq 200); do
        address=$(sed -n 's/^listening on //p' "$log")
        [ -z "$address" ] || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    cat "$log" >&2
    echo "$peer did not start" >&2
    exit 1
}

stop() {
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

# Loads beside the one that is measured, which has the core before them.
others=()
begin_others() {
    local line words
    others=()
    [ -n "${beside[$1]:-}" ] || return 0
    while read -r line; do
        read -ra words <<<"$line"
        nice -n 10 taskset -c "$load_core" "$programs/load" --addr "$address" --pid "$server" \
            "${words[@]}" --seconds 3600 >"$log.others" 2>&1 &
        others+=($!)
    done <<<"${beside[$1]}"
    sleep 1
    for line in "${others[@]}"; do
        kill -0 "$line" || { cat "$log.others" >&2; exit 1; }
    done
}
end_others() {
    [ ${#others[@]} = 0 ] || kill "${others[@]}" 2>/dev/null || true
}

# load PEER WORKLOAD [FLAG ...]: prints what it measured.
load() {
    local words peer=$1 workload=$2
    shift 2
    read -ra words <<<"${loads[$workload]:?no such workload}"
    [[ $peer != socket* ]] || words+=(--socketio)
    local own_cores=$load_core
    [[ $workload != c* ]] || own_cores=$both_cores
    begin_others "$workload"
    if taskset -c "$own_cores" "$programs/load" --addr "$address" --pid "$server" "${words[@]}" "$@"; then
        end_others
        return
    fi
    end_others
    cat "$log" >&2
    echo "$peer failed on $workload" >&2
    exit 1
}

peers_of() {
    local peer
    for peer in ${peers:-${who[$1]:-$every}}; do
        available "$peer" && echo "$peer"
    done
}

: >"$results"
passed=0
for workload in $workloads; do
    case $mode in
        time)
            mapfile -t these < <(peers_of "$workload")
            # Memory does not depend on what else the machine does.
            times=$rounds flags=(--seconds "$seconds")
            [[ $workload != *mem* ]] || times=1 flags=()
            for round in $(seq "$times"); do
                for peer in "${these[@]}"; do
                    [ ! -t 2 ] || printf '\r\033[K%s: round %s of %s, %s' "$workload" "$round" "$times" "$peer" >&2
                    start "$peer"
                    result=$(load "$peer" "$workload" "${flags[@]}")
                    stop
                    echo "{\"workload\": \"$workload\", \"peer\": \"$peer\", \"round\": $round, \"result\": $result}" >>"$results"
                done
            done
            ;;
        syscalls)
            messages=20000
            echo "$workload: system calls per message"
            for peer in $(peers_of "$workload"); do
                start "$peer"
                load "$peer" "$workload" --warm-up 0.2 --messages 100 >"$log.out"
                strace -c -f -o "$log.calls" -p "$server" 2>/dev/null &
                tracer=$!
                sleep 0.5
                load "$peer" "$workload" --warm-up 0 --messages $messages >"$log.out"
                stop
                wait "$tracer" || true
                awk -v peer="$peer" -v n=$messages '$4 ~ /^[0-9]+$/ && $NF != "total" && $4 > n / 50 {
                    calls = calls sprintf("  %s %.3f", $NF, $4 / n) }
                    END { printf "  %-28s%s\n", peer, calls }' "$log.calls"
            done
            ;;
        instructions)
            # Twice, with and without the messages that count, so that start and handshakes go out.
            # On w7, a visit is what counts: connect, upgrade, close.
            case $workload in
                w7*) what=visit few=500 many=2500 ;;
                # Of 16 KiB and of 1 MiB. Cryptography in valgrind takes its time.
                w3* | t3) what=message few=500 many=2500 ;;
                w4 | h4* | t4) what=message few=20 many=80 ;;
                *) what=message few=20000 many=40000 ;;
            esac
            echo "$workload: user instructions per $what"
            for peer in $(peers_of "$workload"); do
                [[ ${servers[$peer]} != *.js* && ${servers[$peer]} != *.py* ]] || continue
                for messages in $few $many; do
                    start "$peer" valgrind --tool=callgrind --callgrind-out-file="$log.cg" --log-file=/dev/null
                    load "$peer" "$workload" --warm-up 0 --messages $messages >"$log.out"
                    # Not a message later than those that count.
                    kill "$server"
                    wait "$server" 2>/dev/null || true
                    server=
                    sed -n 's/^\(totals\|summary\): //p' "$log.cg" | head -1 >"$log.$messages"
                done
                awk -v peer="$peer" -v n=$((many - few)) \
                    'NR == 1 { a = $1 } NR == 2 { printf "  %-28s%.0f\n", peer, ($1 - a) / n }' \
                    "$log.$few" "$log.$many"
            done
            ;;
    esac
done
[ ! -t 2 ] || printf '\r\033[K' >&2
[ "$mode" = time ] || exit 0

echo "$(uname -sr), $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) cores"
echo "$(rustc --version); $rounds rounds of $seconds s; $(sed -n '/^\[profile.release\]/,$p' Cargo.toml | grep -v '^#' | tr '\n' ' ')"
for name in axum actix-ws fastwebsockets hyper hyper-tungstenite socketioxide socketioxide-redis sockudo-ws soketto tokio tokio-tungstenite tokio-websockets warp yawc; do
    sed -n "/^name = \"$name\"\$/{n;s/version = \"\(.*\)\"/$name \1/p}" Cargo.lock
done | paste -sd, | sed 's/,/, /g'
python3 report.py "$results" "${check[@]}" || passed=$?
"$programs/http_allocs" || passed=$?
exit "$passed"
