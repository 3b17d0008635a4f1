"""The report of an invented run directory, compared with the files of the run."""

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gpt2v.errors import UserError
from gpt2v.report import analysis, write_report
from gpt2v.report.read import load_run
from gpt2v.report.verdict import headline, sentence
from invented_run import CLASSES, make_records, make_run, write


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy without a report, which a test may damage."""
    return shutil.copytree(made, tmp_path / "run", ignore=shutil.ignore_patterns("report"))


@pytest.mark.parametrize(
    "lost",
    ["probe", "ladder", "lm", "encoder/metrics.jsonl", "probe/records.parquet"],
)
def test_what_a_demo_lacks_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    write_report(run)
    assert capsys.readouterr().err == ""
    path = run / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_report(run)
    name = lost if "/" in lost else f"{lost}/"
    assert capsys.readouterr().err.splitlines() == [
        f"gpt2v: {run}: the report lacks what is not there: {name}"
    ]


def test_page_is_self_contained(made: Path, page: str) -> None:
    assert [path.name for path in (made / "report").iterdir()] == ["index.html"]
    for outside in ("http://", "https://", "<script", 'rel="stylesheet"', "@import"):
        assert outside not in page
    references = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert references
    assert all(ref.startswith(("#", "data:")) for ref in references)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {ref[1:] for ref in references if ref[0] == "#"} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)
    assert "#0102" not in page  # every stand-in colour became a page colour


def test_headline_numbers_are_those_of_the_files(made: Path, page: str) -> None:
    results = json.loads((made / "results.json").read_text())
    text, image, gap, probe = re.findall(r'<dd class="big">([^<]*?)\s*<', page)
    assert gap == f"{100 * results['gap']:.1f}"
    for shown, name in ((text, "text"), (image, "image"), (probe, "probe_palette")):
        assert shown == f"{results[f'{name}_accuracy']:.1%}"
    low, high = results["results"][1]["ci95"]
    assert f"95% interval <i>{low:.1%} \N{EN DASH} {high:.1%}</i>" in page
    for shown in ("10.0%", "25.0%", "43.1%", "95.1%", "1.2e-06", "16 min 16 s", "5f2c9a0e"):
        assert shown in page


def test_cell_accuracy_equals_a_plain_count(made: Path, page: str) -> None:
    hits: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for row in pq.read_table(made / "eval/records.parquet").to_pylist():
        if (row["model"], row["modality"]) == ("gpt2v", "image"):
            hits[row["row"], row["col"]].append(row["exact"])
    table = analysis.lookups(load_run(made).records, "gpt2v", "image")
    cells = analysis.cell_accuracy(table, table["exact"])
    drawn = page[page.index('aria-label="GPT-2v, picture, by cell') :]
    drawn = drawn[: drawn.index("</svg>")]
    for (r, c), values in hits.items():
        assert cells[r, c] == sum(values) / len(values)
        assert f">{100 * sum(values) / len(values):.1f}%<" in drawn


def test_confusions_and_joint_outcomes_add_up(made: Path) -> None:
    loaded = load_run(made)
    table = analysis.lookups(loaded.records, "gpt2v", "image")
    confusion = analysis.confusion(table, loaded.classes)
    assert (loaded.classes, confusion.counts.sum()) == (CLASSES, 9 * 60)
    assert confusion.counts[~confusion.wrong].sum() == table["exact"].sum()
    for truth, counts in zip(confusion.truths, confusion.counts, strict=True):
        assert counts.sum() == (table["truth"] == truth).sum()
    assert loaded.probe_records is not None
    joint = analysis.joint_outcomes(table, loaded.probe_records) or {}
    assert sum(joint.values()) == 9 * 60
    assert joint[True, True] + joint[False, True] == table["exact"].sum()


def test_a_probe_of_other_grids_is_not_joined(made: Path) -> None:
    loaded = load_run(made)
    table = analysis.lookups(loaded.records, "gpt2v", "image")
    assert loaded.probe_records is not None
    other = {**loaded.probe_records, "truth": np.roll(loaded.probe_records["truth"], 1)}
    assert analysis.joint_outcomes(table, other) is None


def test_samples_show_right_and_wrong(made: Path, page: str) -> None:
    table = analysis.lookups(load_run(made).records, "gpt2v", "image")
    chosen = analysis.choose_samples(table, list(range(24)))
    wrong = [s for s in chosen if not table["exact"][table["sample"] == s].all()]
    assert (len(chosen), len(wrong)) == (6, 3)
    assert re.findall(r"<h3>Grid (\d+)</h3>", page) == [str(sample) for sample in chosen]
    marked = sum((~table["exact"][table["sample"] == s]).sum() for s in wrong)
    assert page.count('<td class="wrong">') >= marked


def test_samples_show_what_is_said_and_not_the_best_choice(run: Path) -> None:
    path = run / "eval/records.parquet"
    records = pq.read_table(path).to_pylist()
    first = [r for r in records if (r["model"], r["modality"]) == ("gpt2v", "image")][:4]
    said = ["", "hor<i>se", "a\x00\tb", None]
    best = ["none", first[1]["truth"], "none", "none"]
    for record, words, choice in zip(first, said, best, strict=True):
        record |= {"generated": words, "prediction": choice, "exact": False}
    write(path, records)
    page = write_report(run).read_text()
    shown = ["(nothing)", "hor&lt;i&gt;se<sup>*</sup>", r"a\x00\tb", "none"]
    for record, words in zip(first, shown, strict=True):
        cell = f"<b>✗</b> {words}<br><span>is <i>{record['truth']}</i></span></td>"
        assert cell in page


def test_pictures_of_single_cells_are_shown_in_the_grid_s_order(run: Path, tmp_path: Path) -> None:
    """As an evaluation with `layout: multi` saves them; cell 10 comes after cell 9."""
    folder = run / "eval/examples"
    whole = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    for name, content in whole.items():
        (folder / name).unlink()
        for cell in range(12):
            (folder / f"{name[:-4]}-{cell}.png").write_bytes(content + bytes([cell]))
    assert load_run(run).pictures[0] == [whole["0.png"] + bytes([cell]) for cell in range(12)]
    page = write_report([run], tmp_path / "page").read_text()
    assert page.count('<div class="cells" style="--cols: 3">') == 6
    assert page.count('alt="cell 11"') == 6


def test_class_names_are_escaped(tmp_path: Path) -> None:
    names = ["<script>alert('$x')</script>", *CLASSES[1:]]
    page = write_report(make_run(tmp_path / "run", classes=names)).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page


@pytest.mark.parametrize("gone", [("ladder", "probe"), ("encoder", "lm", "mm", "eval/examples")])
def test_sections_without_files_are_left_out(run: Path, gone: tuple[str, ...]) -> None:
    for name in gone:
        (run / name).rename(run.parent / name.replace("/", "-"))
    page = write_report(run).read_text()
    assert ('id="ladder"' in page) == ("ladder" not in gone)
    assert ('id="learning"' in page) == ("mm" not in gone)
    assert ('id="samples"' in page) == ("eval/examples" not in gone)
    assert 'id="objects"' in page


def test_one_modality_is_enough_and_disagreeing_files_are_pointed_out(run: Path) -> None:
    records, _ = make_records(5, {"gpt2v/text": 1.0}, CLASSES)
    write(run / "records.parquet", records)
    rows = json.loads((run / "results.json").read_text())["results"][:1]
    write(run / "results.json", {"kind": "eval", "results": rows})
    assert write_report(run, run / "elsewhere") == run / "elsewhere/index.html"
    page = (run / "elsewhere/index.html").read_text()
    assert f"{rows[0]['accuracy']:.1%} from text" in page
    assert "From pictures" not in page
    assert "for gpt2v on text, the records say 100.0%" in page


def test_verdict_follows_the_numbers(made: Path) -> None:
    run = load_run(made)
    head = headline(run)
    level = analysis.Rate(0.001, (-0.01, 0.012))
    assert "no measurable gap (0.1 points)" in sentence(replace(head, gap=level), run)
    assert "lost" not in sentence(head, run)  # without the decoders beside the model


def test_same_input_same_bytes_without_torch(run: Path, page: str) -> None:
    code = "import sys, pathlib, gpt2v.report as r; r.write_report(pathlib.Path(sys.argv[1]))"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(run)], check=True)
    assert (run / "report/index.html").read_text() == page


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("results.json", None, "not found"),
        ("results.json", b"{", "cannot be read as JSON"),
        (
            "results.json",
            b'{"kind": "demo", "results": [{"modality": "text"}]}',
            "no key 'accuracy'",
        ),
        ("results.json", b'{"gap": "x", "results": []}', "gap: must be a number"),
        ("eval/records.parquet", None, "not found"),
        ("eval/records.parquet", b"PAR1", "cannot be read as parquet"),
        ("eval/records.parquet", "probe/records.parquet", "has no column 'model'"),
        ("probe/records.parquet", b"", "cannot be read as parquet"),
        ("mm/metrics.jsonl", b'{"step": 1}\n{"st', "line 2 is not JSON"),
        ("eval/examples/0.png", b"GIF89a", "is not a PNG picture"),
    ],
)
def test_broken_files_are_named(run: Path, name: str, content: Any, says: str) -> None:
    """The file is deleted (`content` is None), or replaced by bytes or by another file."""
    path = run / name
    bad = (run / content).read_bytes() if isinstance(content, str) else content
    path.unlink() if bad is None else path.write_bytes(bad)
    with pytest.raises(UserError) as caught:
        write_report(run)
    assert re.fullmatch(f"{re.escape(str(path))}: .*{re.escape(says)}.*", str(caught.value))
    assert not (run / "report").exists()


def test_a_failed_write_leaves_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match=r"index.html: cannot be written: disk full"):
        write_report(run)
    assert not (run / "report").exists()


def test_a_page_of_another_tool_is_not_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<title>my thesis</title>")
    with pytest.raises(UserError, match=r"index.html: was not written by gpt2v; choose another"):
        write_report(run, tmp_path)
    assert (tmp_path / "index.html").read_text() == "<title>my thesis</title>"
    (tmp_path / "index.html").unlink()
    assert write_report(run, tmp_path) == write_report(run, tmp_path)
