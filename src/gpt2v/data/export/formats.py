"""Export formats. Each is a class in its own file, registered in `FORMATS`."""

from gpt2v.data.export import (  # noqa: F401 (registers them)
    folder,
    llava,
    lm_eval,
    lmms_eval,
    parquet,
)
from gpt2v.data.export.base import Format
from gpt2v.errors import within
from gpt2v.registry import FORMATS


def format_of(name: str) -> Format:
    """The format with this name.

    Raises:
        UserError: no such format.
    """
    with within("--format: "):
        chosen: Format = FORMATS[name].load()()
    return chosen
