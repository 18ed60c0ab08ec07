#!/usr/bin/env bash
# A machine with a GPU, lent for some minutes: check the step on it, measure it, compute the next cells of the study.
#
#   benchmarks/occasion.sh STORE OUT MINUTES [NAME=VALUE ...]
#
# STORE has prepared images (jobs.prepare_data) on a fast disk or in memory; OUT takes what is to be kept: check.txt,
# gpu-*.jsonl, study.jsonl and weights/. Cells stop so that all of it is over MINUTES after the start. The rest goes to
# jobs.submit, as in precision=bf16 seeds=[0]. What results/study.jsonl holds is not computed again. Nothing is needed but
# torch, numpy, h5py, scikit-learn, scipy, pillow, matplotlib, tqdm, and pytest for the check.
#
#   EXPERIMENT=study   PYTHON=python3   CHECK="-k bf16" (tests marked cuda; CHECK=no leaves them out)
#   MEASURE="--seconds 100" (of benchmarks.gpu; MEASURE=no leaves it out)   LANES=2
set -u
began=$(date +%s)
store=$1 out=$2 minutes=$3
shift 3
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3} experiment=${EXPERIMENT:-study}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4} PYTHONUNBUFFERED=1
mkdir -p "$out" || exit 2

passed() { echo "== $(($(date +%s) - began)) s: $*"; }

if [ "${CHECK:--k bf16}" != no ]; then
    passed "the step on this device"
    # shellcheck disable=SC2086  # several options
    "$python" -m pytest -o addopts= -W ignore::pytest.PytestConfigWarning -p no:cacheprovider -q -m cuda ${CHECK:--k bf16} \
        tests/test_step.py tests/test_views.py tests/test_render_triton.py tests/test_probe.py tests/test_features.py \
        >"$out/check.txt" 2>&1
    tail -n 15 "$out/check.txt"
fi
if [ "${MEASURE:-}" != no ]; then
    passed "the device's ceilings, and what the suite gets of them"
    # shellcheck disable=SC2086
    "$python" -m benchmarks.gpu ${MEASURE:---seconds 100} --to "$out/gpu.jsonl" 2>&1 | tee "$out/gpu.txt"
fi
if [ -f results/study.jsonl ]; then
    passed "what was measured before"
    cp results/study.jsonl "$out/study.jsonl"
    "$python" -m jobs.results load results/study.jsonl store="$store"
fi
passed "cells"
left=$((60 * minutes - ($(date +%s) - began) - 40)) # seconds; lanes that are asked to stop need some
[ "$left" -gt 0 ] || { echo "no time is left for cells" >&2; exit 1; }
"$python" -m jobs.submit experiment="$experiment" profile=local minutes="$(awk "BEGIN { print $left / 60 }")" \
    lanes="${LANES:-2}" archive="$out/study.jsonl" weights=true store="$store" "$@"
code=$?
passed "done"
ls -l "$out"
exit $code
