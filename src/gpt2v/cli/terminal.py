"""Pictures in a terminal, where it can show 24-bit colours: two pixels in each character."""

import os
import sys
from collections.abc import Sequence

from PIL import Image

from gpt2v.data.tiles.image_files import Pixels

_WIDEST = 72  # characters


def shows_pictures() -> bool:
    """Whether standard output is a terminal with 24-bit colours; a pipe or a file never is."""
    colours = os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    return colours and "NO_COLOR" not in os.environ and sys.stdout.isatty()


def picture_lines(pixels: Pixels, columns: int) -> list[str]:
    """A picture as lines of half blocks, two pixels in each character.

    Args:
        pixels: (height, width, 3).
        columns: width of the terminal in characters.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, min(columns - 1, _WIDEST) / width)
    size = max(1, round(width * scale)), max(2, round(height * scale / 2) * 2)
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BOX)
    lines = []
    for y in range(0, size[1], 2):
        pairs = ((small.getpixel((x, y)), small.getpixel((x, y + 1))) for x in range(size[0]))
        cells = (f"\x1b[38;2;{_code(top)};48;2;{_code(low)}m\u2580" for top, low in pairs)
        lines.append("".join(cells) + "\x1b[0m")
    return lines


def _code(colour: object) -> str:
    assert isinstance(colour, Sequence), "a picture in RGB"
    return ";".join(map(str, colour))
