#!/usr/bin/env bash
# Everything that only a GPU can show, in one command: benchmarks/gpu.sh [FOLDER FOR THE RESULTS]
#
# The machine's own Python with its own torch and CuPy is used. What it lacks is taken from WHEELS (a folder,
# default ./wheels) without a network, or from the network where there is one; tests whose packages are in
# neither are left out, and named.
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-${OUT:-benchmarks/results}}
WHEELS=${WHEELS:-wheels}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT"
export GPENVIDEO_REQUIRE_CUDA=1 PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1

section() { printf '\n## %s\n\n' "$1" | tee -a "$OUT/gpu.md"; }
: >"$OUT/gpu.md"
section "The machine"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv | tee -a "$OUT/gpu.md"

section "What it has, what it was given, what it lacks"
for name in torch:torch cupy:cupy-cuda13x av:av cv2:opencv-python-headless scipy:scipy safetensors:safetensors \
    facexlib:facexlib torchvision:torchvision PIL:pillow requests:requests rich:rich typer:typer \
    platformdirs:platformdirs matplotlib:matplotlib skimage:scikit-image pytest:pytest hypothesis:hypothesis; do
    module=${name%%:*} package=${name##*:}
    if "$PYTHON" -c "import importlib.util,sys; sys.exit(importlib.util.find_spec('$module') is None)"; then
        echo "- $module: has" | tee -a "$OUT/gpu.md"
    elif "$PYTHON" -m pip install --quiet --no-deps --no-index --find-links "$WHEELS" "$package" 2>/dev/null ||
        "$PYTHON" -m pip install --quiet --no-deps --retries 0 --timeout 5 "$package" 2>/dev/null; then
        echo "- $module: given" | tee -a "$OUT/gpu.md"
    else
        echo "- $module: LACKS, tests that need it are left out" | tee -a "$OUT/gpu.md"
    fi
done
has() { "$PYTHON" -c "import importlib.util,sys; sys.exit(importlib.util.find_spec('$1') is None)"; }

section "Tests marked cuda"
left_out=() run=()
for file in tests/test_*.py; do
    grep -q "mark.cuda" "$file" || continue
    "$PYTHON" -m pytest --collect-only -q -m cuda "$file" >/dev/null 2>&1 || { left_out+=("$file"); continue; }
    run+=("$file")
done
echo "left out, for want of packages: ${left_out[*]:-none}" | tee -a "$OUT/gpu.md"
"$PYTHON" -m pytest -q -m cuda -p no:cacheprovider "${run[@]}" 2>&1 | tail -40 | tee -a "$OUT/gpu.md"
failed=${PIPESTATUS[0]}

section "Memory errors (compute-sanitizer)"
if command -v compute-sanitizer >/dev/null; then
    compute-sanitizer --error-exitcode 9 "$PYTHON" -m pytest -q -m cuda -p no:cacheprovider \
        tests/test_cuda_sources.py tests/test_device.py 2>&1 | tail -5 | tee -a "$OUT/gpu.md"
else
    echo "compute-sanitizer is not on this machine" | tee -a "$OUT/gpu.md"
fi

benchmark() { # a title, a module and its arguments
    section "$1"
    shift
    timeout 240 "$PYTHON" -m "$@" 2>&1 | grep -E '^\||^$|rror' | tee -a "$OUT/gpu.md"
}
benchmark "Kernels" benchmarks.kernels
benchmark "The network" benchmarks.waterfall --device cuda --sizes 256 512 2048
has av && benchmark "Whole videos" benchmarks.pipeline --device cuda --seconds 25
cp -f benchmarks/results/*_cuda.json "$OUT/" 2>/dev/null
exit "$failed"
