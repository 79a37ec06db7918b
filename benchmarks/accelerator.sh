#!/usr/bin/env bash
# The accelerator queue, in order of worth:  benchmarks/accelerator.sh OUT_DIR MINUTES [--tiny]
#
# Each job writes one small result into OUT_DIR; a job whose result is there is skipped, so a second call goes on
# where the first was stopped.  No job starts after the time limit, and one that overruns it is ended.
# Runs, windows and checkpoints stay in build/accelerator-cache (or $JAXSRDA_CACHE), so killed trainings go on too.
# The machine needs jaxsrda[all] with JAX for its accelerator; where nothing can be downloaded, carry wheels of jaxsrda
# itself (pip wheel --no-deps .), tyro, typeguard, docstring-parser, cmocean and zarr.
# --tiny runs the same queue at the smallest sizes, to try it on a CPU.
set -u
out=$(mkdir -p "${1:?usage: accelerator.sh OUT_DIR MINUTES [--tiny]}" && cd "$1" && pwd)
deadline=$(($(date +%s) + ${2:?usage: accelerator.sh OUT_DIR MINUTES [--tiny]} * 60))
tiny=${3:-}
cd "$(dirname "$0")/.."
export PYTHONUNBUFFERED=1 JAXSRDA_CACHE=${JAXSRDA_CACHE:-$PWD/build/accelerator-cache} PYTHONPATH=$PWD

job() { # job NAME COMMAND…: run unless OUT_DIR/NAME.done is there, within the time that is left
    local name=$1 left=$((deadline - $(date +%s)))
    shift
    [ -e "$out/$name.done" ] && { echo "== $name: done before"; return; }
    [ "$left" -le 10 ] && { echo "== $name: no time left"; return; }
    echo "== $name ($left s left)"
    if timeout "$left" "$@" > "$out/$name.log" 2>&1; then
        touch "$out/$name.done"
    else
        echo "   failed or out of time; the end of $name.log:"
        tail -n 5 "$out/$name.log"
    fi
}

train() { # train NAME PRIOR NETWORK SAMPLES OPTIONS…: weights into the cache, in parts below 16 MB into OUT_DIR
    local name=$1 prior=$2 network=$3 samples=$4 weights=$JAXSRDA_CACHE/$1.npz
    shift 4
    job "train-$name" python -m jaxsrda train --out "$weights" --prior $prior --network "$network" \
        --samples "$samples" "$@"
    [ -e "$weights" ] && [ ! -e "$out/$name.npz.00" ] && split -d -b 15M "$weights" "$out/$name.npz."
    [ -e "${weights%.npz}.json" ] && cp "${weights%.npz}.json" "$out/$name.json"
}

if [ "$tiny" = --tiny ]; then
    train tiny-dual dual tiny 64 --level hr --runs 16 --others --batch 8 --cycling 0
    job few_steps python experiments/few_steps.py --weights "$JAXSRDA_CACHE/tiny-dual.npz" --truths 1 --members 4 \
        --most 2 --out "$out/few_steps"
    job reconstruction python experiments/reconstruction.py --methods enkf-sr bicubic --truths 1 --truth-level hr \
        --out "$out/reconstruction"
else
    # Fine-level runs: 1000 of them are some minutes on an H200, once, for all trainings.
    train base "dual enkf-sr" base 1000000 --runs 1000 --bf16 --batch 64
    train base-visited "dual enkf-sr" base 300000 --runs 1000 --bf16 --batch 64 --visit mean --init "$JAXSRDA_CACHE/base.npz"
    job few_steps python experiments/few_steps.py --weights "$JAXSRDA_CACHE/base.npz" --most 1000 --out "$out/few_steps"
    job solver python benchmarks/solver.py --out "$out/solver.json"
    job cycle python benchmarks/cycle.py --out "$out/cycle.json"
    job uhr python experiments/reconstruction.py --methods enkf-hr letkf-hr enkf-dual enkf-sr diffsrda \
        --truth-level uhr --truths 10 --out "$out/uhr"
    train paper-lr lr paper 300000 --runs 1000 --bf16 --batch 64 --target direct \
        --parametrization noise --loss l1 --starts mixup
    job transforms python benchmarks/transforms.py --out "$out/transforms.json"
fi
ls -l "$out"
