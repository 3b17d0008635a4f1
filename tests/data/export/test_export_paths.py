"""An export in a folder with an unusual name opens in the reader that it is for, or is refused."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import helpers
from exports import config_of, tree
from gpt2v.cli.main import main
from gpt2v.data.dataset import GridDataset
from gpt2v.data.export.run import export
from gpt2v.data.render.pictures import natural_pictures
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from llava_cases import Case, build

NAMES = [
    *("a#b", "a%20b", "a b", "a'b", 'a"b', "{a}", "a{a,c}b", "!x", "~x", "é日本", "-x", "a:b"),
    *(
        "a,b",
        "a\nb",
        "a;b",
        "a\\b",
        "zip:x",
        ".x",
        "__x",
        "train-0",
        "test",
        "data",
        "US$",
        "a&b=c@d",
    ),
]
# `datasets` reads these as patterns, chained files and variables.
PATTERNS = ["v[1]", "[!a]", "a*b", "a?b", "**", "a::b", "$HOME", "${HOME}x"]
CONFIG = config_of("composite", 3)


@pytest.fixture(scope="module")
def pictures():
    bank = load_bank(CONFIG.tiles)
    data = GridDataset(CONFIG.grid, bank, CONFIG.seed, CONFIG.split, CONFIG.n_images)
    return [pixels for (pixels,) in natural_pictures(data.samples(), bank, CONFIG.grid.picture)]


@pytest.mark.parametrize("format", ["parquet", "folder"])
@pytest.mark.parametrize("name", NAMES)
def test_datasets_opens_it_here_and_after_a_move(tmp_path, pictures, name, format):
    import datasets

    export(CONFIG, tmp_path / name / "x", format)
    for moved in (False, True):
        root = tmp_path / name / "x"
        if moved:
            (tmp_path / name).rename(tmp_path / "moved")
            root = tmp_path / "moved" / "x"
        loaded = datasets.load_dataset(str(root), cache_dir=str(tmp_path / f"cache{moved}"))
        assert list(loaded) == ["test"]
        assert loaded["test"]["index"] == [0, 1, 2]
        assert isinstance(loaded["test"].features["image"], datasets.Image)
        for image, own in zip(loaded["test"]["image"], pictures, strict=True):
            np.testing.assert_array_equal(np.asarray(image), own)


@pytest.mark.parametrize("format", ["parquet", "folder"])
@pytest.mark.parametrize("name", PATTERNS)
def test_a_path_that_datasets_takes_for_a_pattern_is_refused(tmp_path, capsys, name, format):
    config = helpers.write_yaml(tmp_path / "c.yaml", {"n_images": 2})
    for to in (tmp_path / name, tmp_path / name / "x"):
        line = helpers.refusal(capsys, "data", "export", config, "--to", to, "--format", format)
        assert "--to: " in line
        assert "datasets.load_dataset cannot read a folder with" in line
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("name", NAMES + PATTERNS)
def test_llava_readers_find_the_pictures(tmp_path, monkeypatch, pictures, name):
    export(CONFIG, tmp_path / name, "llava")
    (tmp_path / name).rename(tmp_path / "moved")
    (tmp_path / "moved").rename(tmp_path / name)
    for root in (tmp_path / name, Path(".")):
        monkeypatch.chdir(tmp_path / name)
        with open(f"{root}/test.json", encoding="utf-8") as file:
            entries = json.load(file)
        assert len({entry["id"] for entry in entries}) == len(entries) == 27
        for entry in entries:
            assert not entry["image"].startswith("/")
            assert "\\" not in entry["image"]
            image = Image.open(f"{root}/{entry['image']}")
            number = int(entry["id"].split("-")[0])
            np.testing.assert_array_equal(np.asarray(image), pictures[number])


needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm_eval is not installed: pip install 'gpt2v[eval]'",
)


@needs_lm_eval
@pytest.mark.parametrize("name", NAMES + PATTERNS + ["lm_eval/tasks/x", "x.yaml"])
def test_lm_eval_opens_the_tasks(tmp_path, monkeypatch, pictures, name):
    from lm_eval.tasks import TaskManager

    root = tmp_path / name / "x"
    export(CONFIG, root, "lm-eval")
    monkeypatch.setenv("HOME", "/nowhere")
    tasks = TaskManager(include_path=str(root), include_defaults=False)
    loaded = tasks.load(["gpt2v_3x3_image", "gpt2v_3x3_text"])["tasks"]
    for task in loaded.values():
        docs = list(task.test_docs())
        assert len(docs) == 27
        assert len(list(task.fewshot_docs())) == 32
    images = [d["image"] for d in loaded["gpt2v_3x3_image_lookup"].test_docs()][::9]
    for image, own in zip(images, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(image), own)


@pytest.mark.parametrize("name", ["__pycache__", ".ipynb_checkpoints"])
def test_a_folder_that_lm_eval_does_not_search_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=f"--to: .*does not look into folders named {name}"):
        export(CONFIG, tmp_path / name / "x", "lm-eval")
    assert not list(tmp_path.iterdir())


def test_the_same_name_elsewhere_is_not_read(tmp_path):
    """A star in a path would match the folder beside it, too."""
    import pyarrow.parquet as pq

    export(CONFIG, tmp_path / "axb", "lm-eval")
    export(config_of("composite", 2), tmp_path / "a*b", "lm-eval")
    spec = importlib.util.spec_from_file_location("rows", tmp_path / "a*b" / "gpt2v_rows.py")
    rows = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rows)
    loaded = rows.image(data="data", examples="fewshot", asked="lookup")
    assert len(loaded["test"]) == 18
    assert len(pq.read_table(tmp_path / "axb" / "data")) == 27


@pytest.fixture(scope="module")
def run(lm, table, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    helpers.save_checkpoint(path, 3, build(Case(), lm, table), tokenizer)
    return path


@pytest.mark.parametrize("name", ["v[1]", "a*b", "a#b", "a%20 b", "a'\"b", "{a}", "!~$HOME", "é:b"])
def test_transformers_opens_an_exported_model(run, tmp_path, name):
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    to = tmp_path / name / "llava"
    assert main(["mm", "export", str(run), "--to", str(to)]) == 0
    before = tree(to)
    (tmp_path / name).rename(tmp_path / f"{name}, moved")
    to = tmp_path / f"{name}, moved" / "llava"
    model, loading = LlavaForConditionalGeneration.from_pretrained(to, output_loading_info=True)
    assert not loading["missing_keys"]
    processor = AutoProcessor.from_pretrained(str(to))
    side = model.config.vision_config.image_size
    inputs = processor(
        images=Image.new("RGB", (side, side)), text="<image>\nA:", return_tensors="pt"
    )
    assert model(**inputs).logits.shape[-1] == model.config.text_config.vocab_size
    assert tree(to) == before


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_card_names_the_splits_as_the_files_do(tmp_path, split):
    import datasets
    import yaml

    export(config_of("composite", 5, split=split), tmp_path / "x", "parquet")
    front = (tmp_path / "x" / "README.md").read_text().split("---\n")[1]
    (part,) = yaml.safe_load(front)["configs"]
    assert part["data_files"] == [{"split": split, "path": f"data/{split}-*.parquet"}]
    with_card = datasets.load_dataset(str(tmp_path / "x"), cache_dir=str(tmp_path / "cache"))
    (tmp_path / "x" / "README.md").unlink()  # then the names of the files decide
    without = datasets.load_dataset(str(tmp_path / "x"), cache_dir=str(tmp_path / "cache2"))
    assert list(with_card) == list(without) == [split]
    assert with_card[split].features == without[split].features
    assert with_card[split]["index"] == without[split]["index"] == list(range(5))
