"""`gpt2v data preview`: print samples, and write an image file with their pictures and texts."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from gpt2v.config.measuring import PreviewConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError, within
from gpt2v.messages import say
from gpt2v.storage.files import whole_file, writing

_PICTURE = 192  # small pictures are enlarged by a whole number, up to this many pixels
_GAP = 4  # pixels between the pictures of one sample
_LINE = 14  # height of a line of text in pixels
_WRAP = 110  # characters in a line
_MARK = ("Software", "gpt2v data preview")


def preview(config: PreviewConfig, n: int, png: Path) -> None:
    """Print the first n samples and write their contact sheet to the file `png`.

    Raises:
        UserError: n is below 1, the samples cannot be drawn, or `png` cannot be written or is a
            file that gpt2v did not write.
    """
    if n < 1:
        raise UserError(f"--n: {n} must be at least 1")
    bank = load_bank(config.tiles)
    data = GridDataset(config.grid, bank, config.seed, config.split, n, "grid.")
    examples = data.examples(np.arange(n))
    titled = [f"{config.split} sample {example.index}\n{example.text}" for example in examples]
    rows = [example.by_row(example.pictures) for example in examples]
    sheet = contact_sheet([montage(pictures) for pictures in rows], titled)
    if png.exists() and not _is_ours(png):
        raise UserError(f"--png: {png}: was not written by gpt2v; choose another name")
    with within("--png: "), writing(png), whole_file(png) as file:
        sheet.save(file, format="PNG", pnginfo=_mark())
    if missing := _without_glyph("".join(titled)):
        say(f"--png: {png}: its font lacks {' '.join(missing)}; the texts printed here are right")
    for text in titled:
        print(f"--- {text}", end="")
    print(f"contact sheet: {png}")


def _mark() -> PngInfo:
    """Tells that we wrote the file, which later previews then replace."""
    mark = PngInfo()
    mark.add_text(*_MARK)
    return mark


def _is_ours(png: Path) -> bool:
    try:
        with Image.open(png) as image:
            return image.info.get(_MARK[0]) == _MARK[1]
    except (OSError, ValueError):
        return False


def _without_glyph(text: str) -> list[str]:
    """The characters that the font of the contact sheet shows as an empty box."""
    font = _font()
    box = bytes(font.getmask("\U0010ffff"))  # no character
    others = sorted(set(text) - set(map(chr, range(128))))
    return [char for char in others if bytes(font.getmask(char)) == box]


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=12)


def montage(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """The pictures of one sample in one array (height, width, 3).

    Args:
        rows: for each row of the grid its pictures; all pictures have the same size.
    """
    height, width = rows[0][0].shape[:2]
    white = np.full(
        (len(rows) * (height + _GAP) - _GAP, len(rows[0]) * (width + _GAP) - _GAP, 3), 255, np.uint8
    )
    for r, row in enumerate(rows):
        for c, pixels in enumerate(row):
            y, x = r * (height + _GAP), c * (width + _GAP)
            white[y : y + height, x : x + width] = pixels
    return white


def contact_sheet(pictures: list[Pixels], texts: list[str]) -> Image.Image:
    """Each picture (height, width, 3) with its text beside it, one below the other."""
    font = _font()
    images = []
    for pixels in pictures:
        times = max(1, _PICTURE // max(pixels.shape[:2]))
        image = Image.fromarray(pixels)
        size = (image.width * times, image.height * times)
        images.append(image.resize(size, Image.Resampling.NEAREST))
    lines = [
        [part for line in text.splitlines() for part in wrap(line, _WRAP) or [""]] for text in texts
    ]
    left = 16 + max(image.width for image in images)
    longest = max(font.getlength(line) for text in lines for line in text)
    heights = [
        max(image.height, _LINE * len(text)) + 16 for image, text in zip(images, lines, strict=True)
    ]
    sheet = Image.new("RGB", (left + int(longest) + 16, sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    y = 8
    for image, text, height in zip(images, lines, heights, strict=True):
        sheet.paste(image, (8, y))
        for i, line in enumerate(text):
            draw.text((left, y + i * _LINE), line, fill="black", font=font)
        y += height
    return sheet
