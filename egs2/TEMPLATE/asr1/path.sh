# shellcheck shell=bash
# The repository's own environment, where there is one, and the package from the source tree.
repository=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../.." && pwd)
if [ -x "${repository}/.venv/bin/python3" ]; then
    PATH=${repository}/.venv/bin:${PATH}
fi
PYTHONPATH=${repository}${PYTHONPATH:+:${PYTHONPATH}}
# Python reads and writes UTF-8, whatever the locale.
PYTHONUTF8=1
export PATH PYTHONPATH PYTHONUTF8
unset repository
