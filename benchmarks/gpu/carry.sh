#!/usr/bin/env bash
# Gathers what a bare GPU machine (torch, Triton, numba, no ESPnet, no network) lacks, in .gpu_carry:
# wheels for its Python 3.12 on x86-64, warp-rnnt's source package, and AN4's features.
#
#   benchmarks/gpu/carry.sh [AN4_ARCHIVE]
#
# Needs a package index. What is there already is not fetched again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=.venv/bin/python
carry=.gpu_carry
limit_mib=60
an4=${1:-}
mkdir -p "${carry}/wheels" "${carry}/sources"

# ESPnet without its requirements, and of these what training, decoding and scoring import.
binary=(
    espnet cffi configargparse decorator editdistance espnet-model-zoo humanfriendly hydra-core
    librosa omegaconf omniio platformdirs pooch pycparser pytorch-ranger soundfile soxr
    torch-complex torch-optimizer typeguard
)
# Published as source only, pure Python: built here.
built=(antlr4-python3-runtime)
platforms=()
for glibc in 2_34 2_28 2_27 2_24 2_17; do
    platforms+=(--platform "manylinux_${glibc}_x86_64")
done

pinned() {  # the version of a package in this project's environment
    "${python}" -c 'import sys, importlib.metadata as m; print(f"{sys.argv[1]}=={m.version(sys.argv[1])}")' "$1"
}

has() {  # has NAME FOLDER: a file of this package is there
    compgen -G "$2/${1//-/_}-*" > /dev/null || compgen -G "$2/$1-*" > /dev/null
}

"${python}" -m pip --version > /dev/null 2>&1 || "${python}" -m ensurepip > /dev/null
for name in "${binary[@]}"; do
    has "${name}" "${carry}/wheels" || "${python}" -m pip download -q --no-deps --only-binary=:all: \
        --python-version 3.12 --implementation cp --platform manylinux2014_x86_64 \
        --platform manylinux1_x86_64 "${platforms[@]}" -d "${carry}/wheels" "$(pinned "${name}")"
done
for name in "${built[@]}"; do
    has "${name}" "${carry}/wheels" || "${python}" -m pip wheel -q --no-deps -w "${carry}/wheels" "$(pinned "${name}")"
done
if ! has warp-rnnt "${carry}/sources"; then
    # pip asks the package for its metadata, and its set-up refuses without a GPU: a torch of three
    # names tells it that there is one. Nothing is compiled here.
    stub=$(mktemp -d)
    mkdir -p "${stub}/torch/utils"
    printf 'class cuda:\n    is_available = staticmethod(lambda: True)\n' > "${stub}/torch/__init__.py"
    printf 'from setuptools import Extension as CUDAExtension\nfrom setuptools.command.build_ext import build_ext as BuildExtension\n' \
        > "${stub}/torch/utils/cpp_extension.py"
    touch "${stub}/torch/utils/__init__.py"
    PYTHONPATH=${stub} "${python}" -m pip download -q --no-deps --no-build-isolation \
        --no-binary=:all: -d "${carry}/sources" warp-rnnt \
        || echo "carry: warp-rnnt's source package cannot be had" >&2
    rm -rf "${stub}"
fi
if [ -n "${an4}" ]; then
    cp "${an4}" "${carry}/an4_mfcc.tar.gz"
fi
[ -e "${carry}/an4_mfcc.tar.gz" ] || echo "carry: no AN4 archive: section f will be left out" >&2

tree=$(git ls-files -z --cached --others --exclude-standard | du -ck --files0-from=- | tail -n 1 | cut -f 1)
all=$((($(du -sk "${carry}" | cut -f 1) + tree) / 1024))
echo "${carry}: $(find "${carry}" -type f | wc -l) files; with the tree ${all} MiB of ${limit_mib}"
[ "${all}" -lt "${limit_mib}" ]
