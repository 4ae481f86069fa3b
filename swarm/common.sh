# What the scripts of this folder share: options, and steps on hosts. To be sourced by bash.
#
#     own_option() { ...; }        # options of the script itself, see read_options
#     read_options "$@"            # fills HOSTS
#     each_host FUNCTION           # FUNCTION HOST, for one host after the other
#     finish                       # exit code 0, or 1 and the list of hosts that failed
#
# Functions whose names begin with there_ run on a host: on_host sends all of them and calls one. There they see
# nothing of the variables here, except DRY_RUN.
# shellcheck shell=bash disable=SC2034

PROJECT_ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
# The name that README.md builds it under: with the version, so that no VM works with another one's code unnoticed.
IMAGE="parcel-extraction:$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$PROJECT_ROOT/extractors/__init__.py")"
DIRECTORY="dk"
DB_CONFIG="$PROJECT_ROOT/db_config.json"
S3_CONFIG="$PROJECT_ROOT/s3_config.json"

DRY_RUN=""
HOSTS=()
FAILED=()
SCRATCH="$(mktemp -d)"
trap 'rm -rf -- "$SCRATCH"' EXIT

# ssh takes the first value that it is given for an option, so those of SSH_OPTIONS go before these. A connection whose
# host is gone ends within a minute.
read -r -a SSH <<<"ssh ${SSH_OPTIONS:-}"
SSH+=(-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15 -o LogLevel=ERROR)

# Options

