"""The page in a browser, where one is installed."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from pages import GRID, Parsed, decode, make_folder

from jaxsrda.app.page import write_page
from jaxsrda.app.page.frames import VORTICITY

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PRESS = """<script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const heads = [...document.querySelectorAll(".sortable thead button")];
const order = () => [...document.querySelectorAll(".sortable tbody th")].map((cell) => cell.textContent);
const said = {width: innerWidth, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth};
heads[1].click(); said.rising = order();
heads[1].click(); said.falling = order(); said.sort = heads[1].parentElement.ariaSort;
const reader = document.querySelector(".reader input");
reader.value = 2; reader.dispatchEvent(new Event("input"));
said.read = [...document.querySelector(".chart-group").querySelectorAll(".legend .value")].map((v) => v.textContent);
const section = document.querySelectorAll(".player")[1], now = section.querySelector(".now");
const slider = section.querySelector(".time"), canvas = section.querySelector("canvas");
const play = section.querySelector(".play");
document.querySelectorAll(".dots").forEach((box) => box.click());
slider.value = 3; slider.dispatchEvent(new Event("input"));
said.now = now.textContent;
said.colour = [...canvas.getContext("2d").getImageData(384, 64, 1, 1).data];
play.click();
wait(400).then(() => {
  said.moved = Number(slider.value); said.button = play.textContent;
  parent.postMessage(JSON.stringify(said), "*");
});
</script>"""


WIDTHS = (360, 1280)

FRAMES = """<!DOCTYPE html><title>silent</title><script>
const told = [];
addEventListener("message", (event) => {
  told.push(event.data);
  if (told.length === frames.length) document.title = "said " + btoa(unescape(encodeURIComponent(`[${told}]`)));
});
</script>""" + "".join(f'<iframe src="page.html" style="border: 0; width: {width}px"></iframe>' for width in WIDTHS)
"""Windows of any width: that of Chromium itself is at least 500."""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_in_a_browser(tmp_path):
    """Tables sort, charts are read off, players draw what they hold and play, and nothing is wider than the screen."""
    folder = tmp_path / "results"
    folder.mkdir()
    make_folder(folder)
    text = write_page(folder).path.read_text(encoding="utf-8")
    parsed = Parsed(text)
    (tmp_path / "page.html").write_text(text.replace("</body>", f"{PRESS}</body>"), encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAMES, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--window-size=1400,900", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        [BROWSER, *options, str(tmp_path / "frame.html")], capture_output=True, text=True, timeout=120
    )
    told = re.search(r"<title>said (\S+)</title>", done.stdout)
    assert told, done.stderr
    everywhere = json.loads(base64.b64decode(told[1]))
    assert {said["width"] for said in everywhere} == set(WIDTHS)
    order = ["second", "first", "b & <b>"]
    series = {name: json.loads((folder / f"{name}.json").read_text())["series"]["maer"] for name in order}
    low, high = about(parsed.played, 3)
    for said in everywhere:
        assert said["wide"] == 0
        assert said["rising"] == order == said["falling"][::-1] and said["sort"] == "descending"
        assert said["read"][:3] == [f"{series[name][2]:.4g}" for name in sorted(order)]
        assert said["now"].startswith("t = 6.75, MAER ")
        assert (low <= said["colour"][:3]).all() and (said["colour"][:3] <= high).all()
        assert said["moved"] > 3 and said["button"] == "Pause"


def about(played, frame):
    """Colours that the second player's truth may have a quarter from the right and the top, between four pixels."""
    truth, scale = decode(played, 1, "Truth")[0][frame], played["scales"][VORTICITY]
    column, row = 3 * GRID.nx // 4, 3 * GRID.ny // 4
    near = truth[column - 1 : column + 1, row : row + 2]
    indices = np.clip(255 * (near - scale["low"]) / (scale["high"] - scale["low"]), 0, 255)
    corners = np.reshape(scale["colours"], (256, 3))[np.round(indices).astype(int)].reshape(-1, 3)
    return corners.min(0) - 6, corners.max(0) + 6
