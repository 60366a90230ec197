#!/usr/bin/env bash
# Fuzzes: fuzz/run.sh [--grow] [SECONDS [TARGET...]]; by default all targets, 10 s each.
# With --grow, what was found beside the corpus is merged into it. See fuzz/README.md.
#
# fuzz/run.sh --check [TARGET...]: 15,000 inputs for each target, the same ones every time as long as the code
# is the same. For the gate: it tells of what a change has broken, not of luck.
set -euo pipefail
# shellcheck source=../tests/tools/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/../tests/tools/env.sh"

grow=
check=
case ${1:-} in
    --grow) grow=yes && shift ;;
    --check) check=yes && shift ;;
esac
seconds=${1:-10}
[ -z "$check" ] || set -- - "$@"
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] ||
    mapfile -t targets < <(sed -n 's|^path = "\(.*\)\.rs"|\1|p' "$root/fuzz/fuzz_targets/Cargo.toml")

need_rust
command -v c++ >/dev/null || apt_install build-essential

# What cargo-fuzz does, but with the stable compiler, and no sanitizer of memory: nothing here is
# unsafe. With --target, build scripts and macros stay as they are.
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$root/fuzz/target
export RUSTC_WRAPPER=$root/fuzz/rustc.sh
export RUSTFLAGS="--cfg tower_websocket_fuzzing -Cdebug-assertions"
unset CARGO_BUILD_RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
(cd "$root/fuzz/fuzz_targets" && cargo build --locked --release --target "$host" "${targets[@]/#/--bin=}")
programs=$CARGO_TARGET_DIR/$host/release
export RUST_BACKTRACE=0
limits=(-max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)

for target in "${targets[@]}"; do
    corpus=$root/fuzz/corpus/$target
    kept=$root/fuzz/target/found/$target
    crashes=$root/fuzz/target/crashes/$target
    log=$work/$target.log
    effort=(-max_total_time="$seconds")
    [ -z "$check" ] || {
        effort=(-runs=15000 -seed=1)
        kept=$work/found/$target
    }
    mkdir -p "$corpus" "$kept" "$crashes"
    seeds=("$corpus")
    [ ! -d "$root/fuzz/regressions/$target" ] || seeds+=("$root/fuzz/regressions/$target")
    if ! "$programs/$target" "${limits[@]}" "${effort[@]}" -artifact_prefix="$crashes/" \
        "$kept" "${seeds[@]}" >"$log" 2>&1; then
        grep -v -e '^#[0-9]' -e '^stat::' "$log" | tail -n 40 >&2
        crash=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        echo "FAILED: $target, on ${crash:-nothing that was written down}" >&2
        echo "reproduce: $programs/$target ${crash:-$kept}" >&2
        echo "keep as a test: mkdir -p fuzz/regressions/$target && cp $crash fuzz/regressions/$target/" >&2
        exit 1
    fi
    if [ -n "$grow" ]; then
        # The fewest files that reach every edge: `cargo test` replays them without a fuzzer.
        mkdir "$work/$target"
        "$programs/$target" "${limits[@]}" -set_cover_merge=1 -use_counters=0 \
            "$work/$target" "$corpus" "$kept" >"$work/merge.log" 2>&1 || {
            tail -n 40 "$work/merge.log" >&2
            die "could not merge what was found for $target"
        }
        rm -rf "$kept" "$corpus"
        mv "$work/$target" "$corpus"
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -nE 's/.* cov: ([0-9]+) .*/\1/p' "$log" | tail -n 1)
    echo "$target: $executions executions, $coverage edges, $(find "$corpus" -type f | wc -l) inputs kept"
done
