"""YAML files of tasks, in which a harness finds functions of a Python file beside them."""

import re
from typing import Any

from gpt2v.config.yaml12 import dump_yaml


def task_yaml(content: dict[str, Any], helper: str) -> bytes:
    """The YAML of a task or group.

    Args:
        content: a value `!function NAME` stands for a function of the helper file.
        helper: name of the Python file without its suffix.
    """
    text = dump_yaml(content)
    return re.sub(r"'!function (\w+)'", rf"!function {helper}.\1", text).encode()
