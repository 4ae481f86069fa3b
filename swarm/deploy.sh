#!/usr/bin/env bash
# Deploy a stack; after a change of configuration or keys, deploy it anew while it runs.
#
#     swarm/deploy.sh [--dry-run] [--untried] -c FILE [-c FILE]... STACK
#
# To be run on the manager. It is `docker stack deploy` with secrets that have a new name whenever their file has changed:
# Docker changes no secret that is in use. Workers whose secrets have changed are stopped and started, all at once: they
# give their scenes back, and no scene is lost. The database goes on. Secrets that nobody uses any more are removed.
#
# While the stack runs, changed files are tried out first: a container in its network makes the workers' --check with
# them, and with a changed ingest_config.json an `ingest` of nothing. If that fails, nothing is changed, and workers go on
# with the old ones. While one deployment of a stack file is at work, another one ends at once, with 1.
#
#     -c FILE    a stack file, as often as needed; db_config.json and s3_config.json lie beside the first one, and with
#                docker_compose_ingest.yml ingest_config.json as well
#     STACK      the stack's name
#     --untried  do not try changed files out, for instance while the store cannot be reached
#     --dry-run  change nothing, print the command that would
#
# Variables of the shell (docs/operating.md) hold for one deployment, and so do the files: give the same ones again.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

STACK=""
FILES=()
OPTIONS=()
FOLDER=""
UNTRIED=""
CHOSEN=()
CHANGED=()

read_command_line() {
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
            --untried)
                UNTRIED=yes
                shift
                ;;
            -c)
                needs_value "$@"
                if [ ! -r "$2" ] || [ -d "$2" ]; then wrong_usage "-c: $2 cannot be read"; fi
                if [ -z "$FOLDER" ]; then FOLDER="$(cd -- "$(dirname -- "$2")" && pwd)"; fi
                FILES+=("$2")
                shift 2
                ;;
            -*) wrong_usage "there is no option $1" ;;
            *)
                # With the name of a secret behind it, 64 characters at most.
                [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]{0,29}$ ]] || wrong_usage "'$1' is no name of a stack"
                if [ -n "$STACK" ]; then wrong_usage "one stack at a time, not $STACK and $1"; fi
                STACK="$1"
                shift
                ;;
        esac
    done
    if [ ${#FILES[@]} -eq 0 ]; then wrong_usage "no stack file: name it with -c"; fi
    if [ -z "$STACK" ]; then wrong_usage "no stack: give its name"; fi
}

# choose NAME KEY: have the secret of this name be that of the file NAME.json as it is now. The version is the file's time:
# a checksum would help whoever guesses passwords.
choose() {
    local file="$FOLDER/$1.json" variable="${1^^}_SECRET" version known=new
    readable "$file" "$2"
    version="$(date -u -r "$file" +%Y%m%dT%H%M%S%3N)"
    export "$variable=${STACK}_$1_$version"
    CHOSEN+=("${!variable}")
    if docker secret inspect "${!variable}" >/dev/null 2>&1 </dev/null; then known="as it was"; fi
    if [ "$known" = new ]; then CHANGED+=("$1"); fi
    say "$STACK" "$1.json: secret ${!variable}, $known"
}

# readable FILE KEY: stop if no worker could read it. What else is wrong, workers say.
readable() {
    python3 - "$1" "$2" 2>"$SCRATCH/errors" <<'END_OF_PROGRAM' || stop "$1: $(last_words $?)"
import json, sys

try:
    with open(sys.argv[1], encoding="utf-8-sig") as file:
        content = json.load(file)
except (OSError, ValueError) as error:
    sys.exit(f"cannot be read: {error.strerror if isinstance(error, OSError) else error}")
if not isinstance(content, dict) or sys.argv[2] not in content:
    sys.exit(f'has no "{sys.argv[2]}"')
END_OF_PROGRAM
}

# alone: stop if another deployment is at work: both would choose secrets, and remove each other's.
alone() {
    command -v flock >/dev/null 2>&1 || stop "there is no flock on this machine (package util-linux)"
    local code=0
    exec 9<"${FILES[0]}"
    flock -n -E 75 9 2>"$SCRATCH/errors" || code=$?
    case "$code" in
        0) ;;
        75) stop "another deploy.sh is at work with ${FILES[0]}; wait for it" ;;
        # Network disks may refuse that for files that are only read.
        *) say "$STACK" "see that nobody else deploys it: no lock on ${FILES[0]} ($(last_words "$code"))" >&2 ;;
    esac
}

