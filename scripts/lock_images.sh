#!/usr/bin/env bash
# Writes images.lock anew: the base image of the Dockerfile and the database's image of the stack files, by digest.
#
#     bash scripts/lock_images.sh
#
# Needs Docker, and a registry that can be reached: what the names lead to there now is what gets locked. Do this when
# the base images have had security fixes; then build anew, and test.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The digest under which the registry knows an image: that of the list for all architectures, if there is one.
locked() {
    local name="$1" digest
    docker pull --quiet "$name" >/dev/null
    digest="$(docker image inspect -f '{{range .RepoDigests}}{{println .}}{{end}}' -- "$name" \
        | sed -n "s,^${name%:*}@,,p" | head -n 1)"
    [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || {
        printf 'lock_images.sh: %s: Docker does not tell its digest\n' "$name" >&2
        exit 1
    }
    printf '%s@%s\n' "$name" "$digest"
}

base="$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)"
# shellcheck disable=SC2016
database="$(sed -n 's/.*\${PG_SPAT_IMAGE:-\(.*\)}$/\1/p' docker_compose_s2.yml)"
base="$(locked "$base")"
database="$(locked "$database")"
cat >images.lock <<END
# The images that we build on and start, by digest; scripts/lock_images.sh writes them anew.
BASE_IMAGE=$base
PG_SPAT_IMAGE=$database
END
