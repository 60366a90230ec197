#!/usr/bin/env bash
# Models of senders, driver, close and shutdown (src/driver/models.rs), each run RUNS times under
# two schedulers that choose who goes on at every lock, atomic and wake-up.
#
#     tests/tools/models.sh [RUNS]      # default 2,000, some seconds; 1,000,000 take about half an hour
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tools/env.sh
source tests/tools/env.sh

need_rust
export RUSTFLAGS="--cfg shuttle" MODEL_RUNS=${1:-2000}
# Apart: with other flags everything is built anew.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/shuttle
cargo test --release --quiet --lib models