# try_out: where workers run, see whether they, and ingest, could work with what has changed.
try_out() {
    local words image command
    words="$(docker service inspect \
        -f '{{.Spec.TaskTemplate.ContainerSpec.Image}} {{join .Spec.TaskTemplate.ContainerSpec.Args " "}}' \
        "${STACK}_vector_extractor" 2>/dev/null </dev/null)" || return 0 # not deployed yet
    read -r -a command <<<"$words"
    image="${EXTRACTION_IMAGE:-${command[0]}}"
    if [[ " ${CHANGED[*]} " == *" db_config "* || " ${CHANGED[*]} " == *" s3_config "* ]]; then
        try workers db_config "$image" "${command[@]:1}" --check
    fi
    if [[ " ${CHANGED[*]} " == *" ingest_config "* ]]; then
        try ingest ingest_config "$image" python -m operations ingest --from file --file /tmp/nothing.csv --dry-run
    fi
}

# try WHO CONFIG IMAGE COMMAND...: whether a command succeeds, with CONFIG.json for the database. The files go in by
# standard input: whoever may read them here, the container's user may not.
try() {
    local who="$1" config="$2" image="$3" code=0 line confined
    shift 3
    say "$STACK" "trying out what has changed: $*"
    confined=(--cap-drop ALL --security-opt no-new-privileges --read-only --tmpfs /tmp --pids-limit 512)
    # shellcheck disable=SC2016
    tar -C "$FOLDER" -ch "$config.json" s3_config.json 2>"$SCRATCH/sender" \
        | docker container run -i --rm "${confined[@]}" --network "${STACK}_overnet" \
            -e "DB_CONFIG=/tmp/$config.json" -e S3_CONFIG=/tmp/s3_config.json "$image" \
            sh -c 'tar -x -C /tmp && echo name,start,footprint >/tmp/nothing.csv && exec "$@"' sh "$@" \
            >"$SCRATCH/tried" 2>"$SCRATCH/errors" || code=$?
    if [ "$code" -eq 0 ]; then return; fi
    grep -s '^FAILED ' "$SCRATCH/tried" >"$SCRATCH/failed" || last_words "$code" >"$SCRATCH/failed"
    while IFS= read -r line || [ -n "$line" ]; do say "$STACK" "$line" >&2; done <"$SCRATCH/failed"
    stop "$who could not work with this; nothing has been changed, and $STACK goes on as it was last deployed" \
        "(--untried deploys all the same)"
}

# What a database was made with stays its secret, whatever the file says now. Docker reads the file all the same: of one
# that is empty, it takes nothing.
keep_the_database() {
    local kept
    kept="$(docker service inspect \
        -f '{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{.SecretName}}{{end}}' "${STACK}_pg_spat" \
        2>/dev/null </dev/null)" || kept=""
    if [ -n "$kept" ]; then
        export PG_SPAT_SECRET="$kept" PG_SPAT_CONFIG=/dev/null
    else
        export PG_SPAT_SECRET="${DB_CONFIG_SECRET/_db_config_/_pg_spat_}"
    fi
}

# Secrets of earlier deployments. What is still in use, Docker does not remove.
forget() {
    local secret name
    docker secret ls --filter "label=com.docker.stack.namespace=$STACK" --format '{{.Name}}' >"$SCRATCH/secrets"
    while read -r secret; do
        for name in db_config s3_config ingest_config pg_spat; do
            if [[ $secret != "${STACK}_$name" && $secret != "${STACK}_${name}_"* ]]; then continue; fi
            if [[ " ${CHOSEN[*]} $PG_SPAT_SECRET " == *" $secret "* ]]; then continue; fi
            if docker secret rm "$secret" >/dev/null 2>&1 </dev/null; then say "$STACK" "secret $secret: removed"; fi
        done
    done <"$SCRATCH/secrets"
}

read_command_line "$@"
needs_manager
if [ -z "$DRY_RUN" ]; then alone; fi
choose db_config database
choose s3_config s3
if grep -qs '^  ingest_config:' -- "${FILES[@]}"; then choose ingest_config database; fi
keep_the_database
if [ -n "$DRY_RUN" ]; then
    for variable in DB_CONFIG_SECRET S3_CONFIG_SECRET INGEST_CONFIG_SECRET PG_SPAT_SECRET PG_SPAT_CONFIG; do
        if [ -n "${!variable:-}" ]; then say "$STACK" "would set: $variable=${!variable}"; fi
    done
    say "$STACK" "would run here: docker stack deploy ${FILES[*]/#/-c } $STACK"
    exit 0
fi
if [ -z "$UNTRIED" ]; then try_out; fi
for file in "${FILES[@]}"; do OPTIONS+=(-c "$file"); done
docker stack deploy "${OPTIONS[@]}" "$STACK"
forget
