#!/usr/bin/env bash
# Make VMs ready to be workers: Docker is installed and runs, the user may use it, the directory for our files is there.
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

prepare() { on_host "$1" there_prepare "$DIRECTORY"; }

there_prepare() {
    there_become_root
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
        else
            there_change "${AS_ROOT[@]}" systemctl enable --now docker
            there_changed "daemon: started"
        fi
    elif docker version >/dev/null 2>&1 </dev/null || "${AS_ROOT[@]}" docker version >/dev/null 2>&1 </dev/null; then
        there_say "daemon: already runs"
    elif [ -n "$DRY_RUN" ]; then
        there_say "daemon: does not run yet"
    else
        there_stop "the Docker daemon does not run, and there is no systemd to start it: please start it yourself"
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
