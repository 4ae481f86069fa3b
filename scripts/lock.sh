#!/usr/bin/env bash
# Writes requirements.lock and requirements-build.lock anew: what the image is made of, with hashes.
#
#     bash scripts/lock.sh
#
# Needs `uv` (any version that has "pip compile --universal").
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock() {
    local into="$1"
    shift
    uv pip compile --quiet --universal --upgrade --generate-hashes --python-version 3.11 --only-binary :all: \
        --no-emit-index-url --no-header --no-annotate "$@" --output-file "$into"
}

lock requirements.lock pyproject.toml
python3 - <<'PYTHON' >build-requirements.in
import tomllib
from pathlib import Path

print(*tomllib.loads(Path("pyproject.toml").read_text())["build-system"]["requires"], sep="\n")
PYTHON
trap 'rm -f build-requirements.in' EXIT
lock requirements-build.lock build-requirements.in
