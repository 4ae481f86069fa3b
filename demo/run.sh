#!/usr/bin/env bash
# The demonstration, on a fresh Debian or Ubuntu machine as well: installs what is missing, then runs it.
#
#     bash demo/run.sh [--keep]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh
prepare_postgis
prepare_venv demo
exec "$VENV_PYTHON" -m demo "$@"
