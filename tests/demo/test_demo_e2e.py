"""The whole demo, tiny, run twice with one seed, and the commands that a user runs after it."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import gpt2v as front_door

pytestmark = pytest.mark.e2e

HEADLINE = {
    "text_accuracy",
    "image_accuracy",
    "gap",
    "lm_text_accuracy",
    "chance",
    "blind_accuracy",
    "bag_accuracy",
    "probe_accuracy",
    "probe_palette_accuracy",
}
COMMON = {"kind", "versions", "command", "seed", "data_hash", "seconds", "results"}
ROW = {"modality", "instruction", "questions", "accuracy", "ci95", "n_images", "n_questions"}
ROW |= {"chance", "blind_accuracy", "bag_accuracy"}


def gpt2v(*argv: object) -> str:
    """Run one command; it must succeed."""
    command = [sys.executable, "-m", "gpt2v", *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def weights(run: Path) -> str:
    files = sorted(run.glob("checkpoints/step-*/model.safetensors"))
    return hashlib.sha256(files[-1].read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("demo")
    for name in ("one", "two"):
        gpt2v("demo", "--preset", "smoke", "--out", root / name)
    return [root / "one", root / "two"]


def test_results_hold_the_headline_numbers(demos):
    headline = results(demos[0])
    assert set(headline) >= HEADLINE | COMMON
    assert headline["kind"] == "demo"
    for key in HEADLINE:
        assert isinstance(headline[key], float), key
        assert -1 <= headline[key] <= 1
    assert headline["gap"] == pytest.approx(headline["text_accuracy"] - headline["image_accuracy"])
    assert headline["gap_ci95"][0] <= headline["gap"] <= headline["gap_ci95"][1]
    assert headline["data_hash"] == results(demos[0] / "ladder")["data_hash"]
    assert headline["blind_accuracy"] == headline["chance"] == 0.25
    assert 0.38 < headline["bag_accuracy"] < 0.48
    parts = {"tiles", "encoder", "lm", "mm", "eval", "probe", "ladder", "total"}
    assert set(headline["seconds"]) >= parts
    rows = {(row["model"], row["modality"]): row for row in headline["results"]}
    assert set(rows) == {("gpt2v", "text"), ("gpt2v", "image"), ("lm", "text")}
    for row in rows.values():
        assert set(row) >= ROW
        assert row["ci95"][0] <= row["accuracy"] <= row["ci95"][1]


def test_every_sub_run_is_a_run(demos):
    for name in ("encoder", "lm", "mm", "eval", "probe", "ladder"):
        assert set(results(demos[0] / name)) >= COMMON, name
    for name in ("encoder", "lm", "mm", "eval", "probe", "ladder"):
        assert (demos[0] / name / "config.yaml").is_file(), name
    for name in ("encoder", "lm", "mm"):
        lines = (demos[0] / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines if '"loss"' in line][-1] > 1
    records = pq.read_table(demos[0] / "eval" / "records.parquet")
    assert records.num_rows == 3 * 60 * 9


def test_the_ladder_starts_at_the_text_and_ends_at_the_picture(demos):
    rows = results(demos[0] / "ladder")["results"]
    measured = {(r["model"], r["modality"]): r for r in results(demos[0])["results"]}
    assert rows[0]["accuracy"] == measured["gpt2v", "text"]["accuracy"]
    assert rows[-1]["accuracy"] == measured["gpt2v", "image"]["accuracy"]
    assert rows[1]["accuracy"] == rows[0]["accuracy"]
    assert rows[1]["max_logit_difference"] < 1e-4


def test_the_report_is_one_file_that_needs_no_other(demos):
    page = (demos[0] / "report" / "index.html").read_text(encoding="utf-8")
    assert "<html" in page
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert all(link.startswith(("data:", "#")) for link in links), links
    assert not re.search(r"@import|url\(\s*['\"]?(?!data:|#)", page)


@pytest.mark.parametrize("sub_run", ["encoder", "lm", "mm"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(demos, sub_run):
    assert weights(demos[0] / sub_run) == weights(demos[1] / sub_run)


def test_a_stopped_demo_continues_to_the_same_weights(demos, tmp_path):
    out = tmp_path / "cut"
    command = [sys.executable, "-m", "gpt2v", "demo", "--preset", "smoke", "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    limit = time.monotonic() + 120
    begun = out / "lm" / "metrics.jsonl"
    while not (begun.is_file() and begun.read_text()) and time.monotonic() < limit:
        time.sleep(0.02)
    child.terminate()
    child.communicate()
    assert child.returncode in (
        128 + signal.SIGTERM,
        -signal.SIGTERM,
    )  # stopped in a training, or between two
    assert not (out / "results.json").exists()
    printed = gpt2v("demo", "--preset", "smoke", "--out", out, "--resume")
    assert "encoder: kept as it is" in printed
    for name in ("encoder", "lm", "mm"):
        assert weights(out / name) == weights(demos[0] / name), name
    assert results(out)["image_accuracy"] == results(demos[0])["image_accuracy"]


def test_the_same_seed_gives_the_same_numbers(demos):
    one, two = map(results, demos)
    for key in (*HEADLINE, "data_hash", "results"):
        assert one[key] == two[key], key


def test_a_finished_demo_is_not_overwritten(demos):
    command = [sys.executable, "-m", "gpt2v", "demo", "--preset", "smoke", "--out", str(demos[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--overwrite" in done.stderr


def test_a_finished_demo_that_is_resumed_stays_as_it_is(demos):
    out = demos[1]
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    printed = gpt2v("demo", "--preset", "smoke", "--out", out, "--resume")
    assert printed == f"run: {out} is finished already\n"
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    (out / "report" / "index.html").unlink()  # it was stopped before its last step
    gpt2v("demo", "--preset", "smoke", "--out", out, "--resume")
    assert (out / "report" / "index.html").is_file()
    command = [sys.executable, "-m", "gpt2v", "demo", "--preset", "smoke", "--out", str(out)]
    other = [*command, "--resume", "--mm.train.seed", "5"]
    done = subprocess.run(other, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "seed: 0 there, 5 now; --resume needs the same configuration" in done.stderr


def written_at(run):
    """When the weights of all checkpoints of a demo were written."""
    return {p: p.stat().st_mtime_ns for p in run.rglob("checkpoints/*/*.safetensors")}


def test_only_what_is_not_finished_is_done_again(demos):
    out = demos[1]
    before = results(out)
    weights_before = written_at(out)
    assert weights_before
    (out / "results.json").unlink()
    (out / "probe" / "results.json").unlink()
    printed = gpt2v("demo", "--preset", "smoke", "--out", out, "--resume").splitlines()
    kept = [line for line in printed if "kept as it is" in line]
    assert kept == [f"== {n}: kept as it is" for n in ("encoder", "lm", "mm", "eval", "ladder")]
    assert written_at(out) == weights_before
    after = results(out)
    for key in (*HEADLINE, "results"):
        assert after[key] == before[key]


def test_the_model_is_measured_again(demos, tmp_path):
    gpt2v("eval", demos[0] / "mm", "--out", tmp_path / "e", "--n_images", 60, *TILES)
    again = {row["modality"]: row["accuracy"] for row in results(tmp_path / "e")["results"]}
    before = results(demos[0])
    expected = {"text": before["text_accuracy"], "image": before["image_accuracy"]}
    assert again == pytest.approx(expected, abs=1e-9)


def test_the_report_is_written_again(demos):
    before = (demos[0] / "report" / "index.html").read_text(encoding="utf-8")
    (demos[0] / "report" / "index.html").unlink()
    gpt2v("report", demos[0])
    after = (demos[0] / "report" / "index.html").read_text(encoding="utf-8")
    assert len(after) == pytest.approx(len(before), rel=0.01)


TILES = ("--tiles.per_class", 40)


def test_probe_and_ladder_of_the_model(demos, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"model: {demos[0] / 'mm'}\n")
    out = tmp_path / "probe"
    gpt2v("probe", config, "--out", out, "--n_train", 200, "--n_val", 50, "--n_test", 50, *TILES)
    assert {row["control"] for row in results(out)["results"]} == {"none", "shuffled-labels"}
    out = tmp_path / "ladder"
    gpt2v("ablate", "tokens", config, "--out", out, "--n_images", 40, *TILES)
    assert [row["rung"] for row in results(out)["results"]] == ["R0", "R1", "R2", "R3", "R4"]


def test_a_folder_of_own_pictures_needs_nothing_else(tmp_path):
    """Three classes of pictures of different sizes; the palettes have three objects."""
    rng = np.random.default_rng(0)
    for name in ("mug", "old lamp", "étoile"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(7):
            pixels = rng.integers(0, 256, (*rng.integers(20, 90, 2), 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{i}.jpg")
    out = tmp_path / "demo"
    own = ("--tiles", "folder", "--tiles-path", tmp_path / "own")
    printed = gpt2v("demo", "--preset", "smoke", *own, "--out", out)
    assert printed.startswith("demo: preset smoke\n== grids: 3x3, palettes of 3 objects\n")
    headline = results(out)
    assert (headline["tiles"], headline["chance"]) == ("folder", pytest.approx(1 / 3))
    assert "old lamp" in (out / "report" / "index.html").read_text(encoding="utf-8")
    here = front_door.run_demo("folder", tmp_path / "own", preset="smoke", out=tmp_path / "again")
    for key in (*HEADLINE, "data_hash"):
        assert here.results[key] == headline[key], key
    assert here.report.is_file()
    assert here.model().gpt2v is not None
