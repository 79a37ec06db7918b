"""The `info` command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jaxsrda.app.cli.common import check_outputs, console, origin
from jaxsrda.app.cli.planning import check_planning, show_plan


@dataclasses.dataclass
class Info:
    """Show methods, levels, layouts, operators, protocols, versions and devices; or, with --plan, what a run costs."""

    testbed: str = "jet"
    """The flow: jet, jet-small, or your own as module:name."""
    json: Path | None = None
    """Write the same here."""
    plan: bool = False
    """Plan a run: memory, operations and time, nothing is run but a calibration of seconds."""
    method: str = "enkf-hr"
    """Method of the plan."""
    level: str = ""
    """Level of its analyses, by default the testbed's own."""
    grid: tuple[int, int] | None = None
    """Points of its analyses in x and y, walls counted, instead of a level."""
    members: int | None = None
    """Its members, by default the method's."""
    sensors: int = 128
    """Its sensors."""
    steps: int | None = None
    """Its sampler's steps, by default the method's."""
    truths: int = 1
    """Its truths."""
    cycles: int | None = None
    """Its assimilation times, by default those of the testbed's truths."""
    devices: int = 1
    """Devices that share the truths."""
    rates: Path | None = None
    """A record of `python -m benchmarks` to take this machine's rates from, by default they are measured."""

    def run(self) -> None:
        """Print tables of what there is, or a plan, and write them."""
        import importlib.metadata

        import jax
        from rich.table import Table

        from jaxsrda.benchmark.protocol import PROTOCOLS
        from jaxsrda.core import cache
        from jaxsrda.core.files import write_json
        from jaxsrda.core.records import described
        from jaxsrda.diffsrda.weights import released
        from jaxsrda.diffusion.guidance import GUIDES
        from jaxsrda.experiment.registry import METHODS
        from jaxsrda.filters.config import FilterConfig
        from jaxsrda.flow.testbed import TESTBEDS, testbed
        from jaxsrda.observing.layouts import LAYOUTS
        from jaxsrda.observing.operators import OPERATORS

        check_outputs(self.json)
        check_planning(self)
        if self.plan:
            planned = show_plan(self)
            if self.json is not None:
                write_json(self.json, planned | origin("info", self))
            return
        flow = testbed(self.testbed)
        versions = {name: importlib.metadata.version(name) for name in ("jaxsrda", "jax", "numpy")}
        devices = [str(device) for device in jax.devices()]
        levels = {level.name: described(level) for level in flow.levels}
        methods = {name: described(method.config) for name, method in METHODS.items()}
        if self.json is not None:
            payload = {"versions": versions, "devices": devices, "levels": levels, "methods": methods}
            write_json(
                self.json,
                payload | {"layouts": list(LAYOUTS), "operators": list(OPERATORS), "protocols": list(PROTOCOLS)},
            )
        console.print(", ".join(f"{name} {version}" for name, version in versions.items()), "on", ", ".join(devices))
        console.print(f"cache: {cache.cache_dir()}")
        title = f"Levels of {flow.name} ({', '.join(TESTBEDS)}, or module:name)"
        table = Table("level", "grid", "viscosity", "steps a frame", title=title, title_justify="left")
        for level in flow.levels:
            table.add_row(level.name, f"{level.nx} × {level.ny}", f"{level.viscosity:g}", str(level.steps))
        console.print(table)
        table = Table(
            "method", "members", "localization", "additive", "representativeness", title="Methods", title_justify="left"
        )
        for name, method in METHODS.items():
            preset, numbers = method.config, ("", "", "")
            if isinstance(preset, FilterConfig):
                shown = (preset.localization, preset.additive, preset.representativeness)
                numbers = tuple(f"{number:g}" for number in shown)
            table.add_row(name, str(preset.members), *numbers)
        console.print(table)
        console.print("guidance:", ", ".join(("none", *GUIDES)))
        console.print("released weights:", ", ".join(released()) or "none")
        console.print("layouts:", ", ".join(f"{name}:N" for name in LAYOUTS), "(+dropout:P, +silent:P)")
        console.print("operators:", ", ".join(OPERATORS))
        console.print("protocols of the benchmark:", ", ".join(PROTOCOLS))
