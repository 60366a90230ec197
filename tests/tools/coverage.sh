#!/usr/bin/env bash
# Line coverage of src by the whole test suite, unit tests' own lines not counted.
#
#     tests/tools/coverage.sh           # the table, and the lines that no test reaches; fails below 95 %
#
# Needs the llvm-cov of the LLVM that rustc was built with; apt-get has it.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/tools/env.sh
source tests/tools/env.sh

need_rust
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
if [ -z "${LLVM_COV:-}" ]; then
    command -v "llvm-cov-$llvm" >/dev/null || apt_install "llvm-$llvm"
    LLVM_COV=$(command -v "llvm-cov-$llvm")
    LLVM_PROFDATA=$(command -v "llvm-profdata-$llvm")
    export LLVM_COV LLVM_PROFDATA
fi
once cargo-llvm-cov-0.9.1 cargo install --quiet --locked --root "$tools/cargo-llvm-cov-0.9.1" cargo-llvm-cov@0.9.1
PATH="$tools/cargo-llvm-cov-0.9.1/bin:$PATH"
# Not `cargo llvm-cov test`: some tests run the examples, and that does not build them.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/coverage
# shellcheck disable=SC1090
source <(cargo llvm-cov show-env --sh)
cargo llvm-cov clean --workspace
cargo build --quiet --all-features --examples
cargo test --quiet --all-features --lib --tests
cargo llvm-cov report --lcov --output-path "$work/lcov.info"
python3 tests/tools/coverage.py "$work/lcov.info"
