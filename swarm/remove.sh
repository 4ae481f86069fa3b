#!/usr/bin/env bash
# Take VMs out of the swarm: no new tasks, wait for those that run, leave, and forget the node.
#
#     swarm/remove.sh [--wait SECONDS] [--force [--node NODE]] HOST...
#
# To be run on the manager. A scene that a worker has not finished is done by another one.
#
#     HOST            as ssh knows it, for instance vm_new1 from ~/.ssh/config
#     --hosts FILE    a file with one host per line; blank lines and comments (#) are allowed
#     --wait SECONDS  how long to wait for the tasks on the node to end (default: 120)
#     --force         go on although tasks still run, and although the VM cannot be reached (because there is none any
#                     more): its node is found by its name or address, or named by --node
#     --node NODE     with --force: the node's name or id (docker node ls) if it cannot be found; for one host only
#     --dry-run       change nothing, print the commands that would
#
# SSH_OPTIONS in the environment: further options of ssh, for instance "-F file".
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

WAIT=120
FORCE=""
NODE=""

own_option() {
    case "$1" in
        --wait)
            needs_number "$@"
            WAIT="$2"
            TAKEN=2
            ;;
        --force)
            FORCE=yes
            TAKEN=1
            ;;
        --node)
            needs_value "$@"
            [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || wrong_usage "--node: '$2' is no name of a node"
            NODE="$2"
            TAKEN=2
            ;;
    esac
}

remove() {
    local host="$1" code=0 answer state="" id=""
    answer="$(ask_host "$host" there_swarm_state </dev/null)" || code=$?
    if [ "$code" -eq 0 ]; then
        read -r state id <<<"${answer##*$'\n'}"
        if [ -z "$(node '{{.ID}}' "$id")" ]; then state=inactive; fi
    elif [ -z "$FORCE" ]; then
        fail "$host" "$(last_words "$code"); --force removes its node all the same"
    else
        say "$host" "$(last_words "$code")"
    fi
    if [ "$state" = inactive ] || [ "$code" -ne 0 ]; then
        id=""
        if [ -n "$FORCE" ]; then id="$(find_node "$host")"; fi
        # The VM says that it is in no swarm: then a node that is alive belongs to another VM of the same name.
        if [ "$code" -eq 0 ] && [ "$(node '{{.Status.State}}' "$id")" = ready ]; then id=""; fi
    fi
    if [ -z "$id" ]; then
        say "$host" "not in this swarm"
        return
    fi
    [ "$(node '{{.Spec.Role}}' "$id")" = worker ] || fail "$host" "is a manager of the swarm, not a worker"
    if [ -z "$FORCE" ] && [ "$(node '{{index .Spec.Labels "database"}}' "$id")" = true ]; then
        fail "$host" "the stack's database is there (label database=true); --force removes it all the same"
    fi
    drain "$host" "$id"
    if [ "$code" -eq 0 ] && [ "$state" != inactive ]; then on_host "$host" there_leave; fi
    # The manager may not have noticed yet that the node has left: hence the --force, in any case.
    here "$host" docker node rm --force "$id"
    changed "$host" "removed"
}

there_leave() {
    there_find_docker
    there_change "${DOCKER[@]}" swarm leave
    there_changed "left the swarm"
}

# find_node HOST: the id of the node of a VM that does not tell it; nothing if the swarm does not know it.
find_node() {
    local host="$1" known id name address found=()
    if [ -n "$NODE" ]; then
        node '{{.ID}}' "$NODE"
        return
    fi
    # The address that ssh would take stands in the configuration of ssh.
    known=" ${host#*@} $("${SSH[@]}" -G -- "$host" 2>/dev/null | awk '$1 == "hostname" { print $2 }') "
    for id in $(docker node ls -q); do
        read -r name address <<<"$(node '{{.Description.Hostname}} {{.Status.Addr}}' "$id")"
        if [[ $known == *" $name "* || $known == *" $address "* ]]; then found+=("$id"); fi
    done
    if [ ${#found[@]} -gt 1 ]; then fail "$host" "several nodes may be meant (${found[*]}): say which with --node"; fi
    printf '%s' "${found[*]}"
}

# drain HOST ID: wait until no task runs on the node, if there is still somebody who would tell.
drain() {
    local host="$1" id="$2" tasks waited
    here "$host" docker node update --availability drain "$id"
    if [ -n "$DRY_RUN" ] || [ "$(node '{{.Status.State}}' "$id")" != ready ]; then return; fi
    say "$host" "drained"
    for ((waited = 0; ; waited++)); do
        tasks="$(tasks_on "$id")"
        if [ "$tasks" -eq 0 ]; then return; fi
        if [ "$waited" -ge "$WAIT" ]; then break; fi
        if [ "$waited" -eq 0 ]; then say "$host" "waiting for its tasks to end ($tasks) ..."; fi
        sleep 1
    done
    if [ -n "$FORCE" ]; then
        say "$host" "tasks that still run are ended now: $tasks"
    else
        fail "$host" "tasks still run after $WAIT s: $tasks; run this again, or with --force to end them"
    fi
}

# tasks_on ID: how many tasks have not ended.
tasks_on() {
    docker node ps --format '{{.CurrentState}}' -- "$1" \
        | awk '$1 !~ /^(Complete|Shutdown|Failed|Rejected|Remove|Orphaned)$/ { count++ } END { print count + 0 }'
}

read_options "$@"
if [ -n "$NODE" ] && { [ -z "$FORCE" ] || [ ${#HOSTS[@]} -ne 1 ]; }; then
    wrong_usage "--node needs --force, and exactly one host"
fi
needs_manager
each_host remove
finish
