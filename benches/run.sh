#!/usr/bin/env bash
# benches/run.sh [--check] [--rounds N] [--seconds N] [--workloads "w1 w2"] [--peers "ours floor"]
#
# Runs every peer on every workload, interleaved: one round is each peer once, the server pinned
# to one core and the load to another. Prints medians and ratios; with --check it fails where the
# crate misses its goals.
set -euo pipefail
cd "$(dirname "$0")"

# What is compared: name, program and flags. A program takes `--addr HOST:PORT`, answers
# `/echo`, uses one thread, and prints `listening on HOST:PORT`.
declare -A servers=(
    [ours]="ours"
    [ours_axum]="ours --axum"
    [ours_recv]="ours --recv"
    [ours_stream]="ours --stream"
    [axum_default]="axum"
    [axum_tuned]="axum --tuned"
    [axum_batched]="axum --tuned --batched"
    [floor]="floor"
)
# On what work: the flags of `load`.
declare -A loads=(
    [w1]="--connections 100 --size 64 --kind text"
    [w2]="--connections 100 --size 64 --kind text --in-flight 16"
    [w3]="--connections 16 --size 16384 --kind binary"
    [w3u]="--connections 16 --size 16384 --kind utf8"
    [w4]="--connections 4 --size 1048576 --kind binary"
    [w5]="--connections 1000 --size 512 --kind text"
    [mem]="--idle --connections 10000 --size 65536"
    [mem_browser]="--idle --connections 10000 --size 65536 --browser"
)
peers="ours axum_default axum_tuned axum_batched floor"
workloads="w1 w2 w3 w3u w4 w5 mem"
rounds=7
seconds=2
check=()

while [ $# -gt 0 ]; do
    case $1 in
        --check) check=(--check) ;;
        --rounds) rounds=$2; shift ;;
        --seconds) seconds=$2; shift ;;
        --workloads) workloads=$2; shift ;;
        --peers) peers=$2; shift ;;
        *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done

cargo build --release --locked
programs=${CARGO_TARGET_DIR:-target}/release
results=${CARGO_TARGET_DIR:-target}/results.jsonl
log=$(mktemp)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# Two cores of those this process may use, one for each side; on a single one they share it.
mapfile -t cores < <(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep="\n")')
server_core=${cores[0]} load_core=${cores[1]:-${cores[0]}}
# 10,000 connections, on both sides.
ulimit -n "$(ulimit -Hn)"

start() {
    local words
    read -ra words <<<"${servers[$1]:?no such peer}"
    : >"$log"
    taskset -c "$server_core" "$programs/${words[0]}" "${words[@]:1}" --addr 127.0.0.1:0 >"$log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        address=$(sed -n 's/^listening on //p' "$log")
        [ -z "$address" ] || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    cat "$log" >&2
    echo "$1 did not start" >&2
    exit 1
}

stop() {
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
}

# measure WORKLOAD PEER ROUND: one line of results.
measure() {
    local words result
    read -ra words <<<"${loads[$1]:?no such workload}"
    start "$2"
    [[ $1 == mem* ]] || words+=(--seconds "$seconds")
    if ! result=$(taskset -c "$load_core" "$programs/load" --addr "$address" --pid "$server" "${words[@]}"); then
        cat "$log" >&2
        echo "$2 failed on $1" >&2
        exit 1
    fi
    stop
    echo "{\"workload\": \"$1\", \"peer\": \"$2\", \"round\": $3, \"result\": $result}" >>"$results"
}

: >"$results"
for workload in $workloads; do
    # Memory does not depend on what else the machine does.
    times=$rounds
    [[ $workload != mem* ]] || times=1
    for round in $(seq "$times"); do
        [ ! -t 2 ] || printf '\r%s: round %s of %s ' "$workload" "$round" "$times" >&2
        for peer in $peers; do
            measure "$workload" "$peer" "$round"
        done
    done
done
[ ! -t 2 ] || printf '\r\033[K' >&2

echo "$(uname -sr), $(nproc) cores, $(rustc --version); $rounds rounds of $seconds s"
passed=0
python3 report.py "$results" "${check[@]}" || passed=$?
"$programs/http_allocs" || passed=$?
exit "$passed"
