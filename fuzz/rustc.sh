#!/bin/sh
# Cargo's RUSTC_WRAPPER for run.sh: gives our own crate libFuzzer's coverage, as cargo-fuzz gives it
# to all of them. With tokio and zlib left as they are, a run tries several times as many inputs.
case " $* " in
*" --crate-name tower_websocket "*)
    set -- "$@" -Cpasses=sancov-module -Ccodegen-units=1 \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*" --crate-name h2 "*)
    # It asserts that no stream is left when a connection is dropped, which is wrong where the peer
    # goes without a word (https://github.com/hyperium/h2/issues/907).
    set -- "$@" -Cdebug-assertions=no
    ;;
esac
exec "$@"
