"""Plans: their operations are those of the formulas, their rates come from where they say, and time and memory hold."""

import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrda.core import costs
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.prior import PRIORS
from jaxsrda.experiment import plan as plans
from jaxsrda.experiment import rates
from jaxsrda.experiment.plan import FILTER_PARTS, PRIOR_PARTS, Outline, members_of, plan, work_of
from jaxsrda.experiment.rates import Need, Rate, seconds_a_unit
from jaxsrda.experiment.registry import METHODS
from jaxsrda.filters.config import FilterConfig
from jaxsrda.flow.grid import ChannelGrid, to_physical
from jaxsrda.flow.testbed import jet, jet_small

SMALL = jet_small()


def outline(method="enkf-hr", members=10, **options):
    config = dataclasses.replace(METHODS[method].config, members=members)
    return Outline(method, **{"testbed": SMALL, "config": config, "cycles": 2} | options)


def parts_of(made):
    return {part.name: part for part in work_of(made)}


# Rates ----------------------------------------------------------------------------------------


def test_operations_of_a_transform_are_those_that_xla_counts():
    grid = ChannelGrid(64, 33)
    made = costs.compiled(lambda hat: to_physical(grid, hat), jax.ShapeDtypeStruct(grid.spectral_shape, "float32"))
    assert rates.transform_flops(grid) == pytest.approx(made.costs.flops, rel=0.02)
    assert rates.tendency_flops(grid) == 4 * rates.transform_flops(grid)


def test_rates_of_the_nearest_grid_in_straight_lines_between_members_and_in_proportion_beyond():
    line = [Rate("score", 100, 10, 1.0), Rate("score", 100, 30, 5.0), Rate("score", 10_000, 10, 9.0)]
    assert seconds_a_unit(line, Need("score", (12, 12), 20)) == pytest.approx(3.0)
    assert seconds_a_unit(line, Need("score", (12, 12), 60)) == pytest.approx(10.0)
    assert seconds_a_unit(line, Need("score", (12, 12), 2)) == pytest.approx(1.0)
    assert seconds_a_unit(line, Need("score", (90, 90), 10)) == pytest.approx(9.0)
    assert seconds_a_unit([Rate("factor", 1, 1, 2.0)], Need("factor", members=7)) == 2.0
    with pytest.raises(ValueError, match="none of gain among them; leave --rates out to measure here"):
        seconds_a_unit(line, Need("gain", (12, 12), 20))


@pytest.mark.parametrize("kind", ["interpolate", "factor"])
def test_a_rate_is_seconds_a_unit(kind, monkeypatch):
    monkeypatch.setattr(rates, "BUDGET", 0.0)
    monkeypatch.setattr(rates, "seconds_of", lambda calls, **_: [[3.0, 2.0]])
    monkeypatch.setattr(rates, "FACTOR", 32)
    units = {"interpolate": 2 * 16 * 9, "factor": 32**3 / 3 + 2 * 32**2 * 2}[kind]
    assert rates.measured(Need(kind, (16, 9), 2, 8)).seconds == pytest.approx(2.0 / units)


def test_files_of_rates(tmp_path):
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"rates": [Rate("score", 100, 10, 1.0)._asdict()]}))
    assert rates.read_rates(path) == [Rate("score", 100, 10, 1.0)]
    for text, message in (
        ("{}", "could not read"),
        ("[", "could not read"),
        ('{"rates": []}', "has none; write another"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            rates.read_rates(path)


# Work -----------------------------------------------------------------------------------------


def test_every_method_and_prior_has_parts():
    filters = {name for name, method in METHODS.items() if isinstance(method.config, FilterConfig)}
    assert filters == set(FILTER_PARTS) and set(PRIOR_PARTS) == set(PRIORS)
    for name in METHODS:
        assert all(part.units > 0 for part in work_of(Outline(name)) if part.name != "network, samples"), name
        assert {part.need.kind for part in work_of(Outline(name))} <= set(rates.KINDS)


def test_forecasts_grow_with_members_steps_and_tendencies():
    level = SMALL.analysis
    one = parts_of(outline(members=10))["forecasts, hr"]
    assert one.units == 4 * 10 * 4 * level.steps * rates.tendency_flops(level.grid)
    dual = parts_of(outline("enkf-dual", members=10))
    assert dual["forecasts, hr"].units == one.units / 10
    assert dual["forecasts, lr"].need.grid == SMALL.forecast.grid.shape
    free, filtered = parts_of(outline("free-run")), parts_of(outline("enkf-hr"))
    assert set(filtered) - set(free) == {"analysis, gain", "analysis, factor"}


def test_an_analysis_grows_with_sensors_as_its_formula():
    few, many = (parts_of(outline(sensors=p)) for p in (10, 1000))
    n = 64 * 33
    assert (few["analysis, gain"].units, many["analysis, gain"].units) == ((n + 10) * 10, (n + 1000) * 1000)
    assert many["analysis, factor"].units == pytest.approx(1000**3 / 3 + 2 * 1000**2 * 10)
    local = parts_of(outline("letkf-hr", sensors=1000))
    assert local["analysis, letkf"].units == n and "analysis, gain" not in local


def test_samples_grow_with_members_and_steps():
    config = members_of(DiffSRDAConfig(), 7, 3)
    made = parts_of(Outline("diffsrda", config=config))
    assert made["network, samples"].units == 7 * 3 * 128 * 65 and made["network, conditions"].units == 128 * 65
    assert made["scores"].need.members == 7
    carried = dataclasses.replace(config, prior="carried", restart="mean")
    assert parts_of(Outline("diffsrda", config=carried))["analysis, gain"].need.members == 100


def test_plans_of_rates_from_a_file_add_up(monkeypatch):
    monkeypatch.setattr(plans, "memory_of", lambda outline: (5, 1.0))
    known = [Rate(kind, 1000, 10, 1e-9) for kind in rates.KINDS]
    made = plan(outline(truths=3, cycles=5), known)
    assert made.total_seconds == pytest.approx(15e-9 * sum(part.units for part in work_of(outline())))
    assert made.flops["forecasts, hr"] == 15 * parts_of(outline())["forecasts, hr"].flops
    assert plan(outline(truths=3, cycles=5, devices=2), known).total_seconds == pytest.approx(
        made.total_seconds  # which divide the members alone, 10 in all
    )
    assert plan(outline(truths=3, cycles=5, devices=3), known).total_seconds == pytest.approx(made.total_seconds / 3)


@pytest.mark.parametrize(("devices", "truths", "members", "each"), [(4, 5, 100, 5), (4, 6, 100, 3), (8, 3, 5, 3)])
def test_devices_have_the_truths_that_a_run_gives_them(devices, truths, members, each):
    assert outline(members=members, truths=truths, devices=devices).truths_a_device == each


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sensors": 0}, "sensors: expected at least 1, got 0"),
        ({"truths": 0}, "truths: expected at least 1, got 0"),
        ({"cycles": 0}, "cycles: expected at least 1, got 0"),
        ({"devices": -1}, "devices: expected at least 1, got -1"),
    ],
)
def test_sizes_below_one_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        outline(**options)


