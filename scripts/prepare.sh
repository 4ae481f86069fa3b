# What the demonstration and the tests stand on: PostgreSQL with PostGIS, and the project's own .venv.
#
# To be sourced by bash; then:   prepare_postgis; prepare_venv EXTRAS     (EXTRAS: demo, or test, which includes demo)
# Afterwards "$VENV_PYTHON" is the interpreter to use. What is there already is left alone; a second call takes no time.
# PYTHON=/path/to/python3.x chooses the interpreter that .venv is made from.
# shellcheck shell=bash

PROJECT_ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$PROJECT_ROOT/.venv"
VENV_PYTHON="$VENV/bin/python"
NO_CLUSTER=/etc/postgresql-common/createcluster.d/zz-parcel-extraction.conf
START_POLICY=/usr/sbin/policy-rc.d

# Install with apt-get what is absent: PostgreSQL with PostGIS, python3-venv. No cluster is made or started.
prepare_postgis() {
    local python packages
    python="$(_find_python)" || exit 1
    packages="$(_missing_packages "$python")"
    if [ -n "$packages" ]; then
        # Names of packages hold no spaces.
        # shellcheck disable=SC2086
        _install $packages
    fi
}

# Install with apt-get what tests use (the fault tests, mostly), as far as that is possible: those that miss something
# are skipped.
prepare_test_tools() {
    _install_if_possible ip:iproute2 iptables:iptables pgbouncer:pgbouncer strace:strace faketime:faketime \
        shellcheck:shellcheck radosgw:radosgw ceph-mon:ceph-mon ceph-osd:ceph-osd ogr2ogr:gdal-bin openssl:openssl \
        chromium:chromium
}

# The same for the tests on a swarm, which need root: a Docker engine, which is not started, and what makes machines for
# it.
prepare_swarm_tools() {
    if [ "$(id -u)" -ne 0 ]; then
        _say "prepare: not root: tests on a swarm will be skipped"
        return
    fi
    _install_if_possible dockerd:docker.io docker:docker.io debootstrap:debootstrap sshd:openssh-server \
        ssh:openssh-client ip:iproute2 iptables:iptables
}

# A STAC API for the tests, in .stac-server, an environment of its own; without it, its tests are skipped.
prepare_stac_server() {
    local python server="$PROJECT_ROOT/.stac-server" wanted="$PROJECT_ROOT/tests/support/stac_server.txt"
    if [ -x "$server/bin/pypgstac" ] && "$server/bin/python" -c '' 2>/dev/null && [ ! "$wanted" -nt "$server/bin/pypgstac" ]; then
        return
    fi
    python="$(_find_python)" || exit 1
    _say "prepare: installing a STAC server for the tests into .stac-server (pip) ..."
    if ! { "$python" -m venv --clear "$server" \
        && "$server/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted"; } >/dev/null 2>&1; then
        rm -rf "$server"
        _say "prepare: without a STAC server some tests will be skipped"
    fi
}

