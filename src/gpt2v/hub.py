"""Names of models and data sets: a local path, or a Hugging Face hub's `owner/name`; and code that
comes with a checkpoint, which is never run.
"""

import json
from pathlib import Path
from typing import Any

from gpt2v.errors import UserError

# Files in which a checkpoint can name Python code of its own, by the key `auto_map`.
_NAMING_CODE = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)


def looks_local(name: str) -> bool:
    """Whether the name of something missing looks like a path, not like a hub's `owner/name`."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return True
    return "/" in name and Path(name).parent.is_dir()


def refuse_code(folder: Path, key: str) -> None:
    """Refuse a checkpoint in a folder that needs Python code of its own.

    Args:
        key: name of the setting, for messages.

    Raises:
        UserError: names the file that asks for the code.
    """
    for name in _NAMING_CODE:
        try:
            values = json.loads((folder / name).read_text("utf-8"))
        except (OSError, ValueError):  # missing, or whoever needs it says what is wrong
            continue
        if isinstance(values, dict):
            refuse_auto_map(values, f"{key}: {folder / name}")
    if (folder / "custom_generate").is_dir():
        raise UserError(f"{key}: {folder / 'custom_generate'}: holds code, which is never run")


def refuse_auto_map(config: dict[str, Any], where: str) -> None:
    """Refuse a configuration that names Python code.

    Raises:
        UserError: it has a key `auto_map`; the message begins with `where`.
    """
    if config.get("auto_map"):
        raise UserError(
            f"{where}: auto_map names Python code, which is never run; only models that are part "
            "of transformers can be opened"
        )
