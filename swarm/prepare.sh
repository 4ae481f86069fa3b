#!/usr/bin/env bash
# Make VMs ready to be workers: Docker is installed and runs, the user may use it, the directory for our files is there,
# and no process in a container can become more than it began as (no-new-privileges: a stack cannot say that itself).
#
#     swarm/prepare.sh [--directory DIR] HOST...
#
# To be run on the manager. What is there already is left alone, so it can be run again at any time.
#
#     HOST             as ssh knows it, for instance vm_new1 from ~/.ssh/config
#     --hosts FILE     a file with one host per line; blank lines and comments (#) are allowed
#     --directory DIR  directory on the VM, from the home directory on if it does not begin with / (default: dk)
#     --dry-run        change nothing, print the commands that would
#
# DAEMON_CONFIG in the environment: the Docker daemon's configuration on the VM, if not /etc/docker/daemon.json. A daemon
# that runs already is started anew for it only if no container would end.
#
# SSH_OPTIONS in the environment: further options of ssh, for instance "-F file". The user on the VM is root, or may use
# sudo without a password. Members of the group docker are as mighty as root.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

own_option() {
    case "$1" in
        --directory)
            needs_value "$@"
            DIRECTORY="$2"
            TAKEN=2
            ;;
    esac
}

prepare() { on_host "$1" there_prepare "$DIRECTORY" "${DAEMON_CONFIG:-/etc/docker/daemon.json}"; }

there_prepare() {
    there_become_root
    # First of all: installing Docker starts it.
    there_forbid_privileges "$2"
    there_install_docker
    there_start_docker
    there_join_group
    there_find_folder "$1"
    if [ -d "$FOLDER" ]; then
        there_say "directory $FOLDER: already there"
    else
        there_change mkdir -p -- "$FOLDER"
        there_changed "directory $FOLDER: made"
    fi
}

# Set RESTART if a daemon that is there already does not know it yet.
there_forbid_privileges() {
    local file="$1" text="" setting='"no-new-privileges": true'
    RESTART=""
    if [ -e "$file" ]; then text="$("${AS_ROOT[@]}" cat -- "$file")"; fi
    if [[ $text =~ \"no-new-privileges\"[[:space:]]*:[[:space:]]*true ]]; then
        there_say "no-new-privileges: already set"
        return
    elif [[ $text =~ \"no-new-privileges\" ]]; then
        there_stop "$file forbids no-new-privileges: please set it to true there"
    elif [[ $text =~ ^[[:space:]]*(\{[[:space:]]*\}[[:space:]]*)?$ ]]; then
        text="{$setting}"
    elif [[ $text =~ ^[[:space:]]*\{(.*)$ ]]; then
        text="{$setting,${BASH_REMATCH[1]}"
    else
        there_stop "$file is no configuration that we understand: please add $setting to it"
    fi
    # shellcheck disable=SC2016
    there_change "${AS_ROOT[@]}" sh -c 'mkdir -p -- "$(dirname -- "$1")" && printf "%s\n" "$2" >"$1"' sh "$file" "$text"
    there_changed "no-new-privileges: set in $file"
    if command -v docker >/dev/null 2>&1; then RESTART=yes; fi
}

there_install_docker() {
    if command -v docker >/dev/null 2>&1; then
        there_say "Docker: already there"
        return
    fi
    if [ ! -e /etc/debian_version ] || ! command -v apt-get >/dev/null 2>&1; then
        there_stop "this is neither Debian nor Ubuntu: please install Docker yourself"
    fi
    there_say "Docker: installing docker.io (apt-get) ..."
    # A broken list of some other source is no reason to stop: what is really missing shows below.
    there_change "${AS_ROOT[@]}" apt-get -q update || true
    # With what it recommends: on newer Debians the command docker is among that.
    there_change "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -o DPkg::Lock::Timeout=300 install -y docker.io
}

# The daemon is to run now and after a restart of the VM.
there_start_docker() {
    if [ -d /run/systemd/system ]; then
        # Installing Docker has usually started it.
        if systemctl is-active --quiet docker && systemctl is-enabled --quiet docker 2>/dev/null; then
            there_say "daemon: already runs"
            if [ -n "$RESTART" ]; then there_restart_docker; fi
        else
            there_change "${AS_ROOT[@]}" systemctl enable --now docker
            there_changed "daemon: started"
        fi
    elif docker version >/dev/null 2>&1 </dev/null || "${AS_ROOT[@]}" docker version >/dev/null 2>&1 </dev/null; then
        there_say "daemon: already runs"
        if [ -n "$RESTART" ]; then there_say "no-new-privileges: holds when the daemon is started next"; fi
    elif [ -n "$DRY_RUN" ]; then
        there_say "daemon: does not run yet"
    else
        there_stop "the Docker daemon does not run, and there is no systemd to start it: please start it yourself"
    fi
}

there_restart_docker() {
    there_find_docker
    if [ -n "$("${DOCKER[@]}" ps -q)" ]; then
        there_say "no-new-privileges: containers run, so it holds when the daemon is started next (systemctl restart docker)"
    else
        there_change "${AS_ROOT[@]}" systemctl restart docker
        there_changed "daemon: started anew"
    fi
}

there_join_group() {
    local user
    user="$(id -un)"
    if [ "$(id -u)" -eq 0 ]; then
        there_say "group docker: root needs none"
    elif id -nG "$user" | tr ' ' '\n' | grep -qx docker; then
        there_say "group docker: $user is already in it"
    else
        there_change "${AS_ROOT[@]}" usermod -aG docker "$user"
        there_changed "group docker: $user is in it from the next login on"
    fi
}

read_options "$@"
each_host prepare
finish
