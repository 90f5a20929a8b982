#!/usr/bin/env bash
# The campaign's dress rehearsal, without a GPU: an environment with a bare GPU machine's package
# versions and no ESPnet, the carried folder installed as it will be there, all sections at tiny size.
#
#   benchmarks/gpu/rehearse.sh [AN4_ARCHIVE]
#
#   REHEARSAL_VENV=DIR   where the environment is made (default: a folder below TMPDIR; kept)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

venv=${REHEARSAL_VENV:-${TMPDIR:-/tmp}/espnet_progressive_rehearsal}
uv=.uv/bin/uv
# What KINDS of machines we know have installed, as far as ESPnet or we import it.
packages=(
    torch==2.11.0 torchaudio==2.11.0 triton==3.6.0 numpy==2.5.2 sentencepiece==0.2.2 numba scipy
    attrs click cloudpickle cython einops filelock huggingface-hub hypothesis jinja2 joblib
    lazy-loader matplotlib ninja opt-einsum packaging pandas pip protobuf psutil pyarrow
    python-dateutil pyyaml regex requests scikit-learn setuptools tabulate tensorboard
    msgpack threadpoolctl tqdm transformers==5.17.0 typing-extensions xxhash
)

make setup
benchmarks/gpu/carry.sh "$@"
if ! [ -e "${venv}/.complete" ]; then
    python=$(.venv/bin/python -c 'import sys; print(sys._base_executable)')
    if [ -x "${uv}" ]; then
        "${uv}" venv -q --clear --python "${python}" "${venv}"
        UV_SYSTEM_CERTS=true "${uv}" pip install -q --python "${venv}/bin/python" "${packages[@]}"
    else
        "${python}" -m venv --clear "${venv}"
        "${venv}/bin/python" -m pip install -q "${packages[@]}"
    fi
    touch "${venv}/.complete"
fi
site=$(mktemp -d) out=$(mktemp -d) copy=$(mktemp -d)
trap 'rm -rf "${site}" "${copy}"' EXIT
# Only what travels: the tracked files and the carried folder, no environment.
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "${copy}" 2> /dev/null || true
cp -r .gpu_carry "${copy}/"
cd "${copy}"
export PATH=${venv}/bin:${PATH} PYTHONPATH=
"${venv}/bin/python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "${site}" .gpu_carry/wheels/*.whl
export PYTHONPATH=${site}
"${venv}/bin/python" benchmarks/gpu/run.py --out "${out}" --device cpu --tiny --budget 780
echo "rehearsal: results in ${out}"
