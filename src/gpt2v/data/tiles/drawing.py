"""The pen that draws sprites: random numbers, colours, backgrounds, and shapes.

A drawing is in a square from -1 to 1 in both directions; x points right and y points down. A `Pen`
maps all shapes of a drawing to its canvas by one affine map.
"""

import colorsys
import math
from functools import cache

from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]
Shape = list[Point]
DARK, LIGHT, ROSE = (25, 25, 30), (240, 240, 230), (225, 90, 100)


class Pen:
    """Draws one sprite: has its random numbers, canvas, colours and map from drawing to canvas."""

    def __init__(self, uniforms: list[float], side: int) -> None:
        """Choose colours and map, and paint the background.

        Args:
            uniforms: random numbers from 0 to 1, used one after another.
            side: of the canvas in pixels.
        """
        self._next = iter(uniforms).__next__  # a sprite uses at most 100 of them
        self.unit = side / 96  # line widths are given in pixels of a 96-pixel canvas
        behind = self.paint_background(side)
        self.body = self.color(*behind, gap=0.25)
        self.second = self.color(self.body, *behind, gap=0.18)
        self.ink = mix(self.body, DARK, 0.8)
        flip, aspect, shear = 2 * self.below(2) - 1, self.roll(0.9, 1.1), self.roll(-0.12, 0.12)
        scale, turn = side / 2 * self.roll(0.76, 0.98), self.roll(-0.26, 0.26)
        cos, sin = scale * math.cos(turn), scale * math.sin(turn)
        self.a, self.b = flip * aspect * cos, shear * cos - sin / aspect
        self.d, self.e = flip * aspect * sin, shear * sin + cos / aspect
        self.c, self.f = side * self.roll(0.45, 0.55), side * self.roll(0.45, 0.55)

    def roll(self, low: float, high: float) -> float:
        """A random number from low to high."""
        return low + (high - low) * self._next()

    def below(self, n: int) -> int:
        """A random integer from 0 to n - 1."""
        return int(n * self._next())

    def color(self, *others: Color, gap: float = 0) -> Color:
        """A random colour whose lightness (0 to 1) differs by `gap` or more from all others.

        If 8 tries give no such colour, it is the one with the largest difference.
        """
        tries: list[tuple[float, Color]] = []
        while len(tries) < 8 and (not tries or tries[-1][0] < gap):
            hsv = self._next(), 0.8 * self._next(), self.roll(0.15, 1)
            r, g, b = (int(255 * level) for level in colorsys.hsv_to_rgb(*hsv))
            apart = [abs(lightness((r, g, b)) - lightness(other)) for other in others]
            tries.append((min(apart, default=1), (r, g, b)))
        return max(tries)[1]

    def paint_background(self, side: int) -> tuple[Color, Color]:
        """Paint a plain background, blobs, stripes, grass or sea; return its two main colours.

        The choice does not depend on the class of the sprite.
        """
        style, top, ground = self.below(5), self.color(), self.color()
        low, mark = mix(top, self.color(), self.roll(0, 0.6)), mix(ground, self.color(), 0.4)
        corners = Image.frombytes("RGB", (2, 2), bytes((*top, *mix(top, low, 0.5), *low, *low)))
        self.image = corners.resize((side, side), Image.Resampling.BILINEAR)
        self.draw = ImageDraw.Draw(self.image)
        y0, tilt = side * self.roll(0.35, 0.8), side * self.roll(-0.06, 0.06)
        if style >= 3:  # land or sea below a horizon
            self.draw.polygon([(0, y0 - tilt), (side, y0 + tilt), (side, side), (0, side)], ground)
        for k in range(5 if style else 0):
            x, y, r = side * self._next(), side * self._next(), side * self.roll(0.04, 0.2)
            row, reach = y0 + (side - y0) * (k + 0.5) / 5, r * (style - 3) + tilt
            if style == 1:
                self.draw.ellipse((x - r, y - r, x + 1.5 * r, y + r), mix(low, mark, 0.6))
            elif style == 2:
                self.draw.line([(x, 0), (x + 4 * tilt, side)], mix(low, mark, 0.4), int(r / 2))
            else:  # blades of grass, or waves
                self.draw.line([(x - reach, row), (x + reach, row - r / 3)], mark, side // 40)
        return mix(top, low, 0.5), ground if style >= 3 else low

    def fill(self, color: Color, *shapes: Shape, edge: float = 4) -> None:
        """Fill closed shapes, with a line around their union.

        `edge` is the width of the line in pixels of a 96-pixel canvas; 0: no line.
        """
        a, b, c, d, e, f = self.a, self.b, self.c, self.d, self.e, self.f
        mapped = [[(a * x + b * y + c, d * x + e * y + f) for x, y in shape] for shape in shapes]
        for points in mapped if edge else ():
            self.draw.line([*points, points[0]], self.ink, round(edge * self.unit))
        for points in mapped:
            self.draw.polygon(points, color)

    def dots(self, color: Color, r: float, *centres: Point) -> None:
        """Fill circles of radius r."""
        self.fill(color, *(oval(x, y, r, r) for x, y in centres), edge=0)

    def rings(self, r: float, outer: Color, inner: Color, *centres: Point) -> None:
        """Fill circles of radius r, with a smaller circle of another colour inside."""
        self.dots(outer, r, *centres)
        self.dots(inner, 0.55 * r, *centres)


def lightness(color: Color) -> float:
    """Lightness of a colour, from 0 to 1."""
    return (0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]) / 255


