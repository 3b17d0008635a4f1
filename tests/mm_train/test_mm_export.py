"""`gpt2v mm export`: what it writes, refuses and uploads to the Hub."""

import copy
import dataclasses
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import helpers
from gpt2v.cli.main import main
from gpt2v.config.measuring import EvalConfig
from gpt2v.eval.evaluate import evaluate_model
from gpt2v.mm_train import export
from gpt2v.model import llava, load
from llava_cases import Case, build
from stopped import killed_at


@pytest.fixture(scope="module")
def run(lm, table, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    helpers.save_checkpoint(path, 3, build(Case(), lm, table), tokenizer)
    return path


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_writes_the_same_bytes_again_and_only_over_an_export(run, tmp_path, capsys):
    to = tmp_path / "new" / "llava"
    assert main(["mm", "export", str(run), "--to", str(to)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith(f"export: {to}: 16 vision tokens for each picture; exact if")
    first = content(to)
    assert "already holds an export" in helpers.refusal(capsys, "mm", "export", run, "--to", to)
    (to / "model.safetensors").unlink()
    assert main(["mm", "export", str(run), "--to", str(to), "--overwrite"]) == 0
    assert content(to) == first
    (tmp_path / "empty").mkdir()
    assert main(["mm", "export", str(run), "--to", str(tmp_path / "empty")]) == 0
    assert content(tmp_path / "empty") == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "new"]


def test_killed_at_any_change_while_an_export_is_replaced(run, tmp_path, monkeypatch, capfd):
    to, n = tmp_path / "to", 0
    loaded = load.load_gpt2v(str(run))[0]
    monkeypatch.setattr(load, "load_gpt2v", lambda *_, **__: (loaded, loaded.gpt2v))
    real = llava.save_llava

    def small(folder, *rest):
        real(folder, *rest)
        (folder / "model.safetensors").write_text("small")  # quick to write, and another content

    assert main(["mm", "export", str(run), "--to", str(to)]) == 0
    old = content(to)
    monkeypatch.setattr(llava, "save_llava", small)
    assert main(["mm", "export", str(run), "--to", str(tmp_path / "new")]) == 0
    new = content(tmp_path / "new")
    shutil.copytree(to, tmp_path / "old")
    while True:
        killed = killed_at(n, lambda: export.export_llava(str(run), to, overwrite=True))
        capfd.readouterr()
        found = {p.name for p in tmp_path.glob(".to.*")} - {".to.gpt2v-lock", ".to.gpt2v-owner"}
        status = main(["mm", "export", str(run), "--to", str(to)])
        said = capfd.readouterr().err
        assert status == 2
        assert "already holds an export" in said.splitlines()[-1]
        assert not found or any(word in said for word in ("restored", "removed", "unfinished"))
        assert content(to) in (old, new)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old", "to"]
        if not killed:
            break
        shutil.rmtree(to)
        shutil.copytree(tmp_path / "old", to)
        n += 1
    assert content(to) == new
    assert n > 15


def test_only_the_export_itself_is_replaced(run, tmp_path, capsys):
    to = tmp_path / "to"
    words = ["mm", "export", str(run), "--to", str(to)]
    assert main(words) == 0
    capsys.readouterr()
    (to / "thesis.tex").write_text("of the user")
    said = helpers.refusal(capsys, *words, "--overwrite")
    assert f"--to: {to / 'thesis.tex'}: is no file of the export; move it" in said
    (to / "thesis.tex").unlink()
    with (to / "model.safetensors").open("ab") as file:
        file.write(b"trained further")
    said = helpers.refusal(capsys, *words, "--overwrite")
    assert f"--to: {to / 'model.safetensors'}: was changed after the export" in said
    (to / "MANIFEST.json").unlink()  # now it could be a LLaVA of another tool
    for more in ((), ("--overwrite",)):
        said = helpers.refusal(capsys, *words, *more)
        assert "is not empty and is not an export; choose another --to" in said
    assert (to / "model.safetensors").read_bytes().endswith(b"trained further")


def refused(capsys, tmp_path, source, *more):
    """The one line of an export that must fail and write nothing."""
    to = tmp_path / "to"
    line = helpers.refusal(capsys, "mm", "export", source, "--to", to, *more)
    assert not to.exists()
    return line


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"projector": "average"}, "projector: average: LLaVA has no such projector"),
        ({"projector": "pixel-shuffle"}, "projector: pixel-shuffle: LLaVA has no"),
        ({"projector": "convex"}, "projector: convex: LLaVA has no"),
        ({"pool": 2}, "pool: 2: LLaVA has one token for every patch"),
        ({"projector": "pixel-shuffle", "pool": 2}, "projector: pixel-shuffle: LLaVA has no"),
        ({"image_token_id": 5}, "but the model's image_token_id is 5"),
    ],
)
def test_a_model_that_llava_does_not_support_is_refused(
    more, says, lm, table, tokenizer, tmp_path, capsys
):
    model = build(Case(), lm, table, **more)
    helpers.save_checkpoint(tmp_path / "run", 1, model, tokenizer)
    line = refused(capsys, tmp_path, tmp_path / "run")
    assert says in line
    assert line.startswith(f"gpt2v: {tmp_path / 'run'}: ")


def test_a_picture_that_fills_the_context_is_refused(lm, table, tokenizer, tmp_path, capsys):
    config = copy.deepcopy(lm.config)
    config.n_positions = 16
    small = type(lm)(config)
    helpers.save_checkpoint(tmp_path / "run", 1, build(Case(), small, table), tokenizer)
    line = refused(capsys, tmp_path, tmp_path / "run")
    assert "a picture is 16 vision tokens, which leave no room" in line


