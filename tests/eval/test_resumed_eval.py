"""A stopped evaluation continues with what is missing, and ends with the same bytes."""

import json
import shutil

import pytest

from gpt2v.cli.main import main
from gpt2v.eval.shards import EvaluationJob
from gpt2v.run_layout import checkpoints_of
from helpers import refusal

N = 600  # grids: three shards of each modality


def argv(model, run, *more):
    words = ["eval", model, "--n_images", N, "--examples", 2, "--out", run, *more]
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def whole(mm_run, tmp_path_factory):
    """The run of an evaluation that was not stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(argv(mm_run, run)) == 0
    return run


@pytest.fixture
def stopped(mm_run, tmp_path, monkeypatch, capsys):
    """A run that was stopped in its fifth shard of six."""
    do, run = EvaluationJob.do, tmp_path / "run"

    def stop(job, piece):
        if piece == 4:
            raise KeyboardInterrupt
        do(job, piece)

    with monkeypatch.context() as patched:
        patched.setattr(EvaluationJob, "do", stop)
        assert main(argv(mm_run, run)) == 130
    capsys.readouterr()
    assert len(list((run / "shards").iterdir())) == 4
    assert not (run / "results.json").exists()
    return run


def results(run):
    found = json.loads((run / "results.json").read_text())
    return {k: v for k, v in found.items() if k not in ("seconds", "command")}


def test_it_ends_with_the_same_bytes(whole, stopped, mm_run, monkeypatch, capsys):
    done = []
    do = EvaluationJob.do
    monkeypatch.setattr(EvaluationJob, "do", lambda job, i: (done.append(i), do(job, i)))
    assert main(argv(mm_run, stopped, "--resume")) == 0
    assert done == [4, 5]
    for name in ("records.parquet", "config.yaml", "examples/0.png", "examples/1.png"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert results(stopped) == results(whole)
    assert {p.name for p in stopped.iterdir()} == {p.name for p in whole.iterdir()}
    assert "shards" not in {p.name for p in stopped.iterdir()}


def test_a_finished_one_is_shown_again(whole, mm_run, capsys):
    before = (whole / "results.json").read_bytes()
    assert main(argv(mm_run, whole, "--resume")) == 0
    assert "gap, text minus image" in capsys.readouterr().out
    assert (whole / "results.json").read_bytes() == before


def test_without_resume_it_is_not_touched(stopped, mm_run, capsys):
    line = refusal(capsys, *argv(mm_run, stopped))
    assert "already holds an unfinished run; add --resume" in line
    assert len(list((stopped / "shards").iterdir())) == 4


def test_other_options_weights_and_versions_are_refused(stopped, mm_run, tmp_path, capsys):
    line = refusal(capsys, *argv(mm_run, stopped, "--resume", "--seed", 5))
    assert "seed: 1 there, 5 now; --resume needs the same configuration" in line
    other = checkpoints_of(mm_run)[0]
    if len(checkpoints_of(mm_run)) > 1:
        line = refusal(capsys, *argv(other, stopped, "--resume"))
        assert "shards/000000.parquet: weights: was" in line
        assert "--resume needs the same; --overwrite starts again" in line


def test_a_damaged_shard_is_named(stopped, mm_run, capsys):
    path = stopped / "shards" / "000001.parquet"
    path.write_bytes(b"no parquet")
    line = refusal(capsys, *argv(mm_run, stopped, "--resume"))
    assert f"{path}: cannot be read" in line


def test_a_shard_that_is_damaged_at_the_end_is_named(stopped, mm_run, monkeypatch, capsys):
    """Its metadata can be read, its columns cannot."""
    path = stopped / "shards" / "000001.parquet"
    write = EvaluationJob.write

    def damage(job, to):
        content = path.read_bytes()
        path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
        write(job, to)

    monkeypatch.setattr(EvaluationJob, "write", damage)
    line = refusal(capsys, *argv(mm_run, stopped, "--resume"))
    assert f"{path}: cannot be read" in line
    assert "--overwrite starts again" in line


def test_shards_of_another_version_are_refused(stopped, mm_run, monkeypatch, capsys):
    monkeypatch.setattr("gpt2v.runs.__version__", "9.9")
    line = refusal(capsys, *argv(mm_run, stopped, "--resume"))
    assert "shards/000000.parquet: version of gpt2v: was 0.1.0, and is 9.9 now" in line


def test_overwrite_starts_again(stopped, whole, mm_run):
    shutil.copy(stopped / "shards" / "000000.parquet", stopped / "shards" / "000005.parquet")
    assert main(argv(mm_run, stopped, "--overwrite")) == 0
    records = [(run / "records.parquet").read_bytes() for run in (stopped, whole)]
    assert records[0] == records[1]
