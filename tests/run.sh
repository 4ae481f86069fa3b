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
# Beside what follows; it is never left half done.
prepare_stac_server &
stac_server=$!
trap wait EXIT
prepare_venv test

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
wait "$stac_server"

if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
# Two lanes side by side: most tests wait for something, and so both take little more than half the time. Each does the
# first of its parts that the other has not begun, the long ones first. Tests that measure seconds are in the lane that
# is not niced.
begun="$(mktemp -d)"
log="$begun/log"
# lane NICENESS PART...
lane() {
    local part measured chosen result=0
    # pytest ends its servers on a SIGTERM. Ctrl-C becomes one as well: a second signal would disturb it.
    trap 'kill $(jobs -p) 2>/dev/null && wait; exit 143' TERM
    trap '' INT
    for part in "${@:2}"; do
        mkdir "$begun/$part" 2>/dev/null || { [ -d "$begun/$part" ] && continue; exit 1; }
        # Coverage costs half as much again. It is left out where it would be lost (faults kill workers, and on a swarm
        # they are in images), and for what runs the same code again: thousands of examples, and whole commands.
        measured=(-m coverage run)
        chosen=("tests/$part")
        case "$part" in
            faults | swarm | acceptance) measured=() ;;
            properties) measured=() chosen=(tests/unit -m hypothesis) ;;
            unit) chosen+=(-m "not hypothesis") ;;
        esac
        # Out of reach of the keyboard's SIGINT, without ignoring those that tests send.
        setsid env --default-signal=INT nice -n "$1" \
            .venv/bin/python "${measured[@]}" -m pytest --durations=15 "${chosen[@]}" &
        wait "$!" || result=$?
        echo "$part: until second $SECONDS"
    done
    exit "$result"
}
rm -f .coverage .coverage.*
trap 'kill $(jobs -p) 2>/dev/null && wait; rm -rf "$begun"' EXIT
lane 0 faults swarm operations properties unit integration </dev/null &
first=$!
lane 5 acceptance operations properties unit integration </dev/null >"$log" 2>&1 &
second=$!
result=0
wait "$first" || result=$?
echo "The other lane:"
wait "$second" || result=$?
cat "$log"
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report
exit "$result"
