"""The picture of `carried-fields.md`: one time unit after a perfect start, by three models.

python docs/carried_fields.py
"""

from pathlib import Path

import cmocean
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

import jaxsrda

matplotlib.use("Agg")
import matplotlib.pyplot as plt

START = 64  # frames: t = 16
OUT = Path(__file__).with_name("carried-fields.png")


def main() -> None:
    """Draw truth, LR forecast, carried field and HR forecast of truth 0 with their MAER."""
    testbed = jaxsrda.jet()
    truth = jnp.asarray(jaxsrda.simulate_truth(testbed, [0])[0])
    later = truth[START + testbed.frames_per_cycle]
    models = {
        "LR forecast": jaxsrda.spectral(testbed, testbed.forecast),
        "carried by the LR forecast": jaxsrda.lagrangian(testbed),
        "HR forecast": jaxsrda.spectral(testbed, testbed.analysis),
    }
    fields = {"truth": later}
    for name, model in models.items():
        forecast = jax.jit(lambda omega, m=model: m.to_analysis_grid(m.forecast(m.from_analysis_grid(omega)).ahead))
        fields[name] = forecast(truth[START : START + 1])[0]
    limit = float(np.abs(later).max()) * 0.8
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.2), sharex=True, sharey=True, layout="constrained")
    for axis, (name, field) in zip(axes.flat, fields.items()):
        image = axis.imshow(
            np.asarray(field).T,
            origin="lower",
            extent=(0, 2 * np.pi, 0, np.pi),
            cmap=cmocean.cm.balance,
            vmin=-limit,
            vmax=limit,
        )
        error = "" if name == "truth" else f", MAER {float(jaxsrda.maer(field, later)):.3f}"
        axis.set_title(f"{name}{error}", fontsize=10)
    figure.colorbar(image, ax=axes, label="vorticity", shrink=0.8)
    figure.supxlabel("x")
    figure.supylabel("y")
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()
