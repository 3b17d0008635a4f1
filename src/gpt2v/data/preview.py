"""`gpt2v data preview`: samples on the terminal, and a contact sheet of pictures and text twins."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gpt2v.data.grids import draw_samples
from gpt2v.data.images import compose
from gpt2v.data.pieces import Strings
from gpt2v.data.stream import view_of
from gpt2v.data.text import documents
from gpt2v.data.tiles import load_bank
from gpt2v.errors import UserError
from gpt2v.experiments import EvalConfig

_PICTURE = 192  # side of a picture on the sheet, in pixels
_LINE = 14  # height of a line of text
_CHARACTER = 7  # width of a character


def preview(config: EvalConfig, n: int, png: Path) -> None:
    """Print n samples and write their contact sheet."""
    if n < 1:
        raise UserError(f"--n: {n} must be at least 1")
    bank = load_bank(config.tiles)
    samples = draw_samples(config.grid, bank, config.seed, config.split, np.arange(n))
    view = view_of(config.grid, bank.size, None)
    texts = documents(samples, view, bank.class_names, Strings())
    side = max(config.grid.rows, config.grid.cols) * bank.size
    pictures = compose(samples, bank, side)
    for index, text in zip(samples.index, texts, strict=True):
        print(f"--- {config.split} sample {index}\n{text}", end="")
    try:
        contact_sheet(pictures, texts).save(png, format="PNG")
    except OSError as error:
        raise UserError(f"--png: {png}: cannot be written: {error.strerror}") from None
    print(f"contact sheet: {png}")


def contact_sheet(pictures: np.ndarray, texts: list[str]) -> Image.Image:
    """Each picture (n, S, S, 3) with its text beside it, one below the other."""
    font = ImageFont.load_default(size=12)
    lines = [text.rstrip("\n").split("\n") for text in texts]
    width = _PICTURE + 24 + _CHARACTER * max(len(line) for text in lines for line in text)
    heights = [max(_PICTURE, _LINE * len(text)) + 16 for text in lines]
    sheet = Image.new("RGB", (width, sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    y = 8
    for pixels, text, height in zip(pictures, lines, heights, strict=True):
        big = Image.fromarray(pixels).resize((_PICTURE, _PICTURE), Image.Resampling.NEAREST)
        sheet.paste(big, (8, y))
        for i, line in enumerate(text):
            draw.text((_PICTURE + 16, y + i * _LINE), line, fill="black", font=font)
        y += height
    return sheet
