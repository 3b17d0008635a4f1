"""Every command of the README and of docs/ runs, made small, in the order of the pages.

`make e2e` runs them with the gpt2v of a wheel, in an empty folder.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gpt2v.cli.main import main
from gpt2v.data.suites.load import suite_names
from gpt2v.data.tiles.sprites import CLASS_NAMES, draw_sprites
from gpt2v.packaged import CONFIGS
from helpers import forget_imports

ROOT = Path(__file__).parents[1]
TRAIN = ["--tiles.per_class", "20", "--train.eval_grids", "4"]
SMALL = {  # options that make each command small
    "data preview": ["--tiles.per_class", "20"],
    "data export": ["--tiles.per_class", "20", "--n_images", "4"],
    "data suites": [],
    "configs": [],
    "encoder train": [*TRAIN, "--steps", "2", "--batch_size", "4"],
    "lm train": [*TRAIN, "--data.batch_size", "4", "--train.eval_windows", "2"],
    "lm sample": ["--max_new_tokens", "4"],
    "mm train": [*TRAIN, "--data.batch_size", "4"],
    "mm export": [],
    "eval": ["--tiles.per_class", "20", "--n_images", "4", "--examples", "2"],
    "eval compare": [],
    "eval plan": [],
    "probe": [
        *("--tiles.per_class", "20", "--n_train", "200", "--n_val", "60", "--n_test", "60"),
        *("--decoders", "[ridge]", "--measures", "[beside, leakage]"),
    ],
    "ablate tokens": ["--tiles.per_class", "20", "--n_images", "4"],
    "ask": [],
    "report": [],
    "demo": ["--preset", "smoke", "--eval.n_images", "20"],
}


STAND_INS = {
    "cifar10": "folder",
    "path/to/cifar10": "folder",
    "path/to/own": "folder",
    "runs/demo/encoder": "runs/sprites",
    "distilled": "smoke",  # a preset of minutes
}


def commands() -> Iterator[list[str]]:
    """Every different `gpt2v ...` line of the code blocks without a language."""
    seen = set()
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in block.splitlines() if not language else ():
                if line.startswith("gpt2v ") and line not in seen:
                    seen.add(line)
                    yield shlex.split(line)[1:]


def made_small(argv: list[str]) -> list[str]:
    """The command with files of the test, and with options that make it small."""
    argv = [STAND_INS.get(word, word) for word in argv]
    kind = kind_of(argv)
    more = list(SMALL[kind])
    if kind in ("lm train", "mm train") and "--help" not in argv:
        more += short_stages(argv[2])
    if kind == "lm train":
        more += ["--out", "runs/another"]
    if set(argv) & set(suite_names()) and "folder" not in argv:
        few = ["--parts", "[palette-3]", "--tiles.test_per_class", "20"] if kind == "eval" else []
        more = [*few, "--tiles.per_class", "100"]
    pairs = zip(more[::2], more[1::2], strict=True)
    return [*argv, *(word for pair in pairs if pair[0] not in argv for word in pair)]


def kind_of(argv: list[str]) -> str:
    return " ".join(argv[:2]) if " ".join(argv[:2]) in SMALL else argv[0]


def short_stages(config: str) -> list[str]:
    """Options for two steps in each stage, and a local file instead of a hub data set."""
    words = []
    for i, stage in enumerate(yaml.safe_load(CONFIGS.path(config).read_text())["data"]["stages"]):
        words += [f"--data.stages.{i}.steps", "2"]
        for j, spec in enumerate(stage["mix"]):
            if "corpus" in spec:
                key = f"--data.stages.{i}.mix.{j}"
                words += [f"{key}.corpus", "stories.txt", f"{key}.context", "16"]
    return words


def test_make_targets_exist() -> None:
    targets = re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.M)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link, anchor in re.findall(r"\]\(([^)#:]*)#?([^)#:]*)\)", page.read_text()):
            target = page.parent / link if link else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                assert anchor in anchors(target), f"{page.name}: {link}#{anchor}"


def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.e2e
def test_every_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    for label, name in enumerate(CLASS_NAMES):  # photographs of the user's own
        (tmp_path / "folder" / name).mkdir(parents=True)
        for i, tile in enumerate(draw_sprites(np.full(100, label), np.arange(100))):
            Image.fromarray(tile).save(tmp_path / "folder" / name / f"{i}.png")
    for who, name in (("Tom", "stories"), ("Ann", "train"), ("Sue", "valid")):
        stories = [f"{who} saw {n} birds and {n + 1} frogs near a house." for n in range(400)]
        (tmp_path / f"{name}.txt").write_text("<|endoftext|>".join(stories))
    (own_part,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "extending.md").read_text(), re.M | re.S
    )
    (tmp_path / "wide.py").write_text(own_part)
    monkeypatch.chdir(tmp_path)
    kinds = set()
    for argv in map(made_small, commands()):
        with forget_imports():  # a command of its own
            try:
                status = main(argv)
            except SystemExit as done:  # --help
                status = done.code
        assert status == 0, (argv, capsys.readouterr().err)
        kinds.add(kind_of(argv))
    assert kinds == set(SMALL)
