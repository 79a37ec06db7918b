"""The solver's cost: work against precision, a full run, a tendency, and an EnKF analysis.

    python -m benchmarks.studies.solver --out benchmarks/results/solver.json
    taskset -c 0 python -m benchmarks.studies.solver --parts tendency        # one core for both sides

Compile and run times are apart; where two programs are compared, their runs alternate and the
median counts, since the machine may be shared.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy
import scipy.fft
from jax import Array

import jaxsrda
from benchmarks.machine import machine
from jaxsrda.core.provenance import stamped, this_run
from jaxsrda.filters.analysis import enkf
from jaxsrda.flow.jet import truth_key
from jaxsrda.flow.solver import stepper
from jaxsrda.observing.observations import observation_key
from jaxsrda.observing.sensors import predict

TESTBED = jaxsrda.jet()
LEVEL, GRID = TESTBED.analysis, TESTBED.grid


def seconds(function, *arguments) -> float:
    """Wall time of one call, result awaited."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def compiled(function, *arguments):
    """The compiled function and the seconds its compilation took."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - start


def run_program(scheme: str, steps: int, frames: int, omega_hat: Array):
    """A compiled run of `frames` frames after the start, to its last state; and its compile time."""
    params = TESTBED.flow_params(LEVEL, dtype=omega_hat.dtype)
    step = stepper(scheme, GRID, params, TESTBED.frame / steps)
    return compiled(jaxsrda.rollout(step, steps, frames, lambda state: state[0, 0]), omega_hat)


def relative_l1(omega_hat: Array, reference: Array) -> float:
    """Relative L1 distance of two states' vorticity fields."""
    a, b = (np.asarray(jaxsrda.to_physical(GRID, state.astype("float64"))) for state in (omega_hat, reference))
    return float(abs(a - b).sum() / abs(b).sum())


def work_precision(frames: int = 20) -> list[dict]:
    """Error at t = 5 and wall time, by scheme, step and type."""
    start = TESTBED.start(truth_key(0), GRID, dtype="float64")
    reference = run_program("etdrk4", 200, frames, start)[0](start)[0]
    rows = []
    for scheme, counts in (("etdrk4", (16, 20, 25, 40)), ("rk2", (50, 125, 500, 2000))):
        for steps in counts:
            for dtype in ("float32", "float64"):
                state = start.astype(dtype)
                program, compile_seconds = run_program(scheme, steps, frames, state)
                begin = time.perf_counter()
                last = jax.block_until_ready(program(state))[0]
                run_seconds = time.perf_counter() - begin
                error = relative_l1(last, reference)
                rows.append(
                    {
                        "scheme": scheme,
                        "steps_per_frame": steps,
                        "dtype": dtype,
                        "error_t5": error if np.isfinite(error) else None,
                        "run_seconds": run_seconds,
                        "compile_seconds": compile_seconds,
                    }
                )
    return rows


def full_run(frames: int = TESTBED.frames, repeats: int = 3) -> dict:
    """24 time units at HR in float32: ETDRK4 at 25 and 20 steps a frame, RK2 at the paper's 2000."""
    start = TESTBED.start(truth_key(0), GRID, dtype="float32")
    names = {"etdrk4_25": ("etdrk4", 25), "etdrk4_20": ("etdrk4", 20), "rk2_2000": ("rk2", 2000)}
    programs = {name: run_program(*choice, frames, start) for name, choice in names.items()}
    # The short runs are timed before and after the long one, and so see the same machine.
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in ("etdrk4_25", "etdrk4_20") * repeats + ("rk2_2000",) + ("etdrk4_25", "etdrk4_20") * repeats:
        times[name].append(seconds(programs[name][0], start))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "seconds": medians,
        "all_seconds": times,
        "compile_seconds": {name: program[1] for name, program in programs.items()},
        "ratio_25": medians["rk2_2000"] / medians["etdrk4_25"],
        "ratio_20": medians["rk2_2000"] / medians["etdrk4_20"],
    }


