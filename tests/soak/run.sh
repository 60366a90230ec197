#!/usr/bin/env bash
# tests/soak/run.sh [SECONDS=120] [CLIENTS=2000]   many clients, a few of them faulty at any time
# tests/soak/run.sh --faults [N=10000]             every fault in turn, in four laps
# tests/soak/run.sh --hostile [SECONDS=60]         what a hostile crowd costs healthy clients
# SEED=N repeats the choices of a run. See README.md.
set -euo pipefail
# shellcheck source=tests/tools/env.sh
source "$(dirname "$0")/../tools/env.sh"

case ${1:-} in
    --faults) run=(faults --faults "${2:-10000}") most=$((600 + ${2:-10000} / 20)) ;;
    --hostile) run=(hostile --seconds "${2:-60}") most=$((300 + ${2:-60} * 2)) ;;
    *) run=(mixed --seconds "${1:-120}" --clients "${2:-2000}") most=$((300 + ${1:-120})) ;;
esac
[ -z "${SEED:-}" ] || run+=(--seed "$SEED")

need_rust
target=${CARGO_TARGET_DIR:-$root/target}/soak
CARGO_TARGET_DIR=$target cargo build --quiet --release --locked --manifest-path "$root/tests/soak/Cargo.toml"
# A descriptor for each client, and for each of the server's connections.
ulimit -n "$(ulimit -Hn)"
# The server is its child, and ends when it does.
timeout "$most" "$target/release/soak" "${run[@]}" &
servers+=($!)
wait $!
