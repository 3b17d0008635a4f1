"""Every command of the README runs, made small, in the order of the README.

`make e2e` runs them with the gpt2v of a wheel, in an empty folder.
"""

import re
import shlex
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
    "probe": ["--tiles.per_class", "20", "--n_train", "20", "--n_test", "10"],
    "ablate tokens": ["--tiles.per_class", "20", "--n_images", "4"],
    "report": [],
    "demo": [],
}


def commands() -> list[list[str]]:
    """Every `gpt2v ...` line of the README's code blocks."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("gpt2v ")]


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
def test_every_command_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    for label, name in enumerate(CLASS_NAMES):  # photographs of the user's own
        (tmp_path / "folder" / name).mkdir(parents=True)
        for i, tile in enumerate(draw_sprites(np.full(6, label), np.arange(6))):
            Image.fromarray(tile).save(tmp_path / "folder" / name / f"{i}.png")
    stories = [f"Tom saw {n} birds and {n + 1} frogs near the old house." for n in range(400)]
    (tmp_path / "stories.txt").write_text("<|endoftext|>".join(stories))
    monkeypatch.chdir(tmp_path)
    seen = set()
    for argv in commands():
        kind = " ".join(argv[:2]) if " ".join(argv[:2]) in SMALL else argv[0]
        if "cifar10" in argv:  # the same demo, on the folder and with the tiny preset
            argv = ["demo", "--tiles", "folder", "--tiles-path", "folder", "--preset", "smoke"]
            argv += ["--out", "runs/photographs", "--eval.n_images", "20"]
        if argv[:2] == ["data", "suites"] and len(argv) > 2:
            argv += ["--tiles.per_class", "100"]
        if kind == "eval" and argv[argv.index("--suite") + 1] in suite_names():
            argv += ["--parts", "[palette-2]", "--tiles.per_class", "100"]
            assert main(argv) == 0, capsys.readouterr().err
            continue
        more = short_stages(argv[2]) if kind in ("lm train", "mm train") else []
        with forget_imports():  # a command of its own
            assert main([*argv, *SMALL[kind], *more]) == 0, (argv, capsys.readouterr().err)
        seen.add(kind)
    assert seen == set(SMALL)
