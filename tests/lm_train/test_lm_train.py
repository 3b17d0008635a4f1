"""LM-Train through the command line: plain text, grids, both; resuming, stopping, sampling."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import helpers
from gpt2v.cli.main import main
from gpt2v.model.files import load_gpt2
from gpt2v.model.found import find_checkpoint
from gpt2v.run_layout import checkpoints_of
from gpt2v.train.loop import fit
from helpers import refusal, write_yaml

WORDS = "the cat saw a bird and the dog ran to the big red house with a small frog"


def story(draw):
    words = [str(w) for w in draw.choice(WORDS.split(), int(draw.integers(8, 30)))]
    return " ".join(words).capitalize() + "."


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file of stories."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("<|endoftext|>".join(story(draw) for _ in range(300)))
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config(tmp_path, mix, **changes):
    content = {
        "tiles": helpers.TINY_TILES,
        "tokenizer": {"vocab_size": 400},
        "model": {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 256, "dropout": 0.1},
        "data": {"batch_size": 4, "stages": [{"steps": 8, "mix": mix}]},
        "train": {
            "groups": [{"name": "lm", "pattern": "", "lr": 0.01, "optimizer": "muon"}],
            "warmup": 2, "eval_every": 4, "eval_grids": 4, "eval_windows": 6, "save_every": 2,
            "log_every": 1,
        },
    }  # fmt: skip
    return write_yaml(tmp_path / "c.yaml", {**content, **changes})


def train(*argv):
    assert main(["lm", "train", *map(str, argv)]) == 0


def results(run):
    return json.loads((run / "results.json").read_text())["results"][0]


def last_weights(run):
    return (checkpoints_of(run)[-1] / "model.safetensors").read_bytes()


def test_text_and_grids_mixed(tmp_path, text):
    mix = [{"corpus": str(text), "context": 32, "weight": 3}, {"rows": 1, "cols": 2}]
    train(config(tmp_path, mix), "--out", tmp_path / "r", "--data.stages.0.steps", 12)
    scores = results(tmp_path / "r")
    name = "text/stories.txt 32"
    assert {f"{name}_loss", f"{name}_perplexity", f"{name}_bits_per_byte"} <= set(scores)
    assert "text/markdown 1x2_accuracy" in scores
    assert scores[f"{name}_perplexity"] == pytest.approx(math.exp(scores[f"{name}_loss"]))
    lines = [json.loads(x) for x in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    logged = next(line for line in lines if "loss" in line)
    assert {"lr", "grad_norm", "tokens_per_s", "mfu", "memory_mb", "time", "data"} <= set(logged)
    assert set(logged["grad_norm"]) == {"lm", "total"}
    assert logged["mfu"] > 0


def test_bits_per_byte_equals_that_of_plain_transformers(tmp_path, text):
    run = tmp_path / "r"
    train(config(tmp_path, [{"corpus": str(text), "context": 32}]), "--out", run)
    path = checkpoints_of(run)[-1]
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    ours, _ = load_gpt2(find_checkpoint(str(run), "x"), "x")
    ids = tokenizer("The cat saw a bird.", return_tensors="pt").input_ids
    assert torch.equal(model(ids).logits, ours.eval()(ids).logits)

    (folder,) = (tmp_path / "cache" / "gpt2v" / "tokens").iterdir()
    tokens = torch.from_numpy(np.fromfile(folder / "valid" / "tokens.bin", "<u2").astype(np.int64))
    nats, n_bytes, n_tokens = 0.0, 0, 0
    for window in range(min(6, (len(tokens) - 1) // 32)):
        part = tokens[window * 32 : window * 32 + 33][None]
        with torch.no_grad():
            logp = model(part[:, :-1]).logits.log_softmax(-1)
        nats -= float(logp.gather(-1, part[:, 1:, None]).sum())
        n_bytes += len(tokenizer.decode(part[0, 1:], skip_special_tokens=True).encode())
        n_tokens += 32
    scores = results(run)
    expected = nats / math.log(2) / n_bytes
    assert scores["text/stories.txt 32_bits_per_byte"] == pytest.approx(expected, rel=1e-4)
    assert scores["text/stories.txt 32_loss"] == pytest.approx(nats / n_tokens, rel=1e-4)


def test_a_stopped_run_continues_to_the_same_weights(tmp_path, text):
    """SIGTERM to the real command, then --resume."""
    path = config(tmp_path, [{"corpus": str(text), "context": 32}, {"rows": 2, "cols": 2}])
    steps = ("--data.stages.0.steps", "60")
    train(path, "--out", tmp_path / "whole", *steps)
    command = [sys.executable, "-m", "gpt2v", "lm", "train", str(path), *steps]
    command += ["--out", str(tmp_path / "cut")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    limit = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text()) and time.monotonic() < limit:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate()
    assert child.returncode == 128 + signal.SIGTERM, said
    assert "stopped after step" in said.splitlines()[-1]
    assert "--resume" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not (tmp_path / "cut" / "results.json").exists()
    train(path, "--out", tmp_path / "cut", *steps, "--resume")
    assert last_weights(tmp_path / "cut") == last_weights(tmp_path / "whole")
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


def test_resuming_what_is_finished_says_so(tmp_path, text, capsys):
    path = config(tmp_path, [{"corpus": str(text), "context": 32}])
    train(path, "--out", tmp_path / "r")
    before = (tmp_path / "r" / "results.json").read_bytes()
    train(path, "--out", tmp_path / "r", "--resume")
    assert "is finished already" in capsys.readouterr().out
    assert (tmp_path / "r" / "results.json").read_bytes() == before


def test_resuming_with_another_configuration_is_refused(tmp_path, text, capsys):
    path = config(tmp_path, [{"corpus": str(text), "context": 32}])
    train(path, "--out", tmp_path / "r")
    capsys.readouterr()
    (tmp_path / "r" / "results.json").unlink()
    argv = ("lm", "train", path, "--out", tmp_path / "r", "--resume", "--train.warmup", "3")
    said = refusal(capsys, *argv)
    assert "config.yaml: train.warmup: 2 there, 3 now" in said


def test_resuming_nothing_starts(tmp_path, text):
    path = config(tmp_path, [{"corpus": str(text), "context": 32}])
    train(path, "--out", tmp_path / "r", "--resume")
    assert (tmp_path / "r" / "results.json").is_file()


def test_a_flipped_byte_is_named_and_the_run_resumes_from_the_checkpoint_before(
    tmp_path, text, capsys
):
    path = config(tmp_path, [{"corpus": str(text), "context": 32}])
    train(path, "--out", tmp_path / "whole")
    train(path, "--out", tmp_path / "r")
    (tmp_path / "r" / "results.json").unlink()
    newest = checkpoints_of(tmp_path / "r")[-1] / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 4
    newest.write_bytes(content)
    capsys.readouterr()
    train(path, "--out", tmp_path / "r", "--resume")
    assert "model.safetensors: damaged" in capsys.readouterr().err
    assert last_weights(tmp_path / "r") == last_weights(tmp_path / "whole")
    content = bytearray(newest.read_bytes())
    content[-1] ^= 4
    newest.write_bytes(content)
    assert "damaged" in refusal(capsys, "lm", "sample", tmp_path / "r")


def test_training_starts_from_a_checkpoint(tmp_path, text):
    mix = [{"corpus": str(text), "context": 32}]
    train(config(tmp_path, mix), "--out", tmp_path / "one")
    path = config(tmp_path, mix, init=str(tmp_path / "one"), tokenizer={})
    train(path, "--out", tmp_path / "two", "--train.groups.0.lr", "1e-9")
    one, two = (
        load_file(checkpoints_of(tmp_path / name)[-1] / "model.safetensors")
        for name in ("one", "two")
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=1e-5)


def test_what_is_tokenized_once_is_trained_on(tmp_path, text, capsys):
    mix = [{"corpus": str(text), "context": 32}]
    train(config(tmp_path, mix), "--out", tmp_path / "direct")
    out = tmp_path / "tokens"
    assert main(["data", "tokenize", str(config(tmp_path, mix)), "--out", str(out)]) == 0
    mix = [{"corpus": str(out), "context": 32}]
    path = config(tmp_path, mix, tokenizer={"source": str(out)})
    train(path, "--out", tmp_path / "from-tokens")
    assert last_weights(tmp_path / "from-tokens") == last_weights(tmp_path / "direct")
    capsys.readouterr()
    path = config(tmp_path, mix, tokenizer={"source": str(tmp_path / "other")})
    other, _ = tmp_path / "other", (tmp_path / "other").mkdir()
    content = json.loads((out / "tokenizer.json").read_text())
    content["model"]["merges"] = content["model"]["merges"][:-1]
    (other / "tokenizer.json").write_text(json.dumps(content))
    said = refusal(capsys, "lm", "train", path, "--out", tmp_path / "bad")
    assert "another tokenizer" in said
    assert not (tmp_path / "bad").exists()


def test_corpora_that_are_not_tokenized_are_named(tmp_path, text, capsys):
    other = tmp_path / "other.txt"
    other.write_text("<|endoftext|>".join(WORDS[i:] for i in range(9)))
    contexts = [{"corpus": str(text), "context": context} for context in (32, 16)]
    for mix, expected in ((contexts, 0), ([*contexts, {"corpus": str(other), "context": 16}], 1)):
        path = config(tmp_path, mix)
        assert main(["data", "tokenize", str(path), "--out", str(tmp_path / str(expected))]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
        assert len(said) == expected
    assert said == [
        f"gpt2v: data.stages: only {text} is tokenized; left out: {other} (other corpora)"
    ]


def test_a_folder_of_splits_is_trained_and_validated_on(tmp_path, text, capsys):
    """The same as files that are named; the test file, which is no text, is not opened."""
    stories = text.read_text().split("<|endoftext|>")
    folder = tmp_path / "stories"
    folder.mkdir()
    (folder / "train.txt").write_text("<|endoftext|>".join(stories[20:]))
    (folder / "valid.txt").write_text("<|endoftext|>".join(stories[:20]))
    (folder / "test.txt").write_bytes(b"\0")
    train(config(tmp_path, [{"corpus": str(folder), "context": 32}]), "--out", tmp_path / "a")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert line.endswith(
        "reads train.txt, for validation valid.txt; left out: test.txt (test split)"
    )
    spec = {"corpus": str(folder / "train.txt"), "valid": str(folder / "valid.txt"), "context": 32}
    train(config(tmp_path, [spec]), "--out", tmp_path / "b")
    assert last_weights(tmp_path / "a") == last_weights(tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "no documents"), (b"\x00\x01\x02\x00" * 99, "not UTF-8 text"), (None, "no such file")],
)
def test_bad_text_is_one_line(tmp_path, capsys, content, expected):
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    argv = ("lm", "train", config(tmp_path, [{"corpus": str(path)}]), "--out", tmp_path / "r")
    said = refusal(capsys, *argv)
    assert "bad.txt" in said
    assert expected in said
    assert not (tmp_path / "r").exists()


def test_a_context_longer_than_the_model_is_one_line(tmp_path, text, capsys):
    path = config(tmp_path, [{"corpus": str(text), "context": 300}])
    said = refusal(capsys, "lm", "train", path, "--out", tmp_path / "r")
    assert "data.stages.0.mix.0.context: 300 tokens" in said
    assert "n_positions: 256" in said


def test_a_run_directory_that_cannot_be_written_is_one_line(tmp_path, text, capsys):
    path = config(tmp_path, [{"corpus": str(text), "context": 32}])
    (tmp_path / "file").write_text("x")
    assert "cannot be written" in refusal(
        capsys, "lm", "train", path, "--out", tmp_path / "file" / "r"
    )
    if os.geteuid() == 0 and os.path.isdir("/proc/self"):  # root may write nearly everywhere
        assert "cannot" in refusal(capsys, "lm", "train", path, "--out", "/proc/self/r")


def test_samples_of_a_grid_run_begin_without_an_end_of_text(tmp_path, capsys):
    """Grids are trained without it, so the right answer needs a prompt without it."""
    run = tmp_path / "r"
    train(write_yaml(tmp_path / "c.yaml", helpers.TINY_LM), "--out", run)
    capsys.readouterr()
    prompt = (
        "| cat | dog |\nThe grid above is size 1 by 2. Each cell contains an object from "
        "['dog', 'frog', 'cat', 'bird'].\nWhat object is in row 0, column 0? A:"
    )
    argv = ["lm", "sample", str(run), "--prompt", prompt]
    assert main([*argv, "--temperature", "0", "--max_new_tokens", "1"]) == 0
    shown = capsys.readouterr().out
    assert main([*argv, "--temperature", "0", "--max_new_tokens", "1", "--bos", "false"]) == 0
    assert capsys.readouterr().out == shown


def test_if_compiling_fails_training_continues_without_it(tmp_path, monkeypatch, capsys):
    """As on a machine without a compiler."""
    from torch._dynamo.exc import TorchDynamoException

    def fail(*_args, **_options):
        raise TorchDynamoException("no C++ compiler")

    task = helpers.toy_task()
    task = replace(task, compiled=(task.model,))
    monkeypatch.setattr(
        task.model, "compile", lambda: setattr(task.model, "_compiled_call_impl", fail)
    )
    plain = helpers.toy_task()
    for name, made, on in (("c", task, True), ("p", plain, False)):
        (tmp_path / name).mkdir()
        fit(made, helpers.train_config(compile=on), 6, tmp_path / name, "test")
    said = capsys.readouterr().err
    assert said.count("train.compile: failed, continuing without it") == 1
    for p, q in zip(task.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(p, q)
