#!/usr/bin/env bash
# Make VMs workers of this machine's swarm; if there is no swarm yet, this machine begins one and is its manager.
#
#     swarm/join.sh [--advertise-addr ADDR] [--database-here] HOST...
#
# To be run on the manager. VMs that are workers already are left alone. They must reach this machine's port 2377 (TCP),
# and each other's 7946 (TCP and UDP) and 4789 (UDP).
#
#     HOST                   as ssh knows it, for instance vm_new1 from ~/.ssh/config
#     --hosts FILE           a file with one host per line; blank lines and comments (#) are allowed
#     --advertise-addr ADDR  the address at which the VMs reach this machine; needed for a new swarm if it has several
#     --database-here        the database of the stack is to run on this machine: its node gets the label database=true
#     --dry-run              change nothing, print the commands that would
#
# SSH_OPTIONS in the environment: further options of ssh, for instance "-F file". The token with which workers join is
# not printed, and goes to the VM on standard input.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

ADVERTISE_ADDRESS=""
DATABASE_HERE=""
TOKEN=""
MANAGER_ADDRESS=""

own_option() {
    case "$1" in
        --advertise-addr)
            needs_value "$@"
            ADVERTISE_ADDRESS="$2"
            TAKEN=2
            ;;
        --database-here)
            DATABASE_HERE=yes
            TAKEN=1
            ;;
    esac
}

# Steps on this machine are printed as those of "manager". If they fail there is nothing to be done on the others.
begin_swarm() {
    local state manager address=()
    read -r state manager <<<"$(docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')"
    case "$state $manager" in
        "active true") say manager "already a manager" ;;
        "inactive "*)
            if [ -n "$ADVERTISE_ADDRESS" ]; then address=(--advertise-addr "$ADVERTISE_ADDRESS"); fi
            here manager docker swarm init "${address[@]}"
            changed manager "began a swarm"
            ;;
        "active "*) stop "this machine is a worker of a swarm: run this on its manager" ;;
        *) stop "this machine's part in a swarm is '$state': see docker info" ;;
    esac
}

# No token and no address in a dry run before there is a swarm.
read_swarm() {
    if [ "$(docker info -f '{{.Swarm.ControlAvailable}}')" = true ]; then
        TOKEN="$(docker swarm join-token -q worker)"
        MANAGER_ADDRESS="$(node '{{.ManagerStatus.Addr}}' self)"
        if [ -z "$TOKEN" ] || [ -z "$MANAGER_ADDRESS" ]; then stop "docker does not tell the token and its address"; fi
    fi
}

# Only one node may have the label: on another one the database would begin anew, with an empty volume.
label_database() {
    local id own others=()
    own="$(docker info -f '{{.Swarm.NodeID}}')"
    for id in $(docker node ls -q 2>/dev/null); do
        if [ "$id" != "$own" ] && [ "$(database_label "$id")" = true ]; then others+=("$id"); fi
    done
    if [ ${#others[@]} -gt 0 ]; then
        stop "node ${others[*]} has the label database=true: move the database, then take the label away" \
            "(docker node update --label-rm database ${others[0]})"
    elif [ -n "$own" ] && [ "$(database_label self)" = true ]; then
        say manager "label database=true: already there"
    else
        here manager docker node update --label-add database=true "${own:-self}"
        changed manager "label database=true: set"
    fi
}

database_label() { node '{{index .Spec.Labels "database"}}' "$1"; }

join() {
    local host="$1" code=0 answer state id role
    answer="$(ask_host "$host" there_swarm_state </dev/null)" || code=$?
    if [ "$code" -ne 0 ]; then fail "$host" "$(last_words "$code")"; fi
    read -r state id <<<"${answer##*$'\n'}"
    case "$state" in
        inactive)
            # The token is in no command's arguments here: printf belongs to the shell.
            steps_of "$host" ask_host "$host" there_join "$MANAGER_ADDRESS" < <(printf '%s\n' "$TOKEN")
            if [ -z "$DRY_RUN" ]; then await_ready "$host"; fi
            ;;
        active)
            role="$(node '{{.Spec.Role}}' "$id")"
            [ -n "$role" ] || fail "$host" "is in another swarm, or was removed from this one without its knowing;" \
                "end that first, on the host: docker swarm leave"
            say "$host" "already a $role"
            ;;
        *) fail "$host" "its part in a swarm is '$state'; end that first, on the host: docker swarm leave --force" ;;
    esac
}

there_join() {
    local token
    there_find_docker
    read -r token
    if [ -n "$DRY_RUN" ]; then
        there_say "would run: docker swarm join --token (not shown) ${1:-(address of the manager)}"
    else
        "${DOCKER[@]}" swarm join --token "$token" "$1" >/dev/null
    fi
}

await_ready() {
    local host="$1" id attempt
    id="$(ask_host "$host" there_swarm_state </dev/null)" || fail "$host" "$(last_words $?)"
    id="${id##* }"
    for ((attempt = 0; attempt < 30; attempt++)); do
        if [ "$(node '{{.Status.State}}' "$id")" = ready ]; then
            say "$host" "joined as a worker"
            return
        fi
        sleep 0.5
    done
    fail "$host" "joined, but the manager does not see it ready"
}

read_options "$@"
needs_docker
begin_swarm
read_swarm
if [ -n "$DATABASE_HERE" ]; then label_database; fi
each_host join
finish