# _install_if_possible PROGRAM:PACKAGE...
_install_if_possible() {
    local pair missing=""
    for pair in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
    done
    if [ -z "$missing" ]; then
        return
    elif ! _is_debian || { [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; }; then
        _say "prepare: without$missing some tests will be skipped"
    else
        # shellcheck disable=SC2086
        _install $missing
    fi
}

# prepare_venv EXTRAS: .venv with the project (editable) and these extras, made anew when pyproject.toml has changed.
prepare_venv() {
    local extras="$1" python log
    if _is_stamped "$extras" || { [ "$extras" = demo ] && _is_stamped test; }; then
        return
    fi
    log="$(mktemp)"
    if _is_moved || ! "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; then
        python="$(_find_python)" || exit 1
        [ -n "$python" ] || _stop "there is no python3"
        _run_logged "$log" "$python" -m venv --clear "$VENV"
    fi
    _say "prepare: installing Python packages into .venv (pip, extra \"$extras\") ..."
    (
        cd -- "$PROJECT_ROOT" || exit 1
        _run_logged "$log" "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check -e ".[$extras]"
    ) || exit 1
    rm -f "$log"
    printf '%s\n' "$PROJECT_ROOT" >"$VENV/stamp-$extras"
}

_say() { printf '%s\n' "$*" >&2; }

_stop() {
    _say "prepare: $*"
    exit 1
}

_is_debian() { command -v apt-get >/dev/null 2>&1 && [ -e /etc/debian_version ]; }

# The first interpreter that is new enough; nothing if there is no python3 at all, which apt-get can fix.
_find_python() {
    local candidate found=""
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.14 python3.13 python3.12 python3.11; fi
    for candidate in "$@"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        found="${found:-$("$candidate" -c 'import platform; print(platform.python_version())' || echo unusable)}"
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    if [ -n "${PYTHON:-}" ] && [ -z "$found" ]; then
        _stop "PYTHON=$PYTHON is not there"
    elif [ -n "$found" ]; then
        _stop "python3 is $found, but 3.11 or newer is needed: use Debian 12, Ubuntu 24.04 or newer, or install" \
            "another Python beside it and say PYTHON=/path/to/python3.11"
    fi
}

_has_postgis() {
    local initdb
    for initdb in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$initdb" ] || continue
        [ -e "/usr/share/postgresql/$(_postgresql_version "$initdb")/extension/postgis.control" ] && return 0
    done
    # Elsewhere than on Debian.
    command -v pg_config >/dev/null 2>&1 && [ -x "$(pg_config --bindir)/initdb" ] \
        && [ -e "$(pg_config --sharedir)/extension/postgis.control" ]
}

_postgresql_version() {
    local folder="${1%/bin/initdb}"
    printf '%s' "${folder##*/}"
}

# What is missing, as names of packages on one line; "postgis" stands for the version that is still to be chosen.
_missing_packages() {
    local python="$1" missing="" version
    _has_postgis || missing="postgis"
    if [ -z "$python" ]; then
        missing="$missing python3 python3-venv"
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        missing="$missing python$version-venv"
    fi
    printf '%s' "${missing# }"
}

_newest_server() {
    local initdb
    for initdb in /usr/lib/postgresql/*/bin/initdb; do
        if [ -x "$initdb" ]; then _postgresql_version "$initdb"; echo; fi
    done | sort -n | tail -n 1
}

_install() {
    local as_root=() wanted=() name server version log
    if ! _is_debian; then
        _stop "this is neither Debian nor Ubuntu, so please install yourself: PostgreSQL (server) with PostGIS 3," \
            "Python 3.11 or newer with venv"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || _stop "missing: $*; run this as root, or install sudo"
        as_root=(sudo)
    fi
    log="$(mktemp)"
    # A broken list of some other source is no reason to stop: what is really missing shows below.
    "${as_root[@]}" apt-get -q update >"$log" 2>&1 </dev/null || true
    server="$(_newest_server)"
    for name in "$@"; do
        if [ "$name" = postgis ]; then
            # A server that is there gets its PostGIS; otherwise the newest version that the distribution has.
            version="${server:-$(_newest_postgis)}"
            [ -n "$version" ] || _stop "this distribution has no package postgresql-N-postgis-3"
            wanted+=("postgresql-$version" "postgresql-$version-postgis-3")
        else
            wanted+=("$name")
        fi
    done
    _say "prepare: installing ${wanted[*]} (apt-get) ..."
    (
        # Only the programs are wanted, no services: neither now nor after the next start of the machine.
        made=()
        trap '[ ${#made[@]} -eq 0 ] || "${as_root[@]}" rm -f "${made[@]}"' EXIT
        if [ -z "$server" ]; then
            # Without this, Debian makes and starts a cluster "main" on port 5432.
            made+=("$NO_CLUSTER")
            "${as_root[@]}" mkdir -p "${NO_CLUSTER%/*}"
            echo 'create_main_cluster = false' | "${as_root[@]}" tee "$NO_CLUSTER" >/dev/null
        fi
        if [ ! -e "$START_POLICY" ]; then
            made+=("$START_POLICY")
            printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$START_POLICY" >/dev/null
            "${as_root[@]}" chmod 755 "$START_POLICY"
        fi
        _run_logged "$log" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${wanted[@]}"
        for name in "${wanted[@]}"; do
            if command -v systemctl >/dev/null 2>&1; then
                case "$name" in
                    docker.io) _disable docker.service docker.socket containerd.service ;;
                    openssh-server) _disable ssh.service ;;
                    pgbouncer) _disable pgbouncer.service ;;
                    radosgw | ceph-*) _disable ceph.target ;;
                esac
            fi
        done
    ) || exit 1
    rm -f "$log"
}

# So that they do not start with the machine; as_root is the caller's.
_disable() { "${as_root[@]}" systemctl disable "$@" >/dev/null 2>&1 || true; }

_newest_postgis() {
    apt-cache search --names-only '^postgresql-[0-9]+-postgis-3$' | cut -d- -f2 | sort -n | tail -n 1
}

# Quiet when it works; when it does not, what it said.
_run_logged() {
    local log="$1"
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        _stop "failed: $*"
    fi
}

# A virtual environment works only where it was made: the stamp holds that path. None: somebody made it here by hand.
_is_moved() {
    local stamp
    for stamp in "$VENV"/stamp-*; do
        if [ -e "$stamp" ] && [ "$(cat -- "$stamp")" != "$PROJECT_ROOT" ]; then return 0; fi
    done
    return 1
}

_is_stamped() {
    local stamp="$VENV/stamp-$1"
    [ -x "$VENV_PYTHON" ] && "$VENV_PYTHON" -c '' 2>/dev/null && [ -e "$stamp" ] \
        && [ ! "$PROJECT_ROOT/pyproject.toml" -nt "$stamp" ] && [ "$(cat -- "$stamp")" = "$PROJECT_ROOT" ]
}
