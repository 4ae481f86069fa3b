#!/usr/bin/env bash
# Bring to VMs what the workers need, without a registry: the image, or copies of the code and the configuration.
#
#     swarm/bring.sh [--image NAME:TAG] [--code] [--config] [--directory DIR] HOST...
#
# To be run on the manager, where the image has been built. Without --code and --config it brings the image.
#
#     HOST              as ssh knows it, for instance vm_new1 from ~/.ssh/config
#     --hosts FILE      a file with one host per line; blank lines and comments (#) are allowed
#     --image NAME:TAG  bring this image (default: parcel-extraction with this version); a VM that has it already is left alone
#     --code            copy extractors/, operations/ and download_with_boto3.py
#     --config          copy db_config.json and s3_config.json (see below)
#     --db-config FILE, --s3-config FILE   other configuration files to copy; they get the usual names
#     --directory DIR   where to on the VM, from the home directory on if it does not begin with / (default: dk)
#     --dry-run         change nothing, print the commands that would
#
# SSH_OPTIONS in the environment: further options of ssh, for instance "-F file".
#
# Configuration files hold passwords. In the swarm, give them to the services as secrets (docker secret create): then no
# VM has them on its disk, and --config is not needed. Copies get mode 0600. The user of the image could not read them,
# so a container that gets the directory mounted runs as their owner (--user; README.md, "On VMs without a swarm").
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

BRING_IMAGE=""
BRING_CODE=""
BRING_CONFIG=""

own_option() {
    case "$1" in
        --image)
            needs_image "$@"
            IMAGE="$2"
            BRING_IMAGE=yes
            TAKEN=2
            ;;
        --code)
            BRING_CODE=yes
            TAKEN=1
            ;;
        --config)
            BRING_CONFIG=yes
            TAKEN=1
            ;;
        --db-config)
            needs_value "$@"
            DB_CONFIG="$2"
            TAKEN=2
            ;;
        --s3-config)
            needs_value "$@"
            S3_CONFIG="$2"
            TAKEN=2
            ;;
        --directory)
            needs_value "$@"
            DIRECTORY="$2"
            TAKEN=2
            ;;
    esac
}

bring() {
    if [ -n "$BRING_IMAGE" ]; then bring_image "$1"; fi
    if [ -n "$BRING_CODE" ]; then bring_code "$1"; fi
    if [ -n "$BRING_CONFIG" ]; then
        bring_configuration "$1" db_config.json "$DB_CONFIG"
        bring_configuration "$1" s3_config.json "$S3_CONFIG"
    fi
}

bring_image() {
    local host="$1" code=0 there
    there="$(ask_host "$host" there_image_id "$IMAGE" </dev/null)" || code=$?
    if [ "$code" -ne 0 ]; then fail "$host" "$(last_words "$code")"; fi
    if [ "${there##*$'\n'}" = "$IMAGE_ID" ]; then
        say "$host" "image $IMAGE: already there"
    elif [ -n "$DRY_RUN" ]; then
        say "$host" "would run: docker save $IMAGE | gzip -1 | ssh $host 'gunzip | docker load'"
    else
        say "$host" "image $IMAGE: copying ..."
        steps_of "$host" send_image "$host"
        say "$host" "image $IMAGE: there"
    fi
}

# By its name, not by its id: so it gets the name there.
send_image() {
    docker save -- "$IMAGE" 2>"$SCRATCH/sender" | gzip -1 | ask_host "$1" there_load_image "$IMAGE" "$IMAGE_ID"
}

there_image_id() {
    there_find_docker
    there_identity "$1"
}

there_load_image() {
    there_find_docker
    gunzip | "${DOCKER[@]}" load >/dev/null
    [ "$(there_image_id "$1")" = "$2" ] || there_stop "the image came, but it is not the same as here"
}

bring_code() {
    if [ -n "$DRY_RUN" ]; then
        say "$1" "would run: tar -cz extractors operations download_with_boto3.py | ssh $1 tar -xz (in $DIRECTORY)"
    else
        steps_of "$1" send_code "$1"
    fi
}

send_code() {
    tar -C "$PROJECT_ROOT" -cz --mode=u=rwX,go=rX --exclude=__pycache__ extractors operations download_with_boto3.py \
        2>"$SCRATCH/sender" | ask_host "$1" there_receive "$DIRECTORY" extractors operations download_with_boto3.py
}

bring_configuration() {
    if [ -n "$DRY_RUN" ]; then
        say "$1" "would run: tar -cz $3 | ssh $1 tar -xz (as $2 in $DIRECTORY, mode 0600)"
    else
        steps_of "$1" send_configuration "$@"
    fi
}

# send_configuration HOST NAME FILE
send_configuration() {
    tar -C "$(dirname -- "$3")" -czh --mode=0600 --transform="s,.*,$2," -- "./$(basename -- "$3")" \
        2>"$SCRATCH/sender" | ask_host "$1" there_receive "$DIRECTORY" "$2"
}

# there_receive DIRECTORY NAME...: unpack what comes beside its place, and only when it is complete put it there. That
# it is complete gunzip knows: a tar that ends early may pass for a whole one.
there_receive() {
    local name
    there_find_folder "$1"
    shift
    mkdir -p -- "$FOLDER"
    INCOMING="$(mktemp -d -- "$FOLDER/.incoming.XXXXXX")"
    trap 'rm -rf -- "$INCOMING"' EXIT
    tar -xzp --no-same-owner -C "$INCOMING" -f -
    for name in "$@"; do
        # A directory cannot be renamed onto another one.
        if [ -d "$FOLDER/$name" ]; then mv -T -- "$FOLDER/$name" "$INCOMING/.former-$name"; fi
        mv -fT -- "$INCOMING/$name" "$FOLDER/$name"
        there_say "$FOLDER/$name: copied"
    done
}

read_options "$@"
if [ -z "$BRING_CODE$BRING_CONFIG" ]; then BRING_IMAGE=yes; fi
if [ -n "$BRING_IMAGE" ]; then
    needs_docker
    DOCKER=(docker)
    IMAGE_ID="$(there_identity "$IMAGE")"
    [ -n "$IMAGE_ID" ] || stop "there is no image $IMAGE on this machine: build it first"
fi
if [ -n "$BRING_CONFIG" ]; then
    for file in "$DB_CONFIG" "$S3_CONFIG"; do
        if [ ! -r "$file" ] || [ -d "$file" ]; then stop "$file cannot be read"; fi
    done
fi
each_host bring
finish
