#!/usr/bin/env bash
# tests/autobahn/run.sh [--all]: the Autobahn fuzzing client against the echo example: classes
# 1-7, 9 and 10, and of 12 and 13 (compression) the payloads up to 16 KiB; with --all the rest of
# those too, which takes a quarter of an hour. The reports stay in target/autobahn/plain and
# target/autobahn/deflate; open index.html there.
set -euo pipefail
# shellcheck source=tests/tools/env.sh
source "$(dirname "$0")/../tools/env.sh"
cd "$root"

# Sets $wstest: the suite in its own container where an engine runs, else from PyPI.
need_wstest() {
    local engine
    for engine in docker podman; do
        if "$engine" info >/dev/null 2>&1; then
            wstest=("$engine" run --rm --network host --volume "$reports:$reports"
                crossbario/autobahn-testsuite:0.8.2 wstest)
            return
        fi
    done
    find_python2
    export PYTHONUSERBASE=$tools/autobahn-0.8.2
    once autobahn-0.8.2 "$python2" -m pip install --user --no-cache-dir \
        -r tests/autobahn/requirements.txt
    wstest=("$python2" -c 'from autobahntestsuite.wstest import run; run()')
}

is_python2() { "$1" -c 'import sys, ssl, zlib; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; }

find_python2() {
    for python2 in "${PYTHON2:-python2.7}" python2.7 "$HOME"/.pyenv/versions/2.7*/bin/python2.7; do
        is_python2 "$python2" && return
    done
    python2=$tools/pyenv/versions/2.7.18/bin/python2.7
    echo "No CPython 2.7 found (PYTHON2 may name one): building it, once."
    apt_install build-essential ca-certificates curl git \
        libbz2-dev libffi-dev libreadline-dev libsqlite3-dev libssl-dev zlib1g-dev
    once pyenv build_python2
}

build_python2() {
    git clone --quiet --depth 1 https://github.com/pyenv/pyenv "$tools/pyenv/source"
    PYENV_ROOT=$tools/pyenv "$tools/pyenv/source/bin/pyenv" install 2.7.18
}

# run NAME CASES JSON-OF-SERVERS: the reports stay in $reports/NAME.
run() {
    mkdir -p "$reports/$1"
    cat >"$reports/$1/spec.json" <<JSON
{
  "outdir": "$reports/$1",
  "options": { "failByDrop": false },
  "servers": [$3],
  "cases": [$2]
}
JSON
    "${wstest[@]}" -m fuzzingclient -s "$reports/$1/spec.json" >"$work/wstest.log" 2>&1 </dev/null || {
        tail -n 30 "$work/wstest.log" >&2
        die "the fuzzing client did not finish"
    }
}

reports=${CARGO_TARGET_DIR:-$root/target}/autobahn
rm -rf "$reports"
mkdir -p "$reports"

need_wstest
build_examples echo
start_example echo --any-origin --max-message 17000000 # class 9 sends up to 16 MiB
run plain '"1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"' \
    '{ "agent": "echo", "url": "ws://'"$address"'/echo" },
     { "agent": "stream", "url": "ws://'"$address"'/stream" }'
python3 tests/autobahn/check.py "$reports/plain/index.json" echo=301 stream=301

# Each of the twelve sets of parameters has eighteen cases; the first seven are the sizes up to
# 16 KiB. Named in full, because the suite takes "12.*.1" for 12.1.18 too.
cases='"12.*", "13.*"' count=216
if [ "${1:-}" != --all ]; then
    cases='' count=84
    for set in 12.{1..5} 13.{1..7}; do
        for size in {1..7}; do cases+=", \"$set.$size\""; done
    done
    cases=${cases#, }
fi
start_example echo --any-origin --deflate --max-message 17000000
run deflate "$cases" '{ "agent": "echo", "url": "ws://'"$address"'/echo" }'
python3 tests/autobahn/check.py "$reports/deflate/index.json" echo=$count