def test_methods_and_options_that_cannot_be_planned_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"method: expected one of .*did you mean 'enkf-hr'"):
        Outline("enkf-hh")
    with pytest.raises(ValueError, match="steps: are those of a sampler"):
        members_of(FilterConfig(), None, 3)
    monkeypatch.setitem(METHODS, "own", METHODS["enkf-hr"])
    with pytest.raises(ValueError, match="expected a method of the package, whose parts are known, got own"):
        Outline("own")


# Against measurements ---------------------------------------------------------------------------


def actual(made):
    """Least seconds of the very program, and its memory."""
    from jaxsrda.cycling.assimilator import Setup
    from jaxsrda.experiment.registry import configured_model
    from jaxsrda.experiment.scan import Recipe, program_of
    from jaxsrda.flow.climatology import CLIMATOLOGY_RUNS, Climatology
    from jaxsrda.observing.observations import Observations

    testbed, dtype, rng = made.testbed, "float32", np.random.default_rng(0)
    times, spectral = testbed.frames // testbed.frames_per_cycle + 1, testbed.grid.spectral_shape
    smooth = jnp.exp(-0.3 * jnp.hypot(*jnp.meshgrid(*map(jnp.arange, spectral), indexing="ij"))).astype(dtype)
    runs = jnp.asarray(0.1 * rng.normal(size=(CLIMATOLOGY_RUNS, times, *spectral)), dtype) * smooth
    setup = Setup(testbed, Climatology(runs[0], runs, testbed.grid))
    shape = made.truths, made.cycles, made.sensors
    places = jnp.asarray(rng.uniform((0, 0.1), (6.2, 3.0), (*shape, 2)), dtype)
    values = jnp.asarray(rng.normal(size=shape), dtype)
    observed = Observations(values, places, jnp.ones(shape, bool), jnp.full(shape, 0.01, dtype))
    truth = jnp.asarray(rng.normal(size=(made.truths, made.cycles * 4, *testbed.grid.shape)), dtype)
    keys = jax.random.split(jax.random.key(0), made.truths)
    model = configured_model(made.config) if isinstance(made.config, DiffSRDAConfig) else None
    program = program_of(Recipe(made.method, made.config, model), setup)
    carry = program.begin(setup, keys, True, dtype)
    copies = [jax.tree.map(jnp.copy, carry) for _ in range(4)]  # each call takes its own
    taken = [timed(lambda given=given: program.advance(setup, keys, observed, truth, given)) for given in copies]
    return min(taken[1:]), program.planned(setup, keys, observed, truth, carry).costs.memory


def timed(call):
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, members, testbed",
    [
        ("enkf-hr", 40, SMALL),
        ("enkf-sr", 40, SMALL),
        ("enkf-lagrange", 40, SMALL),
        ("letkf-hr", 40, SMALL),
        ("diffsrda", 8, jet()),
    ],
)
def test_time_is_within_a_factor_of_one_and_a_half_and_memory_exact(method, members, testbed):
    with jax.enable_x64(False):
        config = dataclasses.replace(METHODS[method].config, members=members)
        made = Outline(method, testbed, config, sensors=144, cycles=2)
        planned = plan(made)
        seconds, memory = actual(made)
    assert planned.memory == memory
    assert 1 / 1.5 < planned.total_seconds / seconds < 1.5, (planned.seconds, seconds)
