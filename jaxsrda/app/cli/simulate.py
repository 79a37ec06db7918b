"""The `simulate` command."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

from jaxsrda.app.cli.common import check_outputs, console, parts_of, progress_bar, say


@dataclasses.dataclass
class Simulate:
    """Run the solver at one level and write the vorticity, omega(time, x, y)."""

    out: Path
    """Output file: NetCDF (.nc), Zarr (.zarr), or numpy (.npz)."""
    testbed: str = "jet"
    """The flow: jet, jet-small, or your own as module:name."""
    level: str = "hr"
    """Of jet: lr (32 × 17), hr (128 × 65), fine (256 × 129) or uhr (1024 × 513)."""
    frames: int = 96
    """Frames to write, one each 0.25 time units; the start counts as one."""
    seed: int = 0
    """Seed of the initial perturbation."""
    initial: Path | None = None
    """Start from this vorticity field (nx × ny, at the level's grid) instead, or from the last frame of a run."""
    scheme: str = "etdrk4"
    """etdrk4, or rk2 (the paper's)."""
    steps: int | None = None
    """Time steps a frame; by default the level's own."""
    json: Path | None = None
    """Write a record of the run here."""

    def run(self) -> None:
        """Check everything, estimate the cost, run, write."""
        from jaxsrda.app.datasets import DATASET_SUFFIXES, fields_dataset, write_dataset
        from jaxsrda.app.fields import read_fields
        from jaxsrda.core.files import check_writable, write_json, write_npz
        from jaxsrda.core.progress import duration
        from jaxsrda.core.records import described
        from jaxsrda.experiment.truth import read_start
        from jaxsrda.flow.simulate import Run, estimate_seconds, simulate_resumable
        from jaxsrda.flow.testbed import testbed

        flow = testbed(self.testbed)
        run = Run(flow, flow.level(self.level), self.frames, self.scheme, self.steps, self.seed)
        check_writable(self.out, (*DATASET_SUFFIXES, ".npz"))
        check_outputs(self.json)
        grid, initial, begin = run.level.grid, None, 0.0
        if self.initial is not None:
            found = read_start(read_fields(self.initial), flow, grid)
            initial, begin = found.values[0], found.start
            say(*found.notes)
        steps = run.steps_a_frame * (run.frames - 1)
        console.print(
            f"{run.level.name}: {grid.nx} × {grid.ny}, {run.frames} frames, {steps} {run.scheme} steps of "
            f"{flow.frame / run.steps_a_frame:.3g}: about {duration(estimate_seconds(run))}"
        )
        began = time.perf_counter()
        with progress_bar() as bar:
            task = bar.add_task("frames", total=run.frames)
            parts = parts_of(self.out)
            shorter: dict[int, int] = {}
            omega = simulate_resumable(
                run,
                parts,
                initial,
                lambda done, _: bar.update(task, completed=done, refresh=True),
                lambda frame, steps: shorter.update({frame: steps}),
                keep=True,
            )
        seconds = time.perf_counter() - began
        config = described(run)
        if shorter:  # steps a frame by the frame that they begin at
            config["shorter_steps"] = {str(frame): steps for frame, steps in sorted(shorter.items())}
        times = [begin + flow.frame * i for i in range(run.frames)]
        if self.out.suffix == ".npz":
            write_npz(self.out, omega=omega, time=times)
        else:
            write_dataset(self.out, fields_dataset(omega, times, grid, {"config": config}))
        if self.json is not None:
            write_json(self.json, {"config": config, "seconds": {"run": seconds}, "finite": True})
        shutil.rmtree(parts, ignore_errors=True)  # only now that the files are written
        for frame, steps in sorted(shorter.items()):
            console.print(f"the step became too long: {steps} steps a frame from t = {begin + frame * flow.frame:g} on")
        console.print(f"{self.out}: omega {omega.shape}, |omega| ≤ {abs(omega).max():.3g}, {duration(seconds)}")
