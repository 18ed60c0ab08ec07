#!/usr/bin/env bash
# While a GPU is available for some minutes: check the training step on it, measure it, compute the next cells of the study.
#
#   benchmarks/occasion.sh STORE OUT MINUTES [NAME=VALUE ...] [--FLAG ...]
#
# STORE has prepared images (dae-ssl data) on a fast disk or in memory. OUT receives the results: check.txt, gpu.jsonl,
# study.jsonl and weights/. The cells stop so that everything ends MINUTES after the start; with 0 no cells are computed
# and no images are needed. Further arguments go to dae-ssl submit, such as precision=bf16 --seeds 0. Cells in
# results/study.jsonl are not computed again. The script needs only torch, torchvision, numpy, h5py, scikit-learn, scipy,
# pillow, matplotlib, tqdm, and pytest for the check.
#
#   EXPERIMENT=study   PYTHON=python3   PARALLEL=2
#   CHECK=no skips the check; otherwise each line selects tests as pytest's -k does, and the lines run side by side
#   MEASURE="--seconds 100" are options of benchmarks.gpu; MEASURE=no skips the measurement
set -u
began=$(date +%s)
if [ $# -lt 3 ] || ! [[ $3 =~ ^[0-9]+$ ]]; then
    echo "error: the arguments are '$*': give STORE OUT MINUTES [NAME=VALUE ...], with a whole number of minutes" >&2
    exit 2
fi
store=$(realpath "$1") out=$(realpath -m "$2") minutes=$3
shift 3
CHECK=${CHECK-"dae and l2 and bf16 and not reconstruction
simclr-bf16
barlow_twins-bf16
layerwise_dae-bf16
ae-bf16 and not dae
dae and l2 and fp32 and not reconstruction
not every_method"}
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3} experiment=${EXPERIMENT:-study}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4} PYTHONUNBUFFERED=1
"$python" -c 'import sys; from dae_ssl.compute.provenance import git_commit; sys.exit(git_commit() is None)' || {
    echo "error: the commit is unknown: run git rev-parse HEAD >COMMIT where .git is, or set DAE_SSL_COMMIT" >&2
    exit 2
}
# A mistake must not cost minutes of the GPU, so the arguments of the last command are checked first.
if [ "$minutes" -gt 0 ]; then
    planned=$("$python" -m jobs plan "$experiment" --store "$store" "$@") || exit 2
    if grep '^not prepared' <<<"$planned" >&2; then exit 2; fi
fi
mkdir -p "$out" || exit 2

passed() { echo "== $(($(date +%s) - began)) s: $*"; }

if [ "$CHECK" != no ]; then
    passed "the step, views, probe and features on this device"
    # Each test of the step starts four processes one after another, which mostly compile; so the tests run side by side.
    number=0
    while read -r chosen; do
        number=$((number + 1))
        timeout "${CHECK_SECONDS:-150}" "$python" -m pytest -o addopts= -W ignore::pytest.PytestConfigWarning -q \
            -p no:cacheprovider -m cuda -k "$chosen" tests/training/test_step.py tests/training/test_views.py \
            tests/training/test_render_triton.py tests/evaluation/test_probe.py tests/evaluation/test_features.py >"$out/check-$number.txt" 2>&1 ||
            echo "these tests did not pass: $chosen" >>"$out/check-$number.txt" &
    done <<<"$CHECK"
    wait
    tail -qn 3 "$out"/check-*.txt
    cat "$out"/check-*.txt >"$out/check.txt" && rm "$out"/check-*.txt
fi
if [ "${MEASURE:-}" != no ]; then
    passed "the device's ceilings, and what the suite gets of them"
    # shellcheck disable=SC2086
    "$python" -m benchmarks.gpu ${MEASURE:---seconds 100} --to "$out/gpu.jsonl" 2>&1 | tee "$out/gpu.txt"
fi
[ "$minutes" -gt 0 ] || exit 0
if [ -f results/study.jsonl ]; then
    passed "results that were measured before"
    cp results/study.jsonl "$out/study.jsonl"
    "$python" -m jobs results load results/study.jsonl --store "$store"
fi
passed "cells"
left=$((60 * minutes - ($(date +%s) - began) - 40)) # seconds; lanes that are asked to stop need some
[ "$left" -gt 0 ] || { echo "no time is left for cells" >&2; exit 1; }
"$python" -m jobs submit "$experiment" --minutes "$(awk "BEGIN { print $left / 60 }")" --parallel "${PARALLEL:-2}" \
    --archive "$out/study.jsonl" --weights --store "$store" "$@"
code=$?
passed "done"
ls -l "$out"
exit $code