def test_invalid_runs_and_targets_are_refused(run, lm, tokenizer, tmp_path, capsys):
    helpers.save_checkpoint(tmp_path / "lm", 1, lm, tokenizer)
    assert "a GPT-2 has no vision tower" in refused(capsys, tmp_path, tmp_path / "lm")
    (tmp_path / "bare" / "checkpoints").mkdir(parents=True)
    assert "this run has no checkpoint" in refused(capsys, tmp_path, tmp_path / "bare")
    for absent in (tmp_path / "absent", "nowhere/absent"):
        assert "no such run or checkpoint" in refused(capsys, tmp_path, absent)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{")
    assert "odd: cannot be loaded: " in refused(capsys, tmp_path, tmp_path / "odd")
    assert "--seed: mm export has no such option" in refused(capsys, tmp_path, run, "--seed", "1")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for more in ([], ["--overwrite"]):
        line = helpers.refusal(capsys, "mm", "export", run, "--to", full, *more)
        assert "is not empty and is not an export" in line
        line = helpers.refusal(capsys, "mm", "export", run, "--to", full / "mine.txt", *more)
        assert "is a file" in line
    assert content(full) == {"mine.txt": b"mine"}


# ---- the Hub -------------------------------------------------------------------------------------


class Hub:
    """A substitute for HfApi; `calls` lists the calls."""

    calls: list = []  # noqa: RUF012
    is_private = True
    exists = None  # "public" or "private" if the repository exists already
    fails = None

    def create_repo(self, name, *, private, exist_ok):
        if Hub.fails:
            raise Hub.fails
        Hub.calls.append(("create", name, private, exist_ok))
        Hub.is_private = private if Hub.exists is None else Hub.exists == "private"
        return f"https://hub/{name}"

    def repo_info(self, name):
        return dataclasses.make_dataclass("Info", ["private"])(Hub.is_private)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        Hub.calls.append(("upload", repo_id, sorted(p.name for p in Path(folder_path).iterdir())))


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(Hub, "calls", [])
    return monkeypatch


def test_only_a_push_uploads_and_it_is_private_unless_public(run, hub, tmp_path, capsys):
    argv = ["mm", "export", str(run), "--overwrite", "--to", str(tmp_path / "to")]
    assert main(argv) == 0
    assert Hub.calls == []
    files = sorted(p.name for p in (tmp_path / "to").iterdir())
    assert "README.md" in files
    for more, private in ([], True), (["--public"], False):
        Hub.calls.clear()
        assert main([*argv, "--push", "me/tiny", *more]) == 0
        assert Hub.calls == [("create", "me/tiny", private, True), ("upload", "me/tiny", files)]
    assert capsys.readouterr().out.splitlines()[-1] == "pushed: https://hub/me/tiny"


def test_a_push_that_fails_ends_with_one_line_and_the_export_stays(run, hub, tmp_path, capsys):
    to = tmp_path / "to"
    argv = ["mm", "export", run, "--overwrite", "--to", to, "--push", "me/tiny"]
    hub.setattr(Hub, "exists", "public")
    assert "exists and is public; confirm with --public" in helpers.refusal(capsys, *argv)
    hub.setattr(Hub, "exists", "private")
    assert "exists and is private; omit --public" in helpers.refusal(capsys, *argv, "--public")
    assert [call[0] for call in Hub.calls] == ["create", "create"]
    hub.setattr(Hub, "fails", ConnectionError("no route to host\nmore of it"))
    line = helpers.refusal(capsys, *argv)
    assert line.endswith(f"me/tiny: cannot be uploaded: no route to host; {to} is written")
    assert (to / "model.safetensors").is_file()


def test_invalid_push_options_are_refused_before_anything_is_written(run, hub, tmp_path, capsys):
    for name in ("tiny", "me/ti ny", "a/b/c", "/x"):
        assert "expected OWNER/NAME" in refused(capsys, tmp_path, run, "--push", name)
    assert "--push: is empty" in refused(capsys, tmp_path, run, "--push", "")
    assert "--public: " in refused(capsys, tmp_path, run, "--public")
    assert Hub.calls == []


def test_an_export_is_measured_as_the_run_that_it_is_from(mm_run, tmp_path):
    """Equal records, text and pictures; its tiles are compared with those of the training."""
    export.export_llava(str(mm_run), tmp_path / "llava")
    config = EvalConfig.model_validate(
        {"tiles": helpers.TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 8, "examples": 0}
    )
    results, records = [], []
    for name, model in (("a", mm_run), ("b", tmp_path / "llava")):
        (tmp_path / name).mkdir()
        results.append(evaluate_model(str(model), config, tmp_path / name))
        records.append(pq.read_table(tmp_path / name / "records.parquet"))
    of_model = ["run", "checkpoint", "weights"]
    own, of_export = (table.select(of_model).to_pylist()[0] for table in records)
    assert records[0].drop(of_model).equals(records[1].drop(of_model))
    assert set(records[0]["modality"].to_pylist()) == {"text", "image"}
    assert own["run"] == str(mm_run)
    assert of_export["run"] == str(tmp_path / "llava")
    assert own["weights"] != of_export["weights"]  # another file
    assert [own["weights"], of_export["weights"]] == [r["checkpoint"]["weights"] for r in results]
    assert results[0]["results"] == results[1]["results"]
