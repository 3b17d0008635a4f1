"""Export formats. Each is a class in a file of its own, registered in `FORMATS`."""

from gpt2v.data.export.base import Format
from gpt2v.data.export.folder import FolderFormat
from gpt2v.data.export.llava import LlavaFormat
from gpt2v.data.export.lm_eval import LmEvalFormat
from gpt2v.data.export.parquet import ParquetFormat
from gpt2v.errors import within
from gpt2v.registry import FORMATS

for _class in (ParquetFormat, LlavaFormat, LmEvalFormat, FolderFormat):
    FORMATS.register(_class.name)(_class)


def format_of(name: str) -> Format:
    """The format with this name.

    Raises:
        UserError: no such format.
    """
    with within("--format: "):
        made: Format = FORMATS[name].load()()
    return made
