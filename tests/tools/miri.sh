#!/usr/bin/env bash
# The pure parts under Miri, which sees what undefined behaviour the crates below them may have:
# ours has no `unsafe`, theirs (bytes, bytestring, http, simdutf8) do. Needs a nightly toolchain
# with the components miri and rust-src; some minutes, so it is not a part of the gate.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tools/env.sh
source tests/tools/env.sh

need_rust
cargo +nightly miri --version >/dev/null 2>&1 ||
    rustup component add miri rust-src --toolchain nightly
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-strict-provenance"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri
# Left out: those that try thousands of inputs, which say nothing more here and take hours.
cargo +nightly miri test --lib -- \
    driver::patience driver::turn protocol::rates protocol::frame protocol::control protocol::mask protocol::timers \
    protocol::deadlines protocol::closing protocol::session protocol::writer service::mount service::limit \
    handshake::headers handshake::proxies handshake::rejection connection::request \
    --skip more_bytes_in_a_second --skip in_any_pieces --skip a_slow_reader \
    --skip a_hundred_thousand --skip any_ --skip h16_ --skip n9_ --skip whatever_the_writes_take
