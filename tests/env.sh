# Stands where fuzz/run.sh looks for it.
# shellcheck shell=bash source=tests/tools/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools/env.sh"
