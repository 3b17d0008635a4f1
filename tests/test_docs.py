"""The Python code and the YAML of docs/data.md run."""

import re
from pathlib import Path

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
