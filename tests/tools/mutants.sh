#!/usr/bin/env bash
# tests/tools/mutants.sh [--quick] [--shard K/N] [FLAG ...]
#
# Changes the crate in small ways, one at a time, and prints the changes that no test notices
# (cargo-mutants). A change costs a build and a run of the unit tests and of tests/stack, about a
# minute; all of them take many hours. So --shard runs the K-th of N parts, from 0, which may be on
# different machines; --quick runs the unit tests only, which then have survivors that tests/stack
# would notice. Other flags go to cargo-mutants: --file src/protocol/closing.rs, --re NAME, --list.
#
# What is left is in $CARGO_TARGET_DIR/mutants/mutants.out; missed.txt has the survivors. The exit
# code is 2 if there are any, and 3 if the tests ran into the timeout, which counts as noticed.
#
# Last run: 2026-11-26, unit tests only, 13 of the 521 changes of closing.rs, session.rs, deadlines.rs,
# rates.rs, patience.rs, turn.rs, transport.rs and outbox.rs, taken at random. 4 do not build, 6 fail a
# test, 2 never end, 1 survived: `close_timeout / 2` in Session::farewell, which has a test since. So
# small a sample says little about the rest.
set -euo pipefail
# shellcheck source=tests/tools/env.sh
source "$(dirname "$0")/../tools/env.sh"

# Changes that alter nothing that can be seen, as regular expressions, each with its reason. None is
# known yet.
equivalent=(
)

version=27.1.0
need_rust
once cargo-mutants-$version cargo install --locked --version $version cargo-mutants \
    --root "$tools/cargo-mutants-$version"

tests=(-C=--lib -C=--test=stack)
files=()
flags=()
while [ $# -gt 0 ]; do
    case $1 in
        --quick) tests=(-C=--lib) ;;
        --file) files+=(--file "$2"); shift ;;
        *) flags+=("$1") ;;
    esac
    shift
done
[ ${#files[@]} -gt 0 ] || files=(--file 'src/protocol/**' --file 'src/connection/**'
    --file 'src/driver/**' --file 'src/handshake/**' --file 'src/service/**')
for name in "${equivalent[@]}"; do flags+=(--exclude-re "$name"); done

cd "$root"
# Apart, so that the changed crate does not evict the real one; what it depends on is built once.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/mutants
mkdir -p "$CARGO_TARGET_DIR"
found=0
# A change may make a loop endless: the timeout is five times what the unchanged tests take.
# models.rs is a test itself. The flags of `tests` go to the build as well: what stands behind `--`
# would not, and every example and test would be built each time.
"$tools/cargo-mutants-$version/bin/cargo-mutants" mutants --all-features --colors never \
    --timeout-multiplier 5 --minimum-test-timeout 60 --output "$CARGO_TARGET_DIR" \
    --exclude src/driver/models.rs "${files[@]}" "${flags[@]}" "${tests[@]}" || found=$?
missed=$CARGO_TARGET_DIR/mutants.out/missed.txt
if [ -s "$missed" ]; then
    echo "survivors:"
    cat "$missed"
fi
exit "$found"
