"""Options of `assimilate` without effect are refused, and what the table calls unread is not read."""

import jax
import jax.numpy as jnp
import pytest
import tyro
from helpers import observed, parameters, setup
from jax.interpreters.partial_eval import dce_jaxpr

from jaxsrda.app.cli.assimilate import TUNING, Assimilate
from jaxsrda.app.cli.effects import CONTROLS, RULES, UNUSED
from jaxsrda.experiment.registry import METHODS, make_assimilator
from jaxsrda.filters.config import FILTERS, FilterConfig, FilterParams

OWN = ["--observations", "own.csv"]
DRAWN = ["--method", "diffsrda"]

REFUSED = [
    (["--truths", "2"], ["--truth", "t.npy"], "--truth gives the truth"),
    (["--truth-level", "hr"], ["--truth", "t.npy"], "--truth gives the truth"),
    (["--truths", "2"], OWN, "no truth is simulated beside --observations"),
    (["--truth-level", "hr"], OWN, "no truth is simulated beside --observations"),
    (["--layout", "lattice:8"], OWN, "--observations says where, what and how precisely was measured"),
    (["--obs-noise", "0.1"], OWN, "--observations says where, what and how precisely"),
    (["--guide-layout", "lattice:4"], OWN, "--observations says where, what and how precisely"),
    (["--guide-operator", "speed"], OWN, "--observations says where, what and how precisely"),
    (["--guide-noise", "0.1"], OWN, "--observations says where, what and how precisely"),
    (["--cycle-at", "observations"], [], "there are no --observations to go by"),
    (["--guide-operator", "speed"], [], "there are no further sensors"),
    (["--guide-noise", "0.1"], [], "there are no further sensors"),
    (["--guides-assimilated"], [], "there are no further sensors"),
    (["--guide-on", "all"], DRAWN, "nothing is guided"),
    (["--eta", "0.5"], DRAWN, "only --sampler ddim reads it"),
    *((["--steps", "8"], [*DRAWN, "--sampler", name], "takes no steps") for name in ("mean", "gaussian", "white")),
    (["--centred", "False"], ["--method", "cnn"], "sampler mean draws nothing around its estimate"),
    *(
        ([f"--{name}", "0.5"], ["--method", method], "the method does not read it")
        for methods, names in UNUSED
        for method in methods
        for name in names
    ),
    (["--controls", "2"], ["--method", "enkf-hr"], "only enkf-dual and enkf-dual-lagrange have controls"),
    (["--animate"], ["--json", "a.json"], "no pictures are made"),
    (["--save-members"], ["--json", "a.json"], "no analyses are written"),
    (["--joint"], OWN, "there is no --truth to score against"),
]


@pytest.mark.parametrize(("option", "others", "why"), REFUSED, ids=lambda value: " ".join(value))
def test_options_without_effect_are_refused(option, others, why):
    method = [] if "--method" in others else ["--method", "enkf-dual"]
    given = tyro.cli(Assimilate, args=["--testbed", "jet-small", *method, *others, *option])
    with pytest.raises(ValueError, match=rf"^{option[0]}: has no effect, .*{why}.*; leave it out$"):
        given.experiment()


def test_every_rule_is_tried():
    tried = {(option[0][2:].replace("-", "_"), why) for option, _, why in REFUSED}
    for rule in RULES:
        for name in rule.options:
            assert any(name == other and why in rule.why for other, why in tried), (name, rule.why)


def read(method):
    """Which of a filter's numbers its state or windows depend on, by the program that is traced."""
    made, params = METHODS[method].config, parameters()
    assert isinstance(made, FilterConfig)
    config = FilterConfig(members=3, controls=2 if method in CONTROLS else 1)
    seen = jax.tree.map(lambda a: a[0], observed())

    def run(params):
        assimilator = make_assimilator(method, setup(), config, params)
        state = assimilator.init(jax.random.key(0))
        return assimilator.step(jax.random.key(1), state, seen)

    traced = jax.make_jaxpr(run)(params).jaxpr
    _, used = dce_jaxpr(traced, [True] * len(traced.outvars))
    return {name for name, is_used in zip(FilterParams._fields, used, strict=True) if is_used}


@pytest.mark.parametrize("method", FILTERS)
def test_tuning_that_is_not_read(method):
    unread = {name for methods, names in UNUSED if method in methods for name in names}
    offered = set(TUNING) & set(FilterParams._fields) - {"viscosity"}
    assert offered - read(method) == unread


@pytest.mark.parametrize("method", FILTERS)
def test_methods_without_observations_are_marked(method):
    config = FilterConfig(members=3)
    seen = jax.tree.map(lambda a: a[0], observed())

    def run(values):
        assimilator = make_assimilator(method, setup(), config)
        state, window = assimilator.step(
            jax.random.key(1), assimilator.init(jax.random.key(0)), seen._replace(values=values)
        )
        return state, window.omega

    traced = jax.make_jaxpr(run)(jnp.asarray(seen.values)).jaxpr
    _, used = dce_jaxpr(traced, [True] * len(traced.outvars))
    assert METHODS[method].assimilates == used[0]
