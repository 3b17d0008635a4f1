"""What every reader of the page gets: with a screen reader, the keyboard, in the dark, on paper."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import jinja2
import pytest

import gpt2v.report
from elements import Element, elements
from gpt2v.report import analysis, maps, write_report
from gpt2v.report.read import load_run
from gpt2v.report.words import grid_in_words

FOLDER = Path(gpt2v.report.__file__).parent


@pytest.fixture(scope="module")
def single(page: str) -> Element:
    return elements(page)


@pytest.fixture(scope="module")
def several(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Element:
    out = tmp_path_factory.mktemp("several")
    return elements(write_report([made, made], out).read_text())


@pytest.fixture(params=["single", "several"])
def tree(request: pytest.FixtureRequest) -> Element:
    found: Element = request.getfixturevalue(request.param)
    return found


def test_headings_are_in_order(tree: Element) -> None:
    levels = [int(heading.tag[1]) for heading in tree.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    skipped = [(a, b) for a, b in pairwise(levels) if b > a + 1]
    assert skipped == []
    assert max(levels) == (5 if tree.all("article")[0].attributes.get("id") else 4)


def test_landmarks_and_ids_are_unique(tree: Element) -> None:
    (body,) = tree.all("body")
    own = Counter(part.tag for part in body.content if isinstance(part, Element))
    assert (own["header"], own["main"], own["footer"]) == (1, 1, 1)
    assert len(tree.all("main")) == 1
    names = [nav.attributes["aria-label"] for nav in tree.all("nav")]
    assert len(set(names)) == len(names) > 0
    ids = [e.attributes["id"] for e in tree.all() if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    for article in tree.all("article"):
        assert article.attributes.get("aria-labelledby", ids[0]) in ids


def test_the_first_link_skips_to_the_content(tree: Element) -> None:
    assert tree.all("a", "summary")[0].attributes["href"] == "#page-main"
    assert tree.all("main")[0].attributes["id"] == "page-main"


def test_each_figure_has_its_table_and_command(tree: Element) -> None:
    figures = tree.all("figure")
    assert sum(len(figure.all("svg")) for figure in figures) == len(tree.all("svg")) > 9
    for figure in figures:
        (details,) = figure.all("details")
        assert len(details.all("table")) == len(figure.all("svg")) > 0
        assert details.all("summary")[0].text.startswith("Table")
        assert [code.text for code in details.all("code")] == ["gpt2v demo"]
        assert figure.all("figcaption")[0].text
        for svg in figure.all("svg"):
            assert svg.attributes["role"] == "img"
            assert len(svg.attributes["aria-label"]) > 15


def test_tables_have_captions_heads_and_whole_rows(tree: Element) -> None:
    tables = [t for t in tree.all("table") if t.attributes["class"] != "grid"]
    for table in tables:
        assert table.all("caption")[0].text
        assert {head.attributes["scope"] for head in table.all("th")} <= {"row", "col"}
        rows = [row.all("th", "td") for row in table.all("tr")]
        assert len({len(row) for row in rows}) == 1
        assert all(row[0].tag == "th" for row in rows[1:])
    grids = [t.attributes["aria-label"] for t in tree.all("table") if t not in tables]
    assert "grid 0, said from picture" in grids


def test_what_scrolls_is_reached_by_the_keyboard(tree: Element) -> None:
    for element in tree.all("div"):
        if element.attributes.get("class") == "scroll":
            assert element.attributes["tabindex"] == "0"
            assert element.attributes["aria-label"]


def test_a_picture_s_text_says_what_the_grid_holds(made: Path, single: Element) -> None:
    table = analysis.lookups(load_run(made).records, "gpt2v", "image")
    samples = [e for e in single.all("article") if e.attributes["class"] == "sample"]
    assert len(samples) == 6
    for sample in samples:
        number = int(sample.all("h3")[0].text.removeprefix("Grid "))
        objects = table["truth"][table["sample"] == number].reshape(3, 3).tolist()
        assert sample.all("img")[0].attributes["alt"] == grid_in_words(objects)
    assert grid_in_words([["bird", "cat"], ["dog", "frog"]]) == "2x2 grid: bird, cat / dog, frog"


def test_rows_of_confusions_add_up_to_what_the_caption_says(made: Path, single: Element) -> None:
    table = analysis.lookups(load_run(made).records, "gpt2v", "image")
    figure = next(
        f for f in single.all("figure") if f.text.startswith("GPT-2v, picture: what is taken")
    )
    _, *rows = [[cell.text for cell in row.all("th", "td")] for row in figure.all("tr")]
    exact = 0
    for number, (truth, *counts, n) in enumerate(rows):
        asked = table["truth"] == truth
        assert sum(map(int, counts)) == int(n) == asked.sum()
        exact += int(counts[number])
    assert exact == table["exact"].sum()
    n = [int(row[-1]) for row in rows]
    assert f"Percent of the {min(n)} to {max(n)} questions about each" in figure.text
    shares = analysis.confusion(table, load_run(made).classes).shares
    drawn = [float(t.text) for t in figure.all("svg")[0].all("text") if t.text[0].isdigit()]
    assert len(drawn) == (shares >= 0.0005).sum()
    assert sum(drawn) == pytest.approx(100 * len(rows), abs=0.05 * len(drawn))


def test_captions_count_the_questions(single: Element) -> None:
    captions = {f.all("svg")[0].attributes["aria-label"]: f for f in single.all("figure")}
    for start, counts in (
        ("Accuracy by modality", "540 questions about 60 grids each"),
        ("GPT-2v, text, by cell", "60 questions at each cell (540 questions about 60 grids for"),
        ("Probe, by cell", "60 questions to GPT-2v at each cell"),
        ("Probe and model together, 540 questions", "The same 540 questions about pictures"),
    ):
        (figure,) = (f for label, f in captions.items() if label.startswith(start))
        assert counts in figure.all("figcaption")[0].text


def css() -> str:
    return jinja2.Environment().from_string((FOLDER / "page.css.j2").read_text()).render()


def themes() -> list[dict[str, str]]:
    """The colours of the light and of the dark page, by name."""
    blocks = re.findall(r":root \{([^}]*--ink[^}]*)\}", css())
    light, dark = (dict(re.findall(r"--(\w+): (#\w+);", block)) for block in blocks)
    return [light, light | dark]


def luminance(rgb: list[float]) -> float:
    """Relative luminance as WCAG 2 defines it; `rgb` is from 0 to 1."""
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rgb_of(colour: str) -> list[float]:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    return [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_text_can_be_read_on_its_ground(theme: dict[str, str]) -> None:
    """At least 4.5 to 1, and 3 to 1 for bars and lines (WCAG 2, AA)."""
    colours = {name: rgb_of(colour) for name, colour in theme.items()}
    surface = colours["surface"]
    for text in ("ink", "muted", "text", "bad"):
        for ground in ("page", "surface", "badwash", "notice"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for name in ("text", "image", "lm", "probe", "bad"):
        assert contrast(colours[name], surface) >= 3, name
        for alpha in maps.SHADES:
            shade = zip(colours[name], surface, strict=True)
            mixed = [alpha * over + (1 - alpha) * under for over, under in shade]
            assert contrast(colours["ink"], mixed) >= 4.5, (name, alpha)


def test_every_colour_of_the_page_is_defined(page: str) -> None:
    light, dark = themes()
    used = set(re.findall(r"var\(--(\w+)\)", page)) - {"edge", "cols", "em"}
    assert used <= light.keys() == dark.keys()


def test_motion_only_where_it_is_wanted() -> None:
    quiet = re.sub(r"@media \(prefers-reduced-motion: no-preference\) \{.*?\} \}", "", css())
    for moving in ("smooth", "transition", "animation"):
        assert moving not in quiet
