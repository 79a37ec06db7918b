"""The page of a folder's results: whole, offline, accessible, and its numbers and fields those of the files."""

import io
import itertools
import json
import re
import shlex

import numpy as np
import pytest
from pages import EVERY, EVIL, GRID, TIMES, TRUTH, Parsed, decode, fields, make_folder, record

from jaxsrda.app.cli import main as cli
from jaxsrda.app.cli.common import command_of
from jaxsrda.app.page import find_results, write_page
from jaxsrda.app.page.charts import Axis
from jaxsrda.app.page.found import read_record
from jaxsrda.app.page.frames import MAGNITUDE, VORTICITY, Panel, palettes, still
from jaxsrda.app.page.scores import MEANINGS, best, meaning
from jaxsrda.app.report import SHOWN
from jaxsrda.core.files import write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    make_folder(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    written = write_page(folder)
    text = written.path.read_text(encoding="utf-8")
    assert written.size == len(text.encode()) < 8e6
    assert (written.results, written.players, written.pictures) == (4, 2, 1)
    return Parsed(text), text


def test_nothing_comes_from_outside(page):
    parsed, text = page
    assert not re.search(r"https?:|//\w+\.", text) and not parsed.all("link", "iframe", "object", "base")
    for name, attributes, _ in parsed.elements:
        assert attributes.get("src", "data:").startswith("data:"), name
        assert attributes.get("href", "#").startswith("#"), name
    targets = {attributes["href"][1:] for _, attributes, _ in parsed.all("a")}
    ids = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert targets <= set(ids) and len(set(ids)) == len(ids)


def test_everything_has_words(page):
    parsed, _ = page
    assert not parsed.open  # every element was closed
    for name, attributes, text in parsed.all("img", "canvas", "svg", "input", "button"):
        words = attributes.get("alt") if name == "img" else attributes.get("aria-label")
        labelled = name == "input" and attributes["type"] == "checkbox"  # within their label
        assert words or labelled or text or attributes.get("aria-hidden") == "true", (name, attributes)
    levels = [int(name[1]) for name, _, _ in parsed.all("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels))
    headings = {text for _, _, text in parsed.all("h2")}
    expected = {"Summary", "Scores", "Scores in time", "Fields", "Spectra", "Rank histograms", "Pictures", "Notes"}
    assert headings == expected | {"How each result was made"}
    labels = [a["alt"] for _, a, _ in parsed.all("img") if a["alt"].startswith("deep/fields.png")]
    assert labels == ["deep/fields.png: truth, background, analysis mean, spread and |error| at some times"]


def test_the_table_holds_the_records(page, folder):
    """Every result and score with the record's own numbers, the best marked: least, or nearest to 1."""
    _, text = page
    table = text[text.index('class="sortable"') :]
    inside = Parsed("<table " + table[: table.index("</table>")] + "</table>")
    lines = [line for line in "".join(table[: table.index("</table>")]).split("<tr>")[2:]]
    heads = [text for _, _, text in inside.all("button")]
    assert heads == ["result", "MAER", "CRPS", "spread–skill", "of my own"]
    marked = {}
    for name, line in zip(("b & <b>", "first", "second"), lines, strict=True):
        cells = Parsed("<tr>" + line.split("</tr>")[0] + "</tr>")
        assert cells.all("th")[0][2] == name
        scores = json.loads((folder / f"{name}.json").read_text())["scores"]
        for key, (_, attributes, shown) in zip(("maer", "crps", "spread_skill", "of my own"), cells.all("td")):
            assert float(attributes["data-value"]) == scores[key]["mean"]
            assert shown.startswith(f"{scores[key]['mean']:.3f}")
            assert f"[{scores[key]['low']:.3f}, {scores[key]['high']:.3f}]" in shown
            if attributes.get("class") == "best":
                marked.setdefault(key, []).append(name)
    assert marked["maer"] == ["second"] and marked["spread_skill"] == ["b & <b>"] and "of my own" not in marked


def test_every_score_has_a_meaning():
    assert set(SHOWN) <= set(MEANINGS)
    assert best("crps", {"a": 0.2, "b": 0.1}) == "b" and best("spread", {"a": 1, "b": 2}) is None
    assert best("error_spread_correlation", {"a": 0.2, "b": 0.4, "c": float("nan")}) == "b"
    assert best("maer", {"a": 0.2}) is None and "smaller is better" in meaning("maer")


def test_series_are_read_off(page, folder):
    """Legends and tables hold the series at their times; a null is a gap."""
    parsed, text = page
    group = next(a for _, a, _ in parsed.all("div") if a.get("data-label") == "time")
    assert [float(x) for x in json.loads(group["data-x"])] == list(TIMES[EVERY:])
    places = json.loads(group["data-places"])
    assert len(places) == 8 and np.allclose(np.diff(places), places[1] - places[0], atol=0.02)
    series = json.loads((folder / "first.json").read_text())["series"]
    values = [json.loads(a["data-values"]) for _, a, text in parsed.all("li") if text.startswith("first ")]
    assert values[0] == [f"{value:.4g}" for value in series["maer"]] and values[1][1] == "–"
    table = text[text.index("MAER: table") :]
    cells = Parsed("<table>" + table[table.index("<tbody>") : table.index("</table>")] + "</table>").all("td")
    assert [float(text) for _, _, text in cells[1::3]] == pytest.approx(series["maer"], rel=1e-3)  # the second column


def test_axes_have_round_ticks():
    assert Axis(0, 1, 0, 100).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1] and Axis(0, 1, 100, 0).place(0.25) == 75
    assert Axis(1, 1000, 0, 300, log=True).ticks() == [1, 10, 100, 1000]
    assert Axis(1, 1000, 0, 300, log=True).place(10) == 100


def test_players_hold_the_fields(page, folder):
    parsed, _ = page
    played = parsed.played
    assert [text for _, _, text in parsed.all("h3")][:2] == ["deep/second", "first"]
    dataset = fields(1)
    mean = dataset["omega_mean"].values
    expected = {"Truth": TRUTH, "Analysis mean": mean, "Spread": dataset["omega_std"].values}
    expected["|Error|"] = abs(mean - TRUTH)
    for name, values in expected.items():
        decoded, step = decode(played, 1, name)
        assert abs(decoded - values).max() <= step / 2 + 1e-6, name
    movie = played["players"][1]
    assert movie["times"] == list(TIMES)
    np.testing.assert_allclose(movie["maer"], expected["|Error|"].sum((1, 2)) / abs(TRUTH).sum((1, 2)), atol=1e-4)
    assert len(played["arrays"]) == 7  # one truth for both
    assert played["scales"][VORTICITY]["low"] == -played["scales"][VORTICITY]["high"] < 0
    assert played["scales"][MAGNITUDE]["low"] == 0
    # A sensor is where the pixel of its grid point is: pixels are centred on points, rows run from the far wall.
    assert sorted(map(int, movie["sensors"])) == [0, 4, 8]
    left, down, _ = np.transpose(movie["sensors"]["4"])
    np.testing.assert_allclose((left * GRID.nx - 0.5) % GRID.nx, dataset["obs_x_index"][3:6] % GRID.nx, atol=0.01)
    np.testing.assert_allclose((1 - down) * GRID.ny - 0.5, dataset["obs_y_index"][3:6], atol=0.01)


def test_pages_stay_small(folder, tmp_path):
    """Frames are thinned to fit, which the page says; without room for any, a still of each remains."""
    whole = write_page(folder, tmp_path / "page.html").size
    small = write_page(folder, tmp_path / "small.html", size=whole - 50_000)
    parsed = Parsed(small.path.read_text(encoding="utf-8"))
    assert small.size <= whole - 50_000
    assert any("every 2nd point in x and y and every frame" in text for _, _, text in parsed.all("p"))
    decoded, step = decode(parsed.played, 0, "Truth")
    assert abs(decoded - TRUTH[:, ::2, ::2]).max() <= step / 2 + 1e-6
    stills = write_page(folder, tmp_path / "stills.html", size=1000)
    parsed = Parsed(stills.path.read_text(encoding="utf-8"))
    assert parsed.played == {} and len([1 for _, a, _ in parsed.all("img") if "Truth of" in a["alt"]]) == 2
    assert any("do not fit the page in motion" in text for _, _, text in parsed.all("p"))
    assert stills.notes[-1].startswith("deep/fields.png: left out") and stills.pictures == 0


def test_stills_have_the_colours_of_the_page():
    image = pytest.importorskip("PIL.Image")
    frames = np.array([[[0, 255], [128, 64]]], np.uint8)
    palette = palettes()[VORTICITY]
    shown = np.asarray(
        image.open(io.BytesIO(still(Panel(VORTICITY, -2.0, 4.0, frames), 0, palette, 2.0))).convert("RGB")
    )
    for row, column, value in ((0, 0, -2.0), (0, 1, 4.0), (1, 0, -2 + 6 * 128 / 255)):
        np.testing.assert_array_equal(shown[row, column], palette[int(np.clip(round(255 * (value + 2) / 4), 0, 255))])


def test_names_are_text(page):
    """Markup in names, methods and attributes of files is shown, not obeyed."""
    parsed, text = page
    assert text.count("<script") == 2 and len(parsed.all("script")) == 2 and not parsed.all("b")
    cells = [text for _, _, text in parsed.all("td")]
    assert EVIL in cells and any(EVIL in cell and "noise 0.1" in cell for cell in cells)
    assert any("alert" in text for _, _, text in parsed.all("pre"))
    assert "jaxsrda assimilate --method x" in [text for _, _, text in parsed.all("pre")]


def test_what_is_skipped_is_named(page):
    parsed, _ = page
    notes = [text for _, _, text in parsed.all("li") if "skipped" in text]
    assert len(notes) == 4
    for start, why in (
        ("broken.json", "not readable as JSON"),
        ("odd.json", "not of the expected form"),
        ("run.json", "it has no method and no scores"),
        ("torn.nc", "not readable"),
    ):
        assert any(text.startswith(start) and why in text for text in notes), start


@pytest.mark.parametrize(
    "part",
    [
        {"scores": {"maer": {"mean": 1}}},
        {"scores": []},
        {"series": {"maer": [[1]]}},
        {"times": [2, 1]},
        {"series": [3]},
    ],
)
def test_records_of_another_form_are_none(part, tmp_path):
    write_json(tmp_path / "a.json", record("a", 0.1, 1) | part)
    with pytest.raises(ValueError, match="no record: its scores, series, statistics or times are not of the expected"):
        read_record(tmp_path / "a.json")


def test_other_truths_make_a_warning(tmp_path):
    write_json(tmp_path / "a.json", record("a", 0.1, 1))
    other = record("b", 0.2, 1)
    other["config"]["seed"], other["truths"], other["finite"] = 3, 5, False
    write_json(tmp_path / "b.json", other)
    parsed = Parsed(write_page(tmp_path).path.read_text(encoding="utf-8"))
    said = [text for _, attributes, text in parsed.all("p") if attributes.get("class") == "warning"]
    assert said[0] == "b: the ensemble did not stay finite."
    assert said[1] == "The results differ in seed, number of truths: compare their scores with care."


def test_command(folder, capsys, tmp_path):
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    printed = capsys.readouterr().out
    assert "4 results, 2 players, 1 picture" in printed and "broken.json: skipped" in printed
    assert (tmp_path / "page.html").exists()


def refuses(capsys, arguments, *parts):
    assert cli.main(["report", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(part in error for part in parts), error


def test_errors_are_one_line(folder, tmp_path, capsys):
    refuses(capsys, [tmp_path / "none"], "expected a folder of results, found none")
    refuses(capsys, [folder / "run.json"], "found a file")
    refuses(capsys, [tmp_path], "expected records (.json) that --json", "found none")
    refuses(capsys, [folder, "--out", tmp_path / "page.pdf"], ".html", ".pdf")
    (tmp_path / "torn.nc").write_bytes(b"no NetCDF")
    refuses(capsys, [tmp_path], "found none (torn.nc: not readable")
    (tmp_path / "torn.zarr").mkdir()
    refuses(capsys, [tmp_path], "expected one result of a name, found torn.nc and torn.zarr; rename or move one")
    assert not list(tmp_path.glob("*.html"))
    with pytest.raises(ValueError, match="expected a folder of results"):
        find_results(tmp_path / "none")


def test_a_record_says_its_command(monkeypatch):
    """The command in a record gives the same options again."""
    line = "--method enkf-dual --members 7 --blur 2.0 0.5 --save-members --corrector True --out"
    given = []
    monkeypatch.setattr(cli.Assimilate, "run", lambda self: given.append(self))
    assert cli.main(["assimilate", *line.split(), "with space.nc"]) == 0
    command = command_of("assimilate", given[0])
    assert command.startswith("jaxsrda assimilate --method enkf-dual --members 7") and "'with space.nc'" in command
    assert cli.main(shlex.split(command)[1:]) == 0 and given[0] == given[1]
