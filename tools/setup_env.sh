#!/usr/bin/env bash
# Makes .venv with everything the project needs, at the versions of constraints.txt. It needs only
# Python 3.12 or 3.13 and a package index; the system's Python is read, never written to.
#
#   PYTHON=/path/to/python3.12   use this interpreter
#   EXTRAS=test,demo,plots,docs  extras of setup.py to install
#   NO_UV=1                      install with pip only
#
# A finished set-up leaves a stamp, and a second call returns at once; an interrupted one leaves a
# mark that makes the next call begin the environment anew.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${root}/.venv
uv_home=${root}/.uv
uv_version=0.13.9
stamp=${venv}/.setup_stamp
unfinished=${venv}/.setup_unfinished
extras=${EXTRAS:-test,demo,plots,docs}

# An interpreter out of the environment that is to be made would vanish with it.
PATH=:${PATH}:
while [[ ${PATH} == *":${venv}/bin:"* ]]; do
    PATH=${PATH/":${venv}/bin:"/:}
done
PATH=${PATH#:}
PATH=${PATH%:}

log() { echo "setup: $*" >&2; }

# Everything that the environment depends on; the path, because scripts in .venv carry it.
fingerprint() {
    local file
    echo "${root} ${extras} ${PYTHON:-} ${NO_UV:-}"
    for file in setup.py pyproject.toml constraints.txt tools/setup_env.sh; do
        cksum < "${root}/${file}"
    done
}

is_usable() {
    "$1" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 13))' \
        > /dev/null 2>&1
}

# Prints the first usable interpreter. pyenv's shims are on PATH even for versions that are not
# active, and fail when called; hence its versions folder as a last resort.
find_python() {
    local candidate pyenv=${PYENV_ROOT:-${HOME:-/root}/.pyenv}
    if [ -n "${PYTHON:-}" ]; then
        is_usable "${PYTHON}" && { echo "${PYTHON}"; return 0; }
        log "PYTHON=${PYTHON} is not a working Python 3.12 or 3.13"
        return 1
    fi
    for candidate in python3.12 python3.13 python3 python; do
        if is_usable "${candidate}"; then
            command -v "${candidate}"
            return 0
        fi
    done
    for candidate in "${pyenv}"/versions/3.12*/bin/python3 "${pyenv}"/versions/3.13*/bin/python3; do
        if is_usable "${candidate}"; then
            echo "${candidate}"
            return 0
        fi
    done
    log "no Python 3.12 or 3.13 found: looked for python3.12, python3.13, python3 and python on"
    log "PATH, and in ${pyenv}/versions. Install one (Debian: python3.12 python3.12-venv; pyenv:"
    log "'pyenv install 3.12'), or name one with PYTHON=/path/to/python3.12."
    return 1
}

# Puts uv into the project's own folder; fails quietly where that cannot be done.
bootstrap_uv() {
    local python=$1
    [ -z "${NO_UV:-}" ] || return 1
    "${uv_home}/bin/uv" --version > /dev/null 2>&1 && return 0
    log "fetching uv into ${uv_home}"
    rm -rf "${uv_home}"
    if "${python}" -m venv "${uv_home}" > /dev/null 2>&1 \
        && "${uv_home}/bin/python" -m pip install -q "uv==${uv_version}"; then
        return 0
    fi
    rm -rf "${uv_home}"
    log "uv cannot be had, going on with pip (slower)"
    return 1
}

install_with_uv() {
    local python=$1
    # What pip was told of a mirror holds for uv too; torch's packages are large.
    if [ -n "${PIP_INDEX_URL:-}" ]; then
        export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL}}
    fi
    export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300}
    # As pip: the system's certificates, for networks whose proxy signs with one of its own.
    export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
    if ! is_usable "${venv}/bin/python"; then
        "${uv_home}/bin/uv" venv -q --clear --python "${python}" "${venv}"
    fi
    touch "${unfinished}"
    local quiet=()
    [ -t 2 ] || quiet=(--quiet)  # progress bars on a terminal, no 200 lines in a log
    "${uv_home}/bin/uv" pip install "${quiet[@]}" --python "${venv}/bin/python" \
        -c "${root}/constraints.txt" -e "${root}[${extras}]" pip  # which uv venv leaves out
}

install_with_pip() {
    local python=$1
    if ! "${venv}/bin/python" -m pip --version > /dev/null 2>&1; then
        "${python}" -m venv --clear "${venv}" || {
            log "${python} -m venv failed; on Debian and Ubuntu it needs the package python3-venv"
            return 1
        }
    fi
    touch "${unfinished}"
    "${venv}/bin/python" -m pip install -c "${root}/constraints.txt" -e "${root}[${extras}]"
}

main() {
    local wanted python
    wanted=$(fingerprint)
    if [ -f "${stamp}" ] && [ "$(cat "${stamp}")" = "${wanted}" ] \
        && is_usable "${venv}/bin/python"; then
        return 0
    fi
    # Of two calls at once the second waits, and then finds the work done.
    if [ -z "${SETUP_LOCKED:-}" ] && command -v flock > /dev/null; then
        SETUP_LOCKED=1 exec flock "${root}/setup.py" "${BASH_SOURCE[0]}" "$@"
    fi
    python=$(find_python)
    log "using ${python} ($("${python}" -V))"
    rm -f "${stamp}"
    if [ -e "${unfinished}" ]; then
        log "the last set-up was interrupted, beginning .venv anew"
        rm -rf "${venv}"
    fi
    log "installing into ${venv}; the first time on a machine this downloads some 3 GB"
    if bootstrap_uv "${python}"; then
        install_with_uv "${python}"
    else
        install_with_pip "${python}"
    fi
    echo "${wanted}" > "${stamp}.partial"
    mv "${stamp}.partial" "${stamp}"
    rm -f "${unfinished}"
    log "compiling the beam search, once (20 s)"
    "${venv}/bin/python" -m espnet_plugin.search.beam.compile_ahead > /dev/null \
        || log "the beam search is not compiled: recipes decode more slowly"
    log "ready: ${venv}"
}

main "$@"
