#!/usr/bin/env bash
# Look whether VMs are fit to work: a table with one line per host, "ok" or what is wrong. Changes nothing.
#
#     swarm/check.sh [--image NAME:TAG] [--db-config FILE] [--s3-config FILE] [--min-disk GB] HOST...
#
# To be run on the manager. Exit code 0 if all is well, else 1.
#
#     HOST              as ssh knows it, for instance vm_new1 from ~/.ssh/config
#     --hosts FILE      a file with one host per line; blank lines and comments (#) are allowed
#     --image NAME:TAG  the image that the VM must have, the same as here (default: parcel-extraction with this version)
#     --db-config FILE, --s3-config FILE   where database and store are (default: db_config.json and s3_config.json of
#                       the project; without them they are "not checked")
#     --min-disk GB     so much must be free where Docker keeps its data (default: 10)
#     --dry-run         no different: this script changes nothing
#
# SSH_OPTIONS in the environment: further options of ssh, for instance "-F file".
#
#     DOCKER    its version; another one than the manager's is shown, but is no fault
#     SWARM     the node is in this machine's swarm, ready, and gets tasks
#     PRIVILEGES  no process in a container can become more than it began as (no-new-privileges; a container of the
#               image is started for a moment to see it)
#     CLOCK     at most 2 s from this machine's
#     DATABASE, S3   the VM can open a connection to their port; no password leaves this machine, and none is tried
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

MIN_DISK=10
MOST_SECONDS=2
# The service's name in docker_compose_*.yml: known only inside the stack.
OWN_DATABASE=pg_spat
DATABASE=""
STORE=""
ROWS=("HOST	SSH	DOCKER	SWARM	CLOCK	DISK	IMAGE	PRIVILEGES	DATABASE	S3")
NOTES=()
DB_GIVEN=""
S3_GIVEN=""

own_option() {
    case "$1" in
        --image)
            needs_image "$@"
            IMAGE="$2"
            TAKEN=2
            ;;
        --db-config)
            needs_value "$@"
            DB_CONFIG="$2"
            DB_GIVEN=yes
            TAKEN=2
            ;;
        --s3-config)
            needs_value "$@"
            S3_CONFIG="$2"
            S3_GIVEN=yes
            TAKEN=2
            ;;
        --min-disk)
            needs_number "$@"
            MIN_DISK="$2"
            TAKEN=2
            ;;
    esac
}

# endpoint FILE GIVEN: host and port of database or store, nothing if there is no such file and none was asked for.
endpoint() {
    if [ -z "$2" ] && [ ! -e "$1" ]; then return; fi
    python3 - "$1" <<'END' || wrong_usage "$1 does not tell a host and a port"
import json, sys
from urllib.parse import urlsplit

try:
    with open(sys.argv[1], encoding="utf-8") as file:
        content = json.load(file)
    if "s3" in content:
        url = urlsplit(content["s3"]["host"])
        host, port = url.hostname, url.port or {"http": 80, "https": 443}[url.scheme]
    else:
        connection = content["database"]["connection"]
        host, port = connection["host"], int(connection.get("port", 5432))
    if not host or not set(host.lower()) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:"):
        raise ValueError
    print(host, port)
except (OSError, ValueError, KeyError, TypeError, AttributeError):
    sys.exit(1)
END
}

# check HOST: add the host's line to the table. The answer is read as it comes: its first line is the VM's time, to be
# compared with the time here at that moment, which is not blurred by the time that connecting and the rest take.
check() {
    local host="$1" code key value database="$DATABASE"
    local -A answer=()
    if [ "${database%% *}" = "$OWN_DATABASE" ]; then database=""; fi
    while read -r key value; do
        case "$key" in
            time) answer[here]="${EPOCHREALTIME/[.,]/}" ;;
            docker | swarm | disk | image | privileges | database | store | code) ;;
            *) continue ;;
        esac
        answer[$key]="${value//[^[:print:]]/}"
    done < <(
        ask_host "$host" there_check "$IMAGE" "$database" "$STORE" </dev/null || printf '\ncode %s\n' $?
    )
    code="${answer[code]:-0}"
    if [ "$code" = 255 ] || [ -z "${answer[time]:-}" ]; then
        add_row "$host" "cannot be reached" - - - - - - - -
        NOTES+=("$host: $(last_words "$code")")
    elif [ "$code" != 0 ]; then
        add_row "$host" ok "cannot be used" - "$(clock)" - - - - -
        NOTES+=("$host: $(last_words "$code")")
    else
        add_row "$host" ok "$(version)" "$(swarm)" "$(clock)" "$(disk)" "$(image)" "$(privileges)" \
            "$(connection "$DATABASE" "${answer[database]}")" "$(connection "$STORE" "${answer[store]}")"
    fi
}

# add_row CELLS...: and note whether all is well.
add_row() {
    local cell row="$1" good=yes
    for cell in "${@:2}"; do
        row+=$'\t'"$cell"
        case "$cell" in
            ok | "ok "* | "not checked" | "in the stack") ;;
            *) good="" ;;
        esac
    done
    ROWS+=("$row")
    if [ -z "$good" ]; then FAILED+=("$1"); fi
}

# The cells; "answer" is that of check.

