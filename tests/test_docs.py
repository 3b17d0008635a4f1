"""The Python code and the YAML of docs/data.md run."""

import re
from pathlib import Path

import pytest

from gpt2v.config.describe import registry_table
from gpt2v.registry import REGISTRIES

EXTENDING = Path(__file__).parents[1] / "docs" / "extending.md"
DATA = Path(__file__).parents[1] / "docs" / "data.md"


def test_the_python_of_the_data_page_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", DATA.read_text(), re.M | re.S)
    names: dict = {}
    exec(compile(code, str(DATA), "exec"), names)
    assert "The grid above is size 3 by 3." in capsys.readouterr().out
    batch = names["batch"]
    assert batch.pixels.shape == (2, 96, 96, 3)
    assert batch.index.tolist() == [5, 10**12]
    assert (batch.input_ids == names["render"].table.image_id).sum() == 2 * 36


def test_the_yaml_of_the_data_page_is_previewed(tmp_path):
    from gpt2v.cli.main import main

    (text,) = re.findall(r"^```yaml\n(.*?)^```", DATA.read_text(), re.M | re.S)
    (tmp_path / "spec.yaml").write_text(text)
    sheet = tmp_path / "new" / "sheet.png"
    argv = ["data", "preview", str(tmp_path / "spec.yaml"), "--png", str(sheet), "--n", "2"]
    assert main([*argv, "--tiles.per_class", "20"]) == 0
    assert sheet.is_file()


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.title)
def test_the_tables_are_those_of_the_registries(registry):
    """`tests/write_tables.py` writes them."""
    pattern = rf"<!-- table: {registry.title} -->\n(.*?)\n<!-- end -->"
    (table,) = re.findall(pattern, EXTENDING.read_text(), re.S)
    assert table.splitlines() == registry_table(registry)


def test_the_projector_of_the_page_trains(tmp_path, lm_run):
    from gpt2v.cli.main import main
    from helpers import TINY_MM, forget_imports, write_yaml

    code = re.findall(r"^```python\n(.*?)^```", EXTENDING.read_text(), re.M | re.S)[0]
    (tmp_path / "wide.py").write_text(code)
    config = write_yaml(tmp_path / "mm.yaml", {**TINY_MM, "lm": str(lm_run), "projector": "wide"})
    argv = ["mm", "train", str(config), "--out", str(tmp_path / "run")]
    with forget_imports():
        assert main([*argv, "--import", str(tmp_path / "wide.py")]) == 0


@pytest.mark.parametrize("name", ["results", "trials"])
def test_results_are_in_lines_that_a_diff_can_show(name):
    page = DATA.with_name(f"{name}.md").read_text()
    prose = [line for line in page.splitlines() if not line.startswith(("|", ">"))]
    assert max(map(len, prose)) < 420
