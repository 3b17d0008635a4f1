"""Export formats. Each is a class in a file of its own, registered in `FORMATS`."""

from gpt2v.data.export import folder, llava, lm_eval, parquet  # noqa: F401 (they register)
from gpt2v.data.export.base import Format
from gpt2v.errors import within
from gpt2v.registry import FORMATS


def format_of(name: str) -> Format:
    """The format with this name.

    Raises:
        UserError: no such format.
    """
    with within("--format: "):
        made: Format = FORMATS[name].load()()
    return made