version() {
    if [ "${answer[docker]}" = "$VERSION" ]; then
        printf 'ok %s' "$VERSION"
    else
        printf 'ok %s, here %s' "${answer[docker]}" "$VERSION"
    fi
}

swarm() {
    local state="${answer[swarm]%% *}" id="${answer[swarm]#* }" known
    known="$(node '{{.Status.State}} {{.Spec.Availability}}' "$id")"
    case "$state $known" in
        "active ready active") printf ok ;;
        "active ") printf 'in another swarm' ;;
        "active "*) printf 'node is %s' "${known/ /, }" ;;
        "inactive "*) printf 'in no swarm' ;;
        *) printf 'is %s' "$state" ;;
    esac
}

clock() {
    local there="${answer[time]/[.,]/}" difference way=behind
    # Bash would take anything but a number for a formula.
    if [[ ! $there =~ ^[0-9]{1,18}$ ]]; then
        printf unknown
        return
    fi
    difference=$((answer[here] - there))
    if [ "$difference" -lt 0 ]; then
        difference=$((-difference))
        way=ahead
    fi
    if [ "$difference" -le $((MOST_SECONDS * 1000000)) ]; then
        printf ok
    else
        printf '%d.%d s %s' $((difference / 1000000)) $((difference / 100000 % 10)) "$way"
    fi
}

disk() {
    local free="${answer[disk]}"
    if [[ ! $free =~ ^[0-9]{1,15}$ ]]; then
        printf unknown
    elif [ "$free" -lt $((MIN_DISK * 1000000)) ]; then
        printf 'only %d.%d GB free' $((free / 1000000)) $((free / 100000 % 10))
    else
        printf ok
    fi
}

image() {
    if [ -z "${answer[image]}" ]; then
        printf 'not there'
    elif [ -z "$IMAGE_ID" ]; then
        printf 'there, but not here'
    elif [ "${answer[image]}" != "$IMAGE_ID" ]; then
        printf 'another one than here'
    else
        printf ok
    fi
}

privileges() {
    case "${answer[privileges]}" in
        1) printf ok ;;
        0) printf 'can be gained' ;;
        *) printf 'not checked' ;;
    esac
}

# connection ENDPOINT ANSWER
connection() {
    case "${1%% *}" in
        "") printf 'not checked' ;;
        "$OWN_DATABASE") printf 'in the stack' ;;
        *) printf '%s' "$2" ;;
    esac
}

there_check() {
    local root
    printf 'time %s\n' "${EPOCHREALTIME:-$(date +%s.%6N)}"
    there_find_docker
    printf 'docker %s\n' "$("${DOCKER[@]}" version -f '{{.Server.Version}}')"
    printf 'swarm %s\n' "$(there_swarm_state)"
    root="$("${DOCKER[@]}" info -f '{{.DockerRootDir}}')"
    printf 'disk %s\n' "$(df --block-size=1000 --output=avail -- "$root" 2>/dev/null | tail -n 1 | tr -d ' ')"
    printf 'image %s\n' "$(there_identity "$1")"
    printf 'privileges %s\n' "$(there_privileges "$1")"
    printf 'database %s\n' "$(there_connect "$2")"
    printf 'store %s\n' "$(there_connect "$3")"
}

# Not what the daemon's configuration says, which it may not have read: what holds in a container. Nothing if there is
# no image to look with.
there_privileges() {
    if [ -z "$(there_identity "$1")" ]; then return; fi
    "${DOCKER[@]}" run --rm --network none --entrypoint sed -- "$1" -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status \
        2>/dev/null </dev/null || true
}

# there_connect "HOST PORT": by bash alone, a VM may have no other tool.
there_connect() {
    local host port code=0
    read -r host port <<<"$1"
    if [ -z "$host" ]; then return; fi
    # shellcheck disable=SC2016
    timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2"' bash "$host" "$port" 2>/dev/null </dev/null || code=$?
    case $code in
        0) printf ok ;;
        124) printf 'no answer from %s:%s' "$host" "$port" ;;
        *) printf 'no connection to %s:%s' "$host" "$port" ;;
    esac
}

print_table() {
    local row column widths=() cells=()
    for row in "${ROWS[@]}"; do
        IFS=$'\t' read -r -a cells <<<"$row"
        for column in "${!cells[@]}"; do
            if [ "${#cells[column]}" -gt "${widths[column]:-0}" ]; then widths[column]="${#cells[column]}"; fi
        done
    done
    for row in "${ROWS[@]}"; do
        IFS=$'\t' read -r -a cells <<<"$row"
        for column in "${!cells[@]}"; do
            if [ "$column" -lt $((${#cells[@]} - 1)) ]; then
                printf '%-*s  ' "${widths[column]}" "${cells[column]}"
            else
                printf '%s\n' "${cells[column]}"
            fi
        done
    done
}

read_options "$@"
DATABASE="$(endpoint "$DB_CONFIG" "$DB_GIVEN")"
STORE="$(endpoint "$S3_CONFIG" "$S3_GIVEN")"
needs_docker
VERSION="$(docker version -f '{{.Server.Version}}')"
DOCKER=(docker)
IMAGE_ID="$(there_identity "$IMAGE")"
for host in "${HOSTS[@]}"; do check "$host"; done
print_table
if [ ${#NOTES[@]} -gt 0 ]; then printf '%s\n' "${NOTES[@]}"; fi
finish
