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

mkdir -p "$JAXSRDA_CACHE"
both="dual enkf-sr" cache=$JAXSRDA_CACHE
if [ "$tiny" = --tiny ]; then
    small="--level hr --runs 16 --extra-layouts --batch 4 --cycling 0"
    train mean "$both" tiny 16 $small --bf16 --target regression
    train base "$both" tiny 16 $small --bf16 --init "$cache/mean.npz" --on-policy best --no-open-loop
    train student dual tiny 16 $small --bf16 --init "$cache/base.npz" --distill 1
    train latent dual tiny 16 $small --bf16 --init "$cache/base.npz" --part denoiser --latent kl --autoencoder-samples 32
    train cnn dual 4dsrda-small 16 $small --bf16 --target regression --policy-weights "$cache/base.npz" \
        --on-policy best --no-open-loop
    job few_steps python experiments/few_steps.py --weights "$cache/base.npz" --truths 1 --members 4 --most 2 \
        --out "$out/few_steps"
    job cycle python benchmarks/cycle.py --methods enkf-dual diffsrda --weights "$cache/base.npz" --cycles 2 \
        --out "$out/cycle.json"
    job reconstruction python experiments/reconstruction.py --methods bicubic diffsrda --truths 1 --truth-level hr \
        --weights "$cache/base.npz" --out "$out/reconstruction"
    job guidance python benchmarks/guidance.py --methods lifted mmps --members 2 --repeats 1 --out "$out/guidance.json"
    job sensor_shift python experiments/sensor_shift.py --shifts 8-12 --methods none oi --truths 1 --validation 1 \
        --validation-frames 8 --out "$out/sensor_shift.json"
    train paper lr paper 4 --level hr --runs 16 --extra-layouts --batch 2 --noises 1 --cycling 0 --bf16 \
        --target direct --parametrization noise --loss l1 --sigmas vp --starts mixup
else
    # A thousand fine-level runs are some minutes on an H200, once, for all trainings; their windows fill 25 GB of disk.
    many="--runs 1000 --bf16 --batch 64"
    train mean "$both" base 500000 $many --target regression --cycling 0
    train base "$both" base 1000000 $many --init "$cache/mean.npz" --on-policy best --no-open-loop
    job few_steps python experiments/few_steps.py --weights "$cache/base.npz" --most 1000 --out "$out/few_steps"
    job solver python benchmarks/solver.py --out "$out/solver.json"
    job cycle python benchmarks/cycle.py --weights "$cache/base.npz" --out "$out/cycle.json"
    job uhr python experiments/reconstruction.py --methods enkf-hr letkf-hr enkf-dual enkf-sr diffsrda diffsrda/enkf-sr \
        --weights "$cache/base.npz" --truth-level uhr --truths 10 --out "$out/uhr"
    job guidance python benchmarks/guidance.py --out "$out/guidance.json"
    job sensor_shift python experiments/sensor_shift.py --out "$out/sensor_shift.json"
    train student "$both" base 200000 $many --init "$cache/base.npz" --distill 1
    train latent "$both" base 500000 $many --init "$cache/base.npz" --part denoiser --latent kl \
        --autoencoder-samples 500000 --on-policy best --no-open-loop
    train cnn "$both" 4dsrda 1000000 $many --target regression --policy-weights "$cache/base.npz" \
        --on-policy best --no-open-loop
    train paper lr paper 300000 $many --target direct --parametrization noise --loss l1 --sigmas vp --starts mixup
    job transforms python benchmarks/transforms.py --out "$out/transforms.json"
fi
ls -l "$out"
