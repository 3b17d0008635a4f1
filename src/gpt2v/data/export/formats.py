"""The registry of formats. A new one is a class in a file of its own, and its place in FORMATS."""

from gpt2v.data.export.base import Format
from gpt2v.data.export.folder import FolderFormat
from gpt2v.data.export.llava import LlavaFormat
from gpt2v.data.export.lm_eval import LmEvalFormat
from gpt2v.data.export.parquet import ParquetFormat
from gpt2v.errors import UserError

FORMATS: dict[str, Format] = {
    made.name: made for made in (ParquetFormat(), LlavaFormat(), LmEvalFormat(), FolderFormat())
}


def format_of(name: str) -> Format:
    """The format with this name.

    Raises:
        UserError: there is none.
    """
    if name not in FORMATS:
        raise UserError(f"--format: {name}: no such format; there are {', '.join(FORMATS)}")
    return FORMATS[name]