# read_options ARGUMENTS...: those that all scripts know; for the others own_option is called with all arguments that
# are left, and sets TAKEN to the number of those it has used (0: unknown).
read_options() {
    while [ $# -gt 0 ]; do
        case "$1" in
            -h | --help)
                _help
                exit 0
                ;;
            --dry-run)
                DRY_RUN=yes
                shift
                ;;
            --hosts)
                needs_value "$@"
                _read_hosts "$2"
                shift 2
                ;;
            -*)
                TAKEN=0
                own_option "$@"
                [ "$TAKEN" -gt 0 ] || wrong_usage "there is no option $1"
                shift "$TAKEN"
                ;;
            *)
                _add_host "$1"
                shift
                ;;
        esac
    done
    [ ${#HOSTS[@]} -gt 0 ] || wrong_usage "no hosts: name them, or say --hosts FILE"
}

# needs_value OPTION VALUE...: stop unless there is a value.
needs_value() {
    if [ $# -lt 2 ] || [ -z "$2" ]; then wrong_usage "$1 needs a value"; fi
}

# needs_number OPTION VALUE...: stop unless the value is a whole number.
needs_number() {
    needs_value "$@"
    [[ $2 =~ ^[0-9]{1,6}$ ]] || wrong_usage "$1 needs a whole number, not '$2'"
}

# needs_image OPTION VALUE...: stop unless the value can be the name of an image.
needs_image() {
    needs_value "$@"
    [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] || wrong_usage "$1: '$2' is no name of an image"
}

wrong_usage() {
    printf '%s: %s (%s --help says more)\n' "$(_name)" "$*" "$(_name)" >&2
    exit 2
}

stop() {
    printf '%s: %s\n' "$(_name)" "$*" >&2
    exit 1
}

_name() { basename -- "$0"; }

# The comment at the head of the script.
_help() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# One host per line; blank lines and what follows a # do not count.
_read_hosts() {
    local line
    if [ ! -r "$1" ] || [ -d "$1" ]; then wrong_usage "--hosts: $1 cannot be read"; fi
    while IFS= read -r line || [ -n "$line" ]; do
        line="${line%%#*}"
        read -r line <<<"${line%$'\r'}"
        if [ -n "$line" ]; then _add_host "$line"; fi
    done <"$1"
}

# A name goes to ssh as it is: it must be none of ssh's options, nor anything for a shell.
_add_host() {
    local known
    [[ $1 =~ ^[A-Za-z0-9_][A-Za-z0-9_.:-]*(@[A-Za-z0-9_][A-Za-z0-9_.:-]*)?$ ]] \
        || wrong_usage "'$1' is no name of a host"
    for known in "${HOSTS[@]}"; do
        if [ "$known" = "$1" ]; then return; fi
    done
    HOSTS+=("$1")
}

# Hosts

# each_host FUNCTION: what fails on one host does not keep us from the others. The function runs in a subshell, and not
# in an `if`, where `set -e` would not hold.
each_host() {
    local host code
    for host in "${HOSTS[@]}"; do
        rm -f -- "$SCRATCH"/*
        set +e
        (
            set -e
            "$1" "$host"
        )
        code=$?
        set -e
        if [ "$code" -ne 0 ]; then FAILED+=("$host"); fi
    done
}

finish() {
    if [ ${#FAILED[@]} -gt 0 ]; then stop "failed: ${FAILED[*]}"; fi
    exit 0
}

# say HOST WHAT: a step.
say() {
    local host="$1"
    shift
    printf '%s: %s\n' "$host" "$(_harmless "$*")"
}

# What a host says goes to a terminal: without anything that it would obey.
_harmless() { printf '%s' "${1//[[:cntrl:]]/?}"; }

# changed HOST WHAT: a step that has been done; in a dry run it has not.
changed() {
    if [ -z "$DRY_RUN" ]; then say "$@"; fi
}

# fail HOST WHY: the end of the work on this host.
fail() {
    local host="$1"
    shift
    printf '%s: failed: %s\n' "$host" "$(_harmless "$*")" >&2
    exit 1
}

# on_host HOST FUNCTION ARGUMENTS...: call a function there_... on the host; its output is a list of steps.
on_host() {
    local host="$1"
    steps_of "$host" ask_host "$@" </dev/null
}

# ask_host HOST FUNCTION ARGUMENTS...: the same, but the output is an answer as it is, standard input goes to the host,
# and a failure is left to the caller, who finds its reason with last_words. An answer of one line is the last one: a
# login shell may have said something before.
ask_host() {
    local host="$1"
    shift
    "${SSH[@]}" -- "$host" "bash -c $(_in_quotes "$(_script "$@")")" 2>"$SCRATCH/errors"
}

# steps_of HOST COMMAND...: put the host before each line of the command's output; fail if it fails.
steps_of() {
    local host="$1" line code=0
    shift
    "$@" > >(while IFS= read -r line; do say "$host" "$line"; done) || code=$?
    wait $! || true  # all lines are to be out before the next step
    if [ "$code" -ne 0 ]; then fail "$host" "$(last_words "$code")"; fi
}

# last_words CODE: why ask_host or here has failed, in one line. "sender" is what a command has said that feeds
# ask_host; mostly it only says that nobody listens to it any more.
last_words() {
    local words file
    for file in errors sender; do
        words="$(grep -sv '^[[:space:]]*$' "$SCRATCH/$file" | tail -n 1)" || true
        if [ -n "$words" ]; then break; fi
    done
    words="$(_harmless "${words%$'\r'}")"
    case "$1" in
        255) printf 'cannot be reached%s' "${words:+ ($words)}" ;;
        *) printf '%s' "${words:-exit code $1}" ;;
    esac
}

# here HOST COMMAND...: run a command that changes something, on this machine, for the sake of the host.
here() {
    local host="$1" code=0
    shift
    if [ -n "$DRY_RUN" ]; then
        say "$host" "would run here: $*"
        return
    fi
    "$@" >/dev/null 2>"$SCRATCH/errors" </dev/null || code=$?
    if [ "$code" -ne 0 ]; then fail "$host" "$(last_words "$code")"; fi
}

# The script that calls a function on a host.
_script() {
    # shellcheck disable=SC2046
    declare -f $(compgen -A function there_)
    printf 'set -euo pipefail\nDRY_RUN=%q\n' "$DRY_RUN"
    printf '%q ' "$@"
    printf '\n'
}

# In single quotes, which every login shell understands, even with line ends between them.
_in_quotes() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

# This machine's part of the swarm

# needs_docker: stop unless Docker can be used here.
needs_docker() {
    local why
    command -v docker >/dev/null 2>&1 || stop "there is no docker on this machine"
    why="$(docker version -f '{{.Server.Version}}' 2>&1 >/dev/null)" || stop "docker here: ${why##*$'\n'}"
}

# needs_manager: stop unless this machine is a manager of a swarm.
needs_manager() {
    needs_docker
    [ "$(docker info -f '{{.Swarm.ControlAvailable}}')" = true ] || stop "this machine is no manager of a swarm"
}

# node FORMAT NODE: what the swarm knows of a node; nothing if it knows none.
node() {
    if [ -n "$2" ]; then docker node inspect -f "$1" -- "$2" 2>/dev/null </dev/null || true; fi
}

# What runs on a host

there_say() { printf '%s\n' "$*"; }

there_stop() {
    printf '%s\n' "$*" >&2
    exit 1
}

# there_change COMMAND...: run a command that changes something, or only print it.
there_change() {
    if [ -n "$DRY_RUN" ]; then
        there_say "would run: $*"
    else
        "$@" >/dev/null </dev/null
    fi
}

# there_changed WHAT: a step that has been done; in a dry run it has not.
there_changed() {
    if [ -z "$DRY_RUN" ]; then there_say "$@"; fi
}

# Set AS_ROOT to what must stand before a command of root.
there_become_root() {
    AS_ROOT=()
    if [ "$(id -u)" -ne 0 ]; then AS_ROOT=(sudo -n); fi
}

# Set DOCKER to what runs docker: with sudo only if it does not work without, as before the first login as a member of
# the group docker.
there_find_docker() {
    command -v docker >/dev/null 2>&1 || there_stop "there is no docker (prepare.sh installs it)"
    DOCKER=(docker)
    if ! docker version >/dev/null 2>&1 </dev/null; then
        there_become_root
        DOCKER=("${AS_ROOT[@]}" docker)
        "${DOCKER[@]}" version >/dev/null 2>&1 </dev/null \
            || there_stop "Docker does not run, or $(id -un) may not use it"
    fi
}

# What tells one image from another; nothing if there is no such image. Not its id: engines that keep images in
# different ways give the same image different ones.
there_identity() {
    local parts
    parts="$("${DOCKER[@]}" image inspect \
        -f '{{json .RootFS.Layers}} {{json .Config.Env}} {{json .Config.Cmd}} {{json .Config.User}}' -- "$1" 2>/dev/null)" \
        || return 0
    printf '%s' "$parts" | sha256sum | cut -d' ' -f1
}

# What part Docker has in a swarm, and its node's id.
there_swarm_state() {
    there_find_docker
    "${DOCKER[@]}" info -f '{{.Swarm.LocalNodeState}} {{.Swarm.NodeID}}'
}

# Set FOLDER to the directory, which is meant from the home directory on.
there_find_folder() {
    FOLDER="${1#\~/}"
    if [[ $FOLDER != /* ]]; then FOLDER="$HOME/$FOLDER"; fi
}
