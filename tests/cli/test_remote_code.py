"""Python code in a checkpoint is never run, and the user is never asked to run it."""

import json
import shutil
import sys

import datasets
import pytest

import helpers
from gpt2v.errors import UserError
from gpt2v.model.encoders import load_encoder
from gpt2v.model.files import load_gpt2
from gpt2v.run_layout import checkpoints_of
from helpers import refusal, write_yaml

CODE = """
from pathlib import Path
Path(r"{ran}").touch()
"""


@pytest.fixture
def ran(tmp_path):
    """The file that the code would make."""
    return tmp_path / "ran"


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch):
    """A question on the terminal would fail the test."""

    class Terminal:
        def readline(self, *_):
            raise AssertionError("the user was asked")

        read = readline

        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())


def with_code(folder, ran, file, **fields):
    """Make a checkpoint ask for code; returns its folder."""
    (folder / "own.py").write_text(CODE.format(ran=ran))
    path = folder / file
    values = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**values, **fields}))
    (folder / "MANIFEST.json").unlink(missing_ok=True)
    return folder


MAPS = {"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}


@pytest.fixture(params=["gpt2", "of-its-own"])
def lm_with_code(request, lm_run, tmp_path, ran):
    """A GPT-2 with code beside it, and a model that only its code can open."""
    folder = shutil.copytree(checkpoints_of(lm_run)[-1], tmp_path / "lm")
    return with_code(folder, ran, "config.json", model_type=request.param, **MAPS)


def test_every_command_refuses_a_language_model_with_code(lm_with_code, tmp_path, ran, capsys):
    out = ["--out", tmp_path / "out"]
    mm = write_yaml(tmp_path / "mm.yaml", {**helpers.TINY_MM, "lm": str(lm_with_code)})
    lm = write_yaml(tmp_path / "lm.yaml", helpers.TINY_LM)
    for words in (
        ["eval", lm_with_code, "--modalities", "[text]", *out],
        ["lm", "sample", lm_with_code],
        ["lm", "train", lm, "--init", lm_with_code, *out],
        ["lm", "train", lm, "--tokenizer.source", lm_with_code, *out],
        ["mm", "train", mm, *out],
        ["mm", "train", mm, "--projector_from", lm_with_code, *out],
        ["mm", "export", lm_with_code, "--to", tmp_path / "export"],
    ):
        line = refusal(capsys, *words)
        assert "config.json: auto_map names Python code, which is never run" in line, words
    assert not ran.exists()


@pytest.mark.parametrize(
    "file", ["config.json", "preprocessor_config.json", "processor_config.json"]
)
def test_an_encoder_with_code_is_refused(file, tmp_path, ran):
    folder = tmp_path / "clip"
    helpers.tower_checkpoint("clip", folder)
    maps = {"auto_map": {"AutoConfig": "own.C", "AutoImageProcessor": "own.P"}}
    with_code(folder, ran, file, **maps)
    with pytest.raises(UserError, match=rf"encoder: .*{file}: auto_map names Python code"):
        load_encoder(str(folder))
    assert not ran.exists()


def test_an_encoder_that_only_its_code_can_open_is_refused(tmp_path, ran):
    """transformers would ask on the terminal whether to run it."""
    folder = tmp_path / "clip"
    helpers.tower_checkpoint("clip", folder)
    maps = {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    with_code(folder, ran, "config.json", model_type="of-its-own", **maps)
    with pytest.raises(UserError, match=r"encoder: .*config\.json: auto_map names Python code"):
        load_encoder(str(folder))
    assert not ran.exists()


def test_code_that_generates_is_refused(lm_run, tmp_path, ran, capsys):
    folder = shutil.copytree(checkpoints_of(lm_run)[-1], tmp_path / "lm")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE.format(ran=ran))
    assert "custom_generate: holds code" in refusal(capsys, "lm", "sample", folder)
    assert not ran.exists()


def test_a_data_set_s_code_is_not_run(tmp_path, ran):
    """datasets 4 has no scripts any more; this fails if a later version runs them again."""
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "words.py").write_text(CODE.format(ran=ran))
    with pytest.raises(RuntimeError, match="script"):
        datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert not ran.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("named", ["someone/attention", "flash_attention_2"])
def test_an_attention_that_a_checkpoint_names_is_not_used(key, named, lm_run, tmp_path):
    """transformers would download code of the hub by this name; ours is chosen by the device."""
    folder = shutil.copytree(checkpoints_of(lm_run)[-1], tmp_path / "lm")
    with_code(folder, tmp_path / "ran", "config.json", **{key: named})
    assert load_gpt2(str(folder), "lm")[0].config._attn_implementation == "sdpa"
    tower = tmp_path / "clip"
    path = helpers.tower_checkpoint("clip", tower)
    values = json.loads((tower / "config.json").read_text())
    values["vision_config"][key] = named
    (tower / "config.json").write_text(json.dumps(values))
    assert load_encoder(path).tower.config._attn_implementation == "sdpa"
