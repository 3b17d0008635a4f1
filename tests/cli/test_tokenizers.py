"""Every command that gives text to a tokenizer refuses one that changes or joins it: one line."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tokenizers import normalizers

from gpt2v.cli.main import main
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.model import llava
from gpt2v.model.files import save_tokenizer
from helpers import TINY_ENCODER, TINY_LM, TINY_MM, TINY_TILES, refusal, write_yaml

GAP_STAGE = {"steps": 1, "mix": [{"rows": 1, "cols": 2}]}
GRID = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 2}


def lower(parts):
    parts["normalizer"] = {"type": "Lowercase"}


def joining(parts):
    """Punctuation takes the line breaks after it."""
    split = parts["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    split["Regex"] = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
    parts["model"]["vocab"][" |\n".replace(" ", "Ġ").replace("\n", "Ċ")] = 5000
    parts["model"]["merges"].append(["Ġ|", "Ċ"])


CHANGES = {lower: "becomes '.*the grid", joining: r"reads ' \|\\n' as ' \|\\n', but"}


def change(folder, how):
    """Change a tokenizer.json, and forget the checksums beside it."""
    parts = json.loads((folder / "tokenizer.json").read_text())
    how(parts)
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    (folder / "MANIFEST.json").unlink(missing_ok=True)


@pytest.fixture(params=CHANGES)
def how(request):
    return request.param


@pytest.fixture
def changed(how, tokenizer, lm_run, mm_run, tmp_path, monkeypatch):
    """A folder with a tokenizer, a GPT-2 and a GPT-2v, whose tokenizers are changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenizer").mkdir()
    save_tokenizer(tmp_path / "tokenizer", tokenizer)
    change(tmp_path / "tokenizer", how)
    for name, run in (("gpt2", lm_run), ("gpt2v", mm_run)):
        newest = sorted((run / "checkpoints").iterdir())[-1]
        shutil.copytree(newest, tmp_path / name)
        change(tmp_path / name, how)
    if how is joining:  # its new token has no embedding
        for name in ("gpt2", "gpt2v"):
            change(tmp_path / name, few_ids)
    return tmp_path


def few_ids(parts):
    """The new token takes the place of one that is not used."""
    vocabulary = parts["model"]["vocab"]
    vocabulary["Ġ|Ċ"] = vocabulary.pop("ÿ")


@pytest.mark.parametrize(
    ("argv", "content", "where"),
    [
        (
            ["lm", "train"],
            {**TINY_LM, "tokenizer": {"source": "tokenizer"}},
            "tokenizer.source: tokenizer: ",
        ),
        (["lm", "train"], {**TINY_LM, "init": "gpt2"}, "init: gpt2: "),
        (["mm", "train"], {**TINY_MM, "data": TINY_LM["data"], "lm": "gpt2"}, "lm: gpt2: "),
        (["eval", "gpt2v", "--suite"], GRID, "model: gpt2v: "),
        (["ablate", "tokens"], {**GRID, "model": "gpt2v"}, "model: gpt2v: "),
    ],
)
def test_grids(changed, capsys, how, argv, content, where):
    config = write_yaml(changed / "c.yaml", content)
    line = refusal(capsys, *argv, config, "--out", changed / "out")
    assert where in line
    assert re.search(CHANGES[how], line)
    assert not (changed / "out").exists()


@pytest.mark.parametrize("how", [lower], indirect=True)
@pytest.mark.parametrize("command", [["lm", "train"], ["data", "tokenize"]])
def test_corpora(changed, capsys, how, command):
    (changed / "a.txt").write_text("The grid |\nof it<|endoftext|>The other |\n")
    mix = {"stages": [{"steps": 1, "mix": [{"corpus": "a.txt", "context": 8}]}]}
    content = {**TINY_LM, "data": mix, "tokenizer": {"source": "tokenizer"}}
    config = write_yaml(changed / "c.yaml", content)
    line = refusal(capsys, *command, config, "--out", "out")
    assert "corpus: a.txt: the tokenizer does not keep its text: 'The " in line
    assert "becomes 'the" in line
    assert not (changed / "out").exists()


@pytest.mark.parametrize("how", [lower], indirect=True)
def test_prompts(changed, capsys, how):
    line = refusal(capsys, "lm", "sample", "gpt2", "--prompt", "The grid")
    assert "prompt 0: the model's tokenizer does not keep it: 'The grid' becomes 'the" in line


