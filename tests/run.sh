#!/usr/bin/env bash
# All tests, on a fresh Debian or Ubuntu machine as well: installs what is missing, then lint, types, tests, coverage.
#
#     bash tests/run.sh [--swarm] [arguments for pytest]
#
# With arguments it runs the tests that they choose, without the coverage floor. --swarm: also those on a swarm, for
# which it installs a Docker engine; they start daemons of their own and leave this machine's as they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh
prepare_postgis
prepare_test_tools
if [ -n "${CI:-}" ] || [[ " $* " == *" --swarm "* ]]; then
    prepare_swarm_tools
fi
prepare_venv test

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy

if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
# Two halves side by side: most tests wait for something, and so both take little more than half the time. Those that
# measure seconds are in the half that is not niced.
half=(.venv/bin/python -m coverage run -m pytest --durations=15)
log="$(mktemp)"
rm -f .coverage .coverage.*
nice -n 5 "${half[@]}" tests/acceptance >"$log" 2>&1 &
other=$!
# pytest ends its servers on a SIGTERM.
trap 'if kill "$other" 2>/dev/null; then wait "$other"; fi || true; rm -f "$log"' EXIT
result=0
"${half[@]}" tests/faults tests/integration tests/operations tests/unit tests/swarm || result=$?
echo "The other half (acceptance):"
wait "$other" || result=$?
cat "$log"
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report
exit "$result"
