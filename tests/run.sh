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
prepare_fault_tools
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
rm -f .coverage .coverage.*
.venv/bin/python -m coverage run -m pytest --durations=15
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report