def tendency_against_ffts(members: int = 100, repeats: int = 20, rounds: int = 15) -> dict:
    """A tendency per member against five 128 × 128 real FFTs of SciPy (4 inverse, 1 forward), one thread."""
    params = TESTBED.flow_params(LEVEL, dtype="float32")
    keys = jax.random.split(jax.random.key(0), members)
    states = jax.vmap(lambda key: TESTBED.start(key, GRID, dtype="float32"))(keys)
    slope = jax.vmap(functools.partial(jaxsrda.tendency, GRID, params))

    def repeat(states):
        # Each repeat needs the one before it, so none can be skipped.
        return jax.lax.scan(lambda s, _: (s + 1e-6 * slope(s), None), states, length=repeats)[0]

    program, compile_seconds = compiled(repeat, states)
    field = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    spectrum = scipy.fft.rfft2(field)

    def ffts():
        for _ in range(4):
            scipy.fft.irfft2(spectrum, s=(128, 128), workers=1)
        scipy.fft.rfft2(field, workers=1)

    seconds(program, states)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(program, states) / repeats / members)
        start = time.perf_counter()
        for _ in range(members):
            ffts()
        theirs.append((time.perf_counter() - start) / members)
    return {
        "members": members,
        "tendency_us": 1e6 * float(np.median(ours)),
        "five_ffts_us": 1e6 * float(np.median(theirs)),
        "ratio": float(np.median(ours) / np.median(theirs)),
        "ratio_of_minima": min(ours) / min(theirs),
        "scipy": scipy.__version__,
        "compile_seconds": compile_seconds,
    }


def enkf_analysis(members: int = 100, rounds: int = 15) -> dict:
    """The EnKF analysis of 128 observations: time and memory."""
    keys = jax.random.split(jax.random.key(1), members + 1)
    starts = jax.vmap(lambda key: TESTBED.start(key, GRID, dtype="float32"))(keys)
    later = jaxsrda.simulate(TESTBED, LEVEL, starts, 29)[:, -1]
    fields = jax.vmap(functools.partial(jaxsrda.to_physical, GRID))(later)
    truth, ensemble = fields[0], fields[1:]
    sensors = jaxsrda.Sensors()
    observations = jaxsrda.observe(observation_key(0, 0), GRID, sensors.placed(GRID), truth, 0)
    predicted = jax.vmap(lambda omega: predict(GRID, omega, observations, [sensors]))(ensemble)
    params = jaxsrda.filter_params(jaxsrda.FILTERS["enkf-hr"], "float32")

    def analyse(key, ensemble, predicted, observations):
        return enkf(key, GRID, ensemble, predicted, observations, params)

    arguments = (jax.random.key(2), ensemble, predicted, observations)
    program, compile_seconds = compiled(analyse, *arguments)
    times = [seconds(program, *arguments) for _ in range(rounds)]
    memory = program.memory_analysis()
    analysis = program(*arguments)
    return {
        "members": members,
        "observations": int(observations.mask.sum()),
        "milliseconds": 1e3 * float(np.median(times)),
        "milliseconds_least": 1e3 * min(times),
        "compile_seconds": compile_seconds,
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "rmse_before": float(jnp.sqrt(jnp.mean((ensemble.mean(0) - truth) ** 2))),
        "rmse_after": float(jnp.sqrt(jnp.mean((analysis.mean(0) - truth) ** 2))),
    }


PARTS = {
    "work_precision": work_precision,
    "full_run": full_run,
    "tendency": tendency_against_ffts,
    "enkf": enkf_analysis,
}


def targets(results: dict) -> dict[str, bool]:
    """Which of the wanted numbers were reached, among those measured."""
    reached = {}
    if "work_precision" in results:
        default = [r for r in results["work_precision"] if (r["scheme"], r["steps_per_frame"]) == ("etdrk4", 25)]
        error = next(r["error_t5"] for r in default if r["dtype"] == "float64")
        reached["default error at t = 5 below 1e-5"] = error is not None and error < 1e-5
    if "full_run" in results:
        reached["full run 35 times faster than RK2"] = results["full_run"]["ratio_25"] >= 35
    if "tendency" in results:
        reached["tendency at most 0.4 of five FFTs"] = results["tendency"]["ratio"] <= 0.4
    return reached


def show(results: dict) -> None:
    """Print the results."""
    for name, value in results.items():
        print(f"\n{name}")
        rows = value if isinstance(value, list) else [value]
        for row in rows:
            print(
                "  " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
                flush=True,
            )


def main() -> None:
    """Run the parts asked for, print them and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    this_run()  # the code as it is now
    results: dict = {"machine": machine() | {"cores_used": len(os.sched_getaffinity(0))}}
    for part in options.parts:
        results[part] = PARTS[part]()
        show({part: results[part]})
    results["targets"] = targets(results)
    results["machine"]["load_after"] = os.getloadavg()[0]
    show({name: results[name] for name in ("machine", "targets")})
    if options.out:
        for part in options.parts:
            measured = results[part]
            results[part] = [stamped(row) for row in measured] if isinstance(measured, list) else stamped(measured)
        results = stamped(results)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
