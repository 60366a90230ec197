#!/usr/bin/env bash
# tests/soak/redis.sh soak [MESSAGES=10000000]         through two nodes, in processes of their own: memory stays flat
# tests/soak/redis.sh jitter [CLIENTS=1000] [SECONDS=60]   clients that are cut and come back to the other node
# tests/soak/redis.sh pause [SECONDS=30]               a server that stands still, with the default times
#
# The long runs of tests/redis, which has short ones for the gate. SEED=N repeats the choices of a jitter run.
#
# Last run of soak, on 27 November 2026, of a release build on two cores with a load of 8, at `nice 10`: 10,000,000
# messages in 376 s, none lost, all in order; the nodes' memory was 8.6 and 8.7 MB at the beginning, 9.7 and 9.7 MB
# after two million, 9.7 and 9.8 MB at the end. (With a timeout of 2 s, as the other tests have, the server, which has
# to share the cores, was once too late: the nodes began anew, and plain messages were lost, as they may be then.)
#
# Last runs of the others, on 27 November 2026, of debug builds on two cores with a load of 12:
# jitter: 1,000 clients, 60 s, 58,979 connections; 1,604,000 messages once, in order.
# pause: 30 s; up again 125 ms after the server went on.
set -euo pipefail
# shellcheck source=tests/tools/env.sh
source "$(dirname "$0")/../tools/env.sh"

case ${1:-} in
    soak)
        export SOAK_MESSAGES=${2:-10000000}
        run=(millions_of_messages --ignored)
        ;;
    jitter)
        export JITTER_CLIENTS=${2:-1000} JITTER_SECONDS=${3:-60} JITTER_SEED=${SEED:-1}
        run=(t15_with_connections_cut)
        ;;
    pause)
        export REDIS_PAUSE_SECONDS=${2:-30}
        run=(b2_while_the_server_stands_still)
        ;;
    *) die "soak, jitter or pause" ;;
esac

need_rust
need_redis
cd "$root"
cargo test --release --package tower-websocket-tests --features redis --test redis -- --nocapture "${run[@]}"
