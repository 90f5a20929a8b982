# shellcheck shell=bash
# The folder whose python3 comes first; `espnet-progressive clone` writes that of its own environment here.
environment=
# A recipe in the source tree: the package there, and the tree's own environment, where there is one.
repository=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../.." && pwd)
if [ -f "${repository}/espnet_plugin/__init__.py" ]; then
    PYTHONPATH=${repository}${PYTHONPATH:+:${PYTHONPATH}}
    environment=${environment:-${repository}/.venv/bin}
fi
if [ -x "${environment}/python3" ]; then
    PATH=${environment}:${PATH}
fi
# Python reads and writes UTF-8, whatever the locale.
PYTHONUTF8=1
export PATH PYTHONPATH PYTHONUTF8
unset repository environment