def mix(a: Color, b: Color, t: float) -> Color:
    """A mixture of two colours, with share t (0 to 1) of b."""
    r, g, b_ = (int(x + (y - x) * t) for x, y in zip(a, b, strict=True))
    return r, g, b_


@cache
def path(points: str) -> Shape:
    """Points from a string "x,y x,y ..." as in SVG, but in hundredths."""
    pairs = (point.split(",") for point in points.split())
    return [(int(x) / 100, int(y) / 100) for x, y in pairs]


def place(shape: Shape, sx: float = 1, sy: float = 1, x: float = 0, y: float = 0) -> Shape:
    """A shape scaled by (sx, sy), then moved by (x, y)."""
    return [(sx * u + x, sy * v + y) for u, v in shape]


def pair(*shapes: Shape) -> list[Shape]:
    """The shapes and their mirror images (left and right exchanged)."""
    return [*shapes, *(place(shape, -1) for shape in shapes)]


def box(x0: float, y0: float, x1: float, y1: float) -> Shape:
    """A rectangle with corners (x0, y0) and (x1, y1)."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def oval(x: float, y: float, rx: float, ry: float, tilt: float = 0) -> Shape:
    """An ellipse with centre (x, y) and radii rx, ry; `tilt` is in radians, clockwise on screen."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    turn = [(math.cos(k * math.pi / 8), math.sin(k * math.pi / 8)) for k in range(16)]
    return [(x + rx * u * cos - ry * v * sin, y + rx * u * sin + ry * v * cos) for u, v in turn]


def limb(line: Shape, start: float, end: float) -> Shape:
    """A closed strip along a line; its width is `start` at the start and `end` at the end."""
    left, right, last = [], [], len(line) - 1
    for i, (x, y) in enumerate(line):
        (x0, y0), (x1, y1) = line[max(i - 1, 0)], line[min(i + 1, last)]
        half = (start + (end - start) * i / last) / 2 / math.hypot(x1 - x0, y1 - y0)
        left.append((x + (y1 - y0) * half, y - (x1 - x0) * half))
        right.append((x - (y1 - y0) * half, y + (x1 - x0) * half))
    return left + right[::-1]


def legs(pen: Pen, start: float, end: float, *xs: float) -> list[Shape]:
    """Legs that begin at each x, with a random slant; widths as in `limb`."""
    return [limb([(x, 0.15), (x + pen.roll(-0.12, 0.12), 0.93)], start, end) for x in xs]
