#!/usr/bin/env bash
# The accelerator queue, in order of worth:  benchmarks/accelerator.sh OUT_DIR MINUTES [--tiny]
#
# Each job writes one small result into OUT_DIR; a job whose result is there is skipped, so a second call goes on
# where the first was stopped.  No job starts after the time limit, and one that overruns it is ended.
# The machine needs jaxsrda[all] with JAX for its accelerator; where nothing can be downloaded, carry wheels of jaxsrda
# itself (pip wheel --no-deps .), tyro, typeguard, docstring-parser, cmocean and zarr.
# --tiny runs the same queue at the smallest sizes, to try it on a CPU.
set -u
out=$(mkdir -p "${1:?usage: accelerator.sh OUT_DIR MINUTES [--tiny]}" && cd "$1" && pwd)
deadline=$(($(date +%s) + ${2:?usage: accelerator.sh OUT_DIR MINUTES [--tiny]} * 60))
tiny=${3:-}
cd "$(dirname "$0")/.."
export PYTHONUNBUFFERED=1 JAXSRDA_CACHE=${JAXSRDA_CACHE:-$out/cache} PYTHONPATH=$PWD

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

if [ "$tiny" = --tiny ]; then
    job filters python experiments/filters.py --methods enkf-sr bicubic --truths 1 --truth-level hr --out "$out/filters"
else
    job solver python benchmarks/solver.py --out "$out/solver.json"
    job transforms python benchmarks/transforms.py --out "$out/transforms.json"
    job filters_uhr python experiments/filters.py --truth-level uhr --truths 10 --out "$out/filters_uhr"
    job filters_fine python experiments/filters.py --truths 50 --at-once 10 --out "$out/filters_fine"
fi
ls -l "$out"
