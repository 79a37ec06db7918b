"""A folder of made-up results on jet_small, and a parser for the page that is made of it."""

import base64
import html.parser
import json

import numpy as np

from jaxsrda.app.datasets import analysis_dataset, write_dataset
from jaxsrda.app.page.frames import MAGNITUDE, Panel, palettes, still
from jaxsrda.core.files import write_json
from jaxsrda.flow.testbed import jet_small

GRID, FRAMES, EVERY = jet_small().grid, 12, 4
TIMES = 6 + 0.25 * np.arange(FRAMES)
EVIL = '<script>alert("1")</script> & </script>'


def waves():
    """Smooth random fields (frames, nx, ny), another each frame, alike in no direction."""
    sizes, number = np.random.default_rng(0).normal(size=(FRAMES, 3, 3)), np.arange(1, 4)[:, None]
    return np.einsum("tkl,kx,ly->txy", sizes, np.sin(number * GRID.x + number), np.sin(number * GRID.y + 1))


TRUTH = waves()


class Parsed(html.parser.HTMLParser):
    """Elements as (name, attributes, text within), in order, and whether every tag was closed by its own."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        if tag not in ("img", "input", "br", "meta"):
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, *tags, **attributes):
        return [e for e in self.elements if e[0] in tags and all(e[1].get(k) == v for k, v in attributes.items())]

    @property
    def played(self):
        (element,) = self.all("script", id="played")
        return json.loads(element[2])


def record(method, maer, spread_skill, seed=0):
    rng = np.random.default_rng(seed)
    scores = {"maer": maer, "spread_skill": spread_skill, "crps": 0.2, "of my own": 3.0}
    return {
        "method": method,
        "config": {"testbed": "jet-small", "seed": 0, "sensors": [{"layout": EVIL, "operator": "u", "noise_std": 0.1}]},
        "scores": {name: {"mean": v, "low": v - 0.001, "high": v + 0.0012} for name, v in scores.items()},
        "series": {"maer": rng.random(8), "crps": [0.1, None, *rng.random(6)], "spread_skill": rng.random(8)},
        "times": TIMES[EVERY:],
        "statistics": {
            "rank_histogram": [0.5, 0.3, 0.2],
            "energy_truth": [0, 1, 0.1, 0],
            "energy_mean": [0, 1, 0.2, 0],
        },
        "truths": 2,
        "seconds": {"compile": 1.0, "run": 2.0},
        "finite": True,
        "command": "jaxsrda assimilate --method x",
    }


def fields(seed):
    """A dataset of random analyses with three sensors at each analysis time."""
    rng = np.random.default_rng(seed)
    shape, observed = (FRAMES, *GRID.shape), (FRAMES // EVERY, 3)
    mean = TRUTH + rng.normal(size=shape) / 5
    positions = np.stack([rng.uniform(0, 2 * np.pi, observed), rng.uniform(0, np.pi, observed)], -1)
    observations = {"values": rng.normal(size=observed), "positions": positions, "variance": np.ones(observed)}
    observations |= {"mask": np.ones(observed, bool), "times": TIMES[::EVERY]}
    made = {"omega_mean": mean, "omega_std": rng.random(shape), "omega_truth": TRUTH}
    return analysis_dataset(made, TIMES, GRID, {"method": "m", "config": {"a": EVIL}}, EVERY, observations)


def make_folder(folder):
    """Three records, analyses of two of them on one truth, a picture, and files that are something else."""
    write_json(folder / "first.json", record("first", 0.25, 0.8, 1))
    write_json(folder / "second.json", record("second", 0.125, 1.5, 2))
    write_json(folder / "b & <b>.json", record(EVIL, 0.5, 1.1, 3))
    write_dataset(folder / "first.nc", fields(1))
    (folder / "deep").mkdir()
    write_dataset(folder / "deep" / "second.zarr", fields(2))
    picture = Panel(MAGNITUDE, 0.0, 1.0, np.zeros((1, 2, 2), np.uint8))
    (folder / "deep" / "fields.png").write_bytes(still(picture, 0, palettes()[MAGNITUDE], 1.0))
    (folder / "broken.json").write_text("{")
    write_json(folder / "run.json", {"config": {}, "seconds": 1})
    write_json(folder / "odd.json", {"method": "m", "scores": {"maer": 3}})
    (folder / "torn.nc").write_bytes(b"no NetCDF")


def decode(played, player, panel):
    """Frames (time, nx, ny) of a panel as the script sees them, and the size of a step."""
    movie = played["players"][player]
    (of,) = [of for of in movie["panels"] if of["name"] == panel]
    steps = np.frombuffer(base64.b64decode(played["arrays"][of["frames"]]), np.uint8)
    frames = steps.reshape(len(movie["times"]), movie["height"], movie["width"])[:, ::-1].swapaxes(1, 2)
    return of["low"] + (of["high"] - of["low"]) * frames / 255, (of["high"] - of["low"]) / 255