def photo(parts):
    replace = {"type": "Replace", "pattern": {"String": "picture"}, "content": "photo"}
    parts["normalizer"] = replace


@pytest.mark.parametrize("how", [photo], indirect=True)
def test_captions(changed, capsys, how):
    content = {**TINY_ENCODER, "tokenizer": {"source": "tokenizer"}}
    config = write_yaml(changed / "c.yaml", content)
    line = refusal(capsys, "encoder", "train", config, "--out", "out")
    assert "tokenizer.source: tokenizer: does not keep captions: 'a picture of " in line
    assert "becomes 'a photo of " in line
    assert not (changed / "out").exists()


def far(parts):
    """An id beyond all rows of an embedding."""
    vocabulary = parts["model"]["vocab"]
    vocabulary["ÿ"] = 100_000


@pytest.mark.parametrize("how", [far], indirect=True)
@pytest.mark.parametrize("model", ["gpt2", "gpt2v"])
def test_ids_without_embeddings(changed, capsys, how, model):
    grid = write_yaml(changed / "c.yaml", GRID)
    options = ["--modalities", "[text]", "--out", "out"]
    line = refusal(capsys, "eval", model, "--suite", grid, *options)
    assert f"model: {model}: its tokenizer has " in line
    assert line.endswith("they do not belong together")
    assert not (changed / "out").exists()


def gap(parts):
    """Ids that no token has, below the last one."""
    vocabulary = parts["model"]["vocab"]
    vocabulary["ÿ"] = max(vocabulary.values()) + 100


@pytest.mark.parametrize("how", [gap], indirect=True)
@pytest.mark.parametrize("command", ["lm", "encoder"])
def test_ids_with_gaps_have_embeddings(changed, how, command):
    """As many rows as the largest id needs, which are more than there are tokens."""
    if command == "lm":
        content = {**TINY_LM, "data": {"batch_size": 4, "stages": [GAP_STAGE]}}
    else:
        content = {**TINY_ENCODER}
    config = write_yaml(changed / "c.yaml", {**content, "tokenizer": {"source": "tokenizer"}})
    assert main([command, "train", str(config), "--out", "out"]) == 0
    tokens = load_tokenizer("tokenizer").get_vocab()
    weights = load_file(sorted(Path("out/checkpoints").iterdir())[-1] / "model.safetensors")
    words = "wte.weight" if command == "lm" else "token_embedding.weight"
    (rows,) = {len(value) for name, value in weights.items() if name.endswith(words)}
    assert rows > max(tokens.values()) > len(tokens)


def own_image(parts):
    """The image and the padding have each other's ids."""
    exchanged = {"<image>": "<pad>", "<pad>": "<image>"}
    for token in parts["added_tokens"]:
        token["content"] = exchanged.get(token["content"], token["content"])
    vocabulary = parts["model"]["vocab"]
    ids = {other: vocabulary[token] for token, other in exchanged.items()}
    vocabulary.update(ids)


@pytest.mark.parametrize("how", [own_image], indirect=True)
@pytest.mark.parametrize(
    "argv",
    [
        ["eval", "gpt2v", "--suite", "c.yaml", "--out", "out"],
        ["mm", "export", "gpt2v", "--to", "out"],
    ],
)
def test_another_image_token(changed, capsys, how, argv):
    write_yaml(changed / "c.yaml", GRID)
    line = refusal(capsys, *argv)
    assert "gpt2v: tokenizer.json: <image> is token " in line
    assert not (changed / "out").exists()


def test_an_export_that_reads_other_tokens(mm_run, tmp_path, capsys, monkeypatch):
    """E.g. because transformers loads another class of tokenizer, with parts of its own."""
    real = llava.AutoTokenizer.from_pretrained

    def other(folder, **options):
        wrapped = real(folder, **options)
        wrapped.backend_tokenizer.normalizer = normalizers.Lowercase()
        return wrapped

    monkeypatch.setattr(llava.AutoTokenizer, "from_pretrained", other)
    line = refusal(capsys, "mm", "export", mm_run, "--to", tmp_path / "to")
    assert "in transformers it gives other tokens than in training, from 'The grid" in line
    assert list(tmp_path.iterdir()) == []
