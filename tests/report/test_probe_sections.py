"""What a probe has measured is shown as it is, and said only as far as the intervals go."""

import json
import re
import shutil
import warnings
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2v.config.sites import Site
from gpt2v.errors import UserError
from gpt2v.registry import SECTIONS
from gpt2v.report import maps, write_report
from gpt2v.report.analysis import Rate
from gpt2v.report.grouped import grouped_bars
from gpt2v.report.html import sections_of
from gpt2v.report.lines import Line, rate_lines
from gpt2v.report.read import load_run
from gpt2v.report.sections.cell_patches import CellPatches
from gpt2v.report.sections.leakage import leak_sentence
from gpt2v.report.sections.learning_curves import growth
from gpt2v.report.sections.routing import arrival
from gpt2v.report.sections.use import use_sentence
from gpt2v.report.sites import in_order, places
from gpt2v.report.words import percent, points
from invented_probe import CELLS, SITES, cell_map, make_probe, probe_results

NEW = {
    "probe", "cell-patches", "learning-curves", "leakage", "selectivity", "routing", "use",
}  # fmt: skip


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tests only read."""
    return make_probe(tmp_path_factory.mktemp("probe") / "run")


@pytest.fixture(scope="module")
def content(probe: Path) -> dict[str, Any]:
    """What each section has for its template."""
    run = load_run(probe)
    return {section.name: section.content(run) for section in sections_of(sorted(NEW))}


def names_of(page: str) -> list[str]:
    return re.findall(r'<section id="([^"]+)"', page)


def values(chart: Any) -> dict[str, tuple[str, ...]]:
    """The cells of each row of the table of a chart."""
    return {row[0]: tuple(row[1:]) for row in chart.values.rows}


def test_a_probe_and_a_demo_with_one_show_every_section(
    probe: Path, made: Path, tmp_path: Path
) -> None:
    page = write_report(probe, tmp_path / "page").read_text()
    assert set(names_of(page)) == {*NEW, "again"}
    demo = shutil.copytree(made, tmp_path / "demo")
    shutil.copy(probe / "results.json", demo / "probe")
    page = write_report(demo).read_text()
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(names_of(page)) > NEW
    assert "lost" in names_of(page)


def test_without_these_results_none_is_shown(made: Path, tmp_path: Path) -> None:
    assert not NEW & set(names_of(write_report(made, tmp_path).read_text()))
    older = SimpleNamespace(kinds={"probe"}, measures={}, cell_maps={}, probe=[])
    for name in NEW:
        (section,) = sections_of(name)
        assert section.content(older) is None  # type: ignore[arg-type]
    assert set(SECTIONS) >= NEW


def test_the_curve_has_the_rate_of_every_site(content: dict[str, Any]) -> None:
    shown = values(content["probe"]["curve"])
    assert list(shown)[:3] == ["pixels", "random.4", "vision.0"]
    assert list(shown)[-4:] == ["post-projector", "lm.0", "lm.1", "lm.2"]
    for row in probe_results()["results"]:
        if row["cell"] == "all" and row["decoder"] == "ridge":
            own = shown[str(Site(row["site"], row["layer"]))]
            at = 0 if row["control"] == "none" else 4
            assert own[at] == percent(row["palette_accuracy"])
            assert own[at + 1] == " to ".join(map(percent, row["palette_ci95"]))
            assert own[at + 2] == percent(row["accuracy"])
    bars = values(content["probe"]["chart"])
    assert list(bars) == [
        *("ridge", "Control: shuffled-labels, ridge", "logistic", "projector", "knn")
    ]


def test_sites_on_the_way_of_a_picture_are_joined() -> None:
    rows = [{"site": name, "layer": layer} for name, layer in SITES]
    sites = in_order(reversed(rows))
    assert sites == in_order(rows)
    at = list(places(sites).values())
    apart = dict(zip(map(str, sites[1:]), np.diff(at), strict=True))
    assert apart.pop("random.4") == apart.pop("vision.0") == 1.5
    assert set(apart.values()) == {1.0}
    assert str(in_order([*rows, {"site": "own", "layer": 1}])[-1]) == "own.1"


def test_each_pair_of_cells_is_at_its_place(content: dict[str, Any]) -> None:
    of_vision, main = content["leakage"]["charts"]
    shown = values(main)
    for row in probe_results()["measures"]["leakage"]:
        if row["site"] == "pre-projector":
            read, of = ("{}, {}".format(*row[key]) for key in ("read", "of"))
            value = row["accuracy"] if read == of else row["excess"]
            assert shown[read][CELLS.index(row["of"])] == points(value)
    assert of_vision.title == "vision.0"
    assert "in none of 72 pairs" in content["leakage"]["sentences"][0]
    said = content["leakage"]["sentences"][1]
    assert "pre-projector: in 24 of 72 pairs" in said
    assert "by 14.0 points (95% interval 12.0 to 16.0, p after Holm 0.001)" in said
    assert re.search(r"that of row (\d), column 2 from the patches of", said)


def test_a_leak_must_be_beyond_chance() -> None:
    row = {"of": [0, 1], "read": [1, 0], "excess": 0.2, "excess_ci95": [0.1, 0.3], "p_holm": 0.01}
    row |= {"beyond_bag": 0.1, "beyond_bag_p_holm": 0.06}
    less = [{**row, "p_holm": 0.2, "excess": 0.3}, {**row, "excess": -0.4}, {"accuracy": 1.0}]
    assert "in none of 2 pairs" in leak_sentence(Site("pixels"), less)
    said = leak_sentence(Site("pixels"), [*less, row])
    assert "in 1 of 3 pairs of cells" in said
    assert "beyond what is expected, in 0 beyond the bag;" in said
    placed = leak_sentence(Site("pixels"), [*less, {**row, "beyond_bag_p_holm": 0.04}])
    assert "in 1 beyond the bag" in placed
    assert "by 20.0 points" in said
    assert "that of row 0, column 1 from the patches of row 1, column 0" in said
    assert "only one cell" in leak_sentence(Site("pixels"), less[2:])


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ({}, "no growth can be told"),
        ({"gain": 0.004, "gain_ci95": [0.001, 0.009], "levelled": True}, "ridge has levelled off"),
        ({"gain": 0.03, "gain_ci95": [0.02, 0.04], "levelled": False}, "still grows by 3.0 points"),
        ({"gain": 0.01, "gain_ci95": [-0.02, 0.04], "levelled": False}, "may still grow: it gains"),
    ],
)
def test_growth_is_said_as_far_as_its_interval_goes(last: dict[str, Any], says: str) -> None:
    assert says in growth([{"decoder": "ridge"}, {"decoder": "ridge", **last}])


def use_rows(erased: float, moved: float, half: float = 0.05) -> dict[str, Any]:
    """Rows of a model that says 90% with random changes; 5% are then the class to move to."""
    worse, followed = erased - 0.9, moved - 0.05
    erase = {"minus_random": worse, "minus_random_ci95": [worse - half, worse + half]}
    move = {
        "followed": moved,
        "followed_minus_random": followed,
        "followed_minus_random_ci95": [followed - half, followed + half],
    }
    return {"erase": erase, "move": {**erase, **move}}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (use_rows(0.3, 0.9), "uses the class that stands there. 90.0% of the"),
        (use_rows(0.3, 0.9), "costs 60.0 points more than random"),
        (use_rows(0.88, 0.9), "may stand elsewhere too"),
        (use_rows(0.3, 0.1), "do not clearly follow a move"),
        (use_rows(0.3, 0.9, 0.95), "nothing shows that the model uses"),
        (use_rows(1.0, 0.0), "nothing shows that the model uses"),
        ({"none": {}, "move": {"followed": 0.9}}, "no use can be told"),
    ],
)
def test_use_is_said_only_beyond_random_changes(rows: dict[str, Any], says: str) -> None:
    assert says in use_sentence(Site("vision", 1), rows)


def test_use_is_of_all_measured_cells_together(content: dict[str, Any]) -> None:
    shown = values(content["use"]["charts"][1])
    assert len(shown) == 10
    assert shown["class erased: says what the cell shows"][0] == "30.0%"
    assert shown["moved to another class: says what it is moved to"][0] == "85.0%"


def test_the_object_of_the_asked_cell_arrives(content: dict[str, Any]) -> None:
    question, answer = content["routing"]["sentences"]
    assert (
        "above the bag in 2 of 5 layers, the first being layer 3, and best in layer 4" in question
    )
    assert "to 95.0%; that of other cells is read to 40.0% at most" in answer
    rows = [row for row in probe_results()["measures"]["routing"] if row["layer"] == 0]
    assert "in no layer is the object of the asked cell read above the bag" in arrival(rows)
    alone = [{k: v for k, v in row.items() if k != "bag"} for row in rows]
    alone[0] |= {"palette_ci95": [0.3, 0.5]}
    assert "above chance in 1 of 2 layers, the first being layer 0" in arrival(alone)
    assert "was not read" in arrival([row for row in rows if row["target"] != "asked"])
    assert values(content["routing"]["charts"][1])["4"][0] == "95.0%"


def test_random_classes_other_cells_and_bits(content: dict[str, Any]) -> None:
    own = content["selectivity"]
    assert values(own["bars"])["vision.0: 1, 1: random classes"][0] == "30.0%"
    assert own["selectivity"] == "vision.0 67.0; pre-projector 67.0"
    assert len(own["equal"].values.rows) == 2 * len(SITES)
    assert len(own["moved"].rows) == 12  # none at the cell where it was trained
    assert own["bits"].rows[0][2:] == ("0.750", "4.43", "4,000")


def map_of(own: dict[str, Any], cells: list[list[int]] = CELLS) -> Any:
    rows = [{"cell": cell} for cell in cells]
    run = SimpleNamespace(cell_maps={"pixels": own}, probe=rows)
    return CellPatches().content(run)  # type: ignore[arg-type]


def test_patches_are_counted_by_cell() -> None:
    found = map_of(cell_map())
    assert found["each"] == "4 to 6 patches"
    assert (found["n"], found["unread"], found["others"]) == (49, 4, 0)
    shown = values(found["chart"])
    assert shown["row 0, column 0"] == ("4", "100.0%", percent(4 / (7 / 3) ** 2))
    assert shown["row 1, column 1"][0] == "5"
    assert found["rule"].startswith("All patches that lie in a cell to 50.0% or more")


def test_a_map_is_drawn_only_of_a_picture_of_the_whole_grid() -> None:
    several = cell_map() | {  # a picture of 2 by 2 patches for each of four cells
        "overlap": np.kron(np.eye(4), np.ones(4)).tolist(),
        "patches": np.arange(16).reshape(4, 4).tolist(),
        "patches_across": 4,
    }
    four = [[r, c] for r in range(2) for c in range(2)]
    assert map_of(several, four)["chart"] is None
    for across in (None, 0, -7, 6):
        assert map_of(cell_map() | {"patches_across": across})["chart"] is None
    empty = map_of(cell_map() | {"patches": [[], *cell_map()["patches"][1:]], "rule": "{own}"})
    assert values(empty["chart"])["row 0, column 0"] == ("0", "", "0.0%")
    assert empty["rule"] == "{own}"
    assert map_of(cell_map(33))["chart"] is None  # too many
    assert map_of(cell_map(32))["chart"] is not None


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 8), st.booleans())
def test_charts_of_every_size_have_room(n: int, wide: int, across: int, ci: bool) -> None:
    """matplotlib warns of a drawing without room, or of an axis without length."""
    rate = Rate(0.5, (0.4, 0.6) if ci else None)
    share = np.full((n * wide, across, across), 1 / (n * wide))
    sites = {float(i): f"a long name {i}" for i in range(across)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        every = [list(range(across**2))] * (n * wide)
        assert len(maps.patch_map("a", "b", share, every, wide).values.rows) == n * wide
        cells = [str(cell) for cell in range(n)]
        maps.leakage_map("a", "b", cells, np.full((n, n), 0.1))
        lines = [Line(str(i), dict.fromkeys(sites, rate), control=i > 1) for i in range(n)]
        rate_lines("a", "b", "c", lines, places=sites, joined=1, baselines={"chance": 0.5})
        sizes = {2.0**i: str(2**i) for i in range(across)}
        lines = [Line("d", dict.fromkeys(sizes, rate))]
        drawn = rate_lines("a", "b", "c", lines, places=sizes, doubling=True)
        assert len(drawn.values.rows) == across
        groups = {str(i): {"e": rate, "f": Rate(-0.5, (-0.6, -0.4))} for i in range(across)}
        bars = grouped_bars("a", "b", "c", groups, {"e": "text", "f": "bad"})
        assert bars.values.rows[1][1:] == (
            *("\N{MINUS SIGN}50.0%", "\N{MINUS SIGN}60.0% to \N{MINUS SIGN}40.0%"),
        )


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("results.0.site", 3, "results[0].site: must be text, not 3"),
        ("results.0.layer", "x", "results[0].layer: must be a number, not 'x'"),
        ("results.3.cell", [1], "results[3].cell: must be a row and a column, or 'all', not [1]"),
        ("results.3.cell", [-1, 0], "results[3].cell: must be a row and a column, or 'all'"),
        ("results.0.accuracy", None, "results[0].accuracy: must be a number, not None"),
        ("cells", [], "cells: must be a mapping"),
        ("cells.pixels", 1, "cells.pixels: must be a mapping"),
        ("cells.pixels.rule", None, "cells.pixels.rule: must be text"),
        ("cells.pixels.patches_across", "7", "patches_across: must be a number, or null"),
        ("cells.pixels.overlap", [], "cells.pixels.overlap: must be a list for each cell"),
        ("cells.pixels.overlap.1", [0.5], "overlap: must have a share of each patch for each"),
        (
            "cells.pixels.overlap.1.0",
            "x",
            "overlap[1]: must be numbers, not ['x', 0.0",
        ),
        ("cells.pixels.patches.0", [49], "cells.pixels.patches: there are only 49 patches"),
        ("cells.pixels.patches.0", [-1], "patches[0]: must be numbers of patches, not [-1]"),
        ("measures.leakage.1.of", [0], "leakage[1].of: must be a row and a column"),
        ("measures.leakage.1.excess_ci95", None, "leakage[1].excess_ci95: must be two numbers"),
        ("measures.learning-curve.4.levelled", 1, "[4].levelled: must be true or false, not 1"),
        ("measures.learning-curve.1.gain_ci95", [0], "learning-curve[1].gain_ci95: must be two"),
        ("measures.selectivity.0.selectivity", None, "selectivity[0].selectivity: must be a num"),
        ("measures.transfer.0.trained", "all", "transfer[0].trained: must be a row and a column"),
        ("measures.equal-dimension.0.n_components", {}, "[0].n_components: must be a number"),
        ("measures.description-length.0.compression", float("inf"), "compression: must be a num"),
        ("measures.routing.0.layer", None, "routing[0].layer: must be a number, not None"),
        ("measures.routing.0.bag", None, "routing[0].bag: must be a number, not None"),
        ("measures.causal.0.cell", "none", "causal[0].cell: must be a row and a column, or 'all'"),
        ("measures.causal", {}, "measures.causal: must be a list of rows"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    tmp_path: Path, path: str, value: Any, says: str
) -> None:
    run = make_probe(tmp_path / "run")
    results: Any = deepcopy(probe_results())
    node, *parts = results, *path.split(".")
    for part in parts[:-1]:
        node = node[int(part) if part.isdigit() else part]
    node[int(parts[-1]) if parts[-1].isdigit() else parts[-1]] = value
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError) as error:
        load_run(run)
    line = str(error.value)
    assert line.startswith(f"{run / 'results.json'}: ")
    assert says in line
    assert len(line) < len(str(run)) + 200
