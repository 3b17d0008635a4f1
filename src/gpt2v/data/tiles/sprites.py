"""Sprites: drawn tiles of the ten CIFAR-10 classes. This source of tiles needs no download.

A sprite is a pure function of (label, variant, size). Every random choice comes from a Philox
stream with the key (label, variant), so each tile can be drawn alone, without files, and there are
practically endlessly many. Pose, proportions, flip, rotation, scale, aspect, shear, position,
colours, background, brightness and noise vary. The code that chooses colours and backgrounds does
not know the class, so only the shape shows the class.

Drawings face right. They are in a square from -1 to 1 in both directions; x points right and y
points down. A `Pen` maps them by one affine matrix to a canvas that is `SUPERSAMPLE` times as large
as the tile. The canvas is then averaged over boxes of pixels.
"""

import numpy as np

from gpt2v.data.tiles.drawing import (
    DARK,
    LIGHT,
    ROSE,
    Pen,
    box,
    legs,
    limb,
    oval,
    pair,
    path,
    place,
)

CLASS_NAMES: tuple[str, ...] = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# Part of every hash of sprites, which is made without drawing them. Increase it when any drawing
# changes, even by one grey level in one sprite.
VERSION = 1
SUPERSAMPLE = 3  # side of the canvas / side of the tile


def draw_sprites(labels: np.ndarray, variants: np.ndarray, size: int = 32) -> np.ndarray:
    """Draw one tile for each pair of label and variant.

    The same variant of two classes has nothing in common. The same variant in two sizes is the
    same drawing with other noise.

    Args:
        labels: (n_tiles,) classes, indices into `CLASS_NAMES`.
        variants: (n_tiles,) numbers of variants, 0 to 2**64 - 1.
        size: side of a tile in pixels.

    Returns:
        (n_tiles, size, size, 3) uint8, RGB.

    Raises:
        ValueError: other shapes, types or values.
    """
    labels, variants = np.asarray(labels), np.asarray(variants)
    if labels.ndim != 1 or labels.shape != variants.shape:
        raise ValueError(
            f"labels {labels.shape} and variants {variants.shape} must both be (n_tiles,)"
        )
    if any(ids.dtype.kind not in "iu" or (ids < 0).any() for ids in (labels, variants)):
        raise ValueError("labels and variants must be integers of at least 0")
    if (labels >= len(CLASS_NAMES)).any() or size < 1:
        raise ValueError(f"labels must be below {len(CLASS_NAMES)} and size at least 1")
    tiles = np.empty((len(labels), size, size, 3), np.uint8)
    for i, key in enumerate(zip(labels.tolist(), variants.tolist(), strict=True)):
        rng = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64)))
        pen = Pen(rng.random(128).tolist(), size * SUPERSAMPLE)
        DRAWERS[key[0]](pen)
        tile = np.asarray(pen.image.reduce(SUPERSAMPLE), np.float32) * pen.roll(0.85, 1.1)
        tile += pen.roll(2, 9) * rng.standard_normal(tile.shape, dtype=np.float32)
        tiles[i] = np.clip(tile, 0, 255)
    return tiles


def draw_airplane(pen: Pen) -> None:
    span, fuselage = pen.roll(0.6, 0.9), oval(0, 0, 0.95, pen.roll(0.13, 0.2))
    wing = [(0.3, 0), (-pen.roll(0, 0.25), span), (-pen.roll(0.3, 0.5), span), (-0.13, 0)]
    if pen.below(2):  # from above
        halves = wing, path("-60,0 -85,38 -100,38 -90,0")
        pen.fill(pen.second, *halves, *(place(half, 1, -1) for half in halves))
        pen.fill(pen.body, fuselage)
        return pen.dots(LIGHT, 0.1, (0.72, 0))
    pen.fill(pen.second, place(wing, 0.8, -0.6, 0.1))
    pen.fill(pen.body, path("-50,0 -75,-60 -98,-60 -90,0"), fuselage)
    pen.fill(pen.second, place(wing, 1, 0.9, 0, 0.05))
    pen.dots(LIGHT, 0.05, *path("62,-5 42,-6 22,-6 2,-6 -18,-6"))


def draw_automobile(pen: Pen) -> None:
    tall, back, r = pen.roll(0.85, 1.2), pen.roll(0.85, 1.15), pen.roll(0.18, 0.24)
    cabin = place(path("-75,0 -50,-42 15,-42 52,0"), back, tall)
    pen.fill(pen.body, path("-97,35 -95,0 -60,-8 52,-6 92,6 98,35"), cabin)
    panes = path("-60,-5 -44,-34 -18,-34 -18,-5"), path("-10,-5 -10,-34 11,-34 36,-5")
    pen.fill(LIGHT, *(place(pane, back, tall) for pane in panes), edge=0)
    pen.fill(pen.second, box(-0.95, 0.1, 0.95, pen.roll(0.1, 0.22)), edge=0)
    pen.rings(r, DARK, LIGHT, (pen.roll(0.5, 0.65), 0.36), (-pen.roll(0.5, 0.65), 0.36))


def draw_bird(pen: Pen) -> None:
    fat, bill = pen.roll(0.28, 0.4), place(path("-5,-14 35,2 -5,16"), pen.roll(0.8, 1.3))
    tail = place(path("-30,10 -98,10 -90,45 -30,38"), y=pen.roll(-0.15, 0.15))
    if pen.below(2):  # flying
        wing = place(path("22,15 10,-40 -45,-100 -55,-75 -58,-40 -30,15"), 1, pen.roll(0.75, 1))
        pen.fill(pen.second, place(bill, x=0.75, y=0.08))
        pen.fill(pen.body, place(wing, -0.8, 0.95, 0.12))
        pen.fill(pen.body, oval(0.02, 0.25, 0.55, 0.7 * fat), oval(0.58, 0.06, 0.22, 0.22), tail)
        pen.fill(pen.second, wing)
        return pen.rings(0.09, LIGHT, DARK, (0.64, 0))
    feet = (limb(path(points), 0.06, 0.06) for points in ("-8,40 -5,88 12,88", "14,40 17,88 34,88"))
    pen.fill(DARK, *feet, edge=0)
    pen.fill(pen.second, place(bill, x=0.62, y=-0.38))
    pen.fill(pen.body, oval(-0.02, 0.12, 0.48, fat, -0.5), oval(0.4, -0.38, 0.25, 0.25), tail)
    pen.fill(pen.second, path("22,0 -10,-10 -70,30 -20,38 12,25"))
    pen.rings(0.09, LIGHT, DARK, (0.46, -0.43))


def draw_cat(pen: Pen) -> None:
    tip = pen.roll(0.6, 1)
    if pen.below(2):  # sitting, from the front
        x, y, w = 0.0, -0.25, 0.46
        pen.fill(pen.body, limb([*path("20,80 60,83 85,70 90,45"), (tip, 0)], 0.22, 0.12))
        pen.fill(pen.body, oval(0, 0.5, pen.roll(0.34, 0.46), 0.48))
    else:
        x, y, w = 0.55, -0.2, 0.34
        pen.fill(pen.body, limb([*path("-50,10 -80,0 -90,-25"), (-tip, -0.85)], 0.17, 0.12))
        trunk = oval(-0.05, 0.18, 0.58, pen.roll(0.22, 0.3))
        pen.fill(pen.body, trunk, *legs(pen, 0.2, 0.13, -0.5, -0.28, 0.2, 0.42))
    head = oval(0, 0, 1, 0.85), *pair(place(path("-95,0 -90,-155 -10,-70"), 1, pen.roll(0.85, 1.1)))
    pen.fill(pen.body, *(place(shape, w, w, x, y) for shape in head))
    lines = "30,35 160,10", "30,40 160,45", "30,45 160,80"
    hairs = pair(*(limb(path(points), 0.1, 0.1) for points in lines))
    pen.fill(LIGHT, *(place(shape, w, w, x, y) for shape in hairs), edge=0)
    pen.dots(pen.second, 0.15 * w, (x, y + 0.3 * w))
    pen.rings(0.24 * w, LIGHT, DARK, *place(path("-42,-10 42,-10"), w, w, x, y))


def draw_deer(pen: Pen) -> None:
    rack, slim = pen.roll(0.9, 1.15), pen.roll(0.16, 0.22)
    beams = path("0,0 22,-20 30,-52"), path("14,-13 2,-42"), path("24,-28 50,-42")
    antlers = pair(*(place(limb(beam, 0.12, 0.06), rack, rack, 0.08) for beam in beams))
    if pen.below(2):  # the head, from the front
        pen.fill(pen.second, *(place(part, 1.1, 1.2, 0, -0.22) for part in antlers))
        ears = pair(oval(0.45, -0.08, 0.25, 0.11, -0.3))
        pen.fill(pen.body, *ears, oval(0, 0.05, 0.3, 0.35), oval(0, 0.5, slim, 0.42))
        pen.dots(DARK, 0.1, (0, 0.8))
        return pen.rings(0.09, LIGHT, DARK, (-0.17, 0.05), (0.17, 0.05))
    pen.fill(pen.second, *(place(part, 0.9, 0.9, 0.42, -0.5) for part in antlers))
    head = oval(0.55, -0.4, 0.25, 0.12, 0.35), oval(0.24, -0.5, 0.14, 0.07, 0.3)
    trunk = oval(-0.12, 0.15, 0.46, slim), limb(path("15,15 42,-42"), 0.3, 0.17)
    pen.fill(pen.body, *legs(pen, 0.14, 0.07, -0.5, -0.33, 0.12, 0.27), *trunk, *head)
    pen.dots(DARK, 0.06, *path("50,-44 76,-31"))


def draw_dog(pen: Pen) -> None:
    ear, snout = pen.roll(0.26, 0.36), pen.roll(0.85, 0.97)
    if pen.below(2):  # the head, from the front
        pen.fill(pen.body, oval(0, 0.75, 0.45, 0.25), oval(0, -0.1, 0.5, pen.roll(0.48, 0.6)))
        pen.fill(pen.second, *pair(oval(0.58, 0.02, 0.2, 1.5 * ear, -0.2)))
        pen.dots(LIGHT, snout - 0.65, (0, 0.2))
        pen.dots(ROSE, 0.14, (0, 0.5))
        pen.dots(DARK, 0.12, (0, 0.1))
        return pen.rings(0.1, LIGHT, DARK, (-0.2, -0.22), (0.2, -0.22))
    trunk = limb(path("-50,15 30,12"), 0.44, 0.5), limb(path("20,15 45,-35"), 0.44, 0.36)
    tail = limb([(-0.5, 0.05), (-0.9, pen.roll(-0.5, 0))], 0.2, 0.08)
    head = oval(0.46, -0.42, 0.28, 0.26), box(0.5, -0.44, snout, -0.18)
    pen.fill(pen.body, tail, *trunk, *head, *legs(pen, 0.24, 0.18, -0.5, -0.28, 0.12, 0.34))
    pen.fill(pen.second, oval(0.28, -0.28, 0.13, ear, 0.15))
    pen.dots(DARK, 0.08, (snout, -0.4), (0.55, -0.48))


def draw_frog(pen: Pen) -> None:
    wide, bulge = pen.roll(0.5, 0.62), pen.roll(0.18, 0.25)
    if pen.below(2):  # from the front
        foot = path("60,60 98,80 80,80 75,92 62,80 45,88")
        pen.fill(pen.body, *pair(oval(0.66, 0.4, 0.26, 0.36, -0.3), foot))
        head = oval(0, -0.1, 1.15 * wide, 0.36), *pair(oval(0.4, -0.42, bulge, bulge))
        pen.fill(pen.body, oval(0, 0.3, wide, 0.48), *head)
        pen.fill(pen.second, oval(0, 0.45, 0.65 * wide, 0.28), edge=0)
        pen.fill(pen.ink, limb(place(path("-100,-8 0,13 100,-8"), wide), 0.08, 0.08), edge=0)
        return pen.rings(0.75 * bulge, LIGHT, DARK, (-0.4, -0.44), (0.4, -0.44))
    feet = path("30,30 50,30 50,68 78,76 40,80"), path("-60,60 15,68 20,80 -75,80")
    back = place(path("-85,45 -50,0 20,-35 80,-25 92,0 50,50 -60,65"), 1.6 * wide)
    pen.fill(pen.body, back, *feet, oval(0.42, -0.35, bulge, bulge))
    pen.fill(pen.body, oval(-0.42, 0.36, 0.38, 0.27, -0.5))
    pen.rings(0.7 * bulge, LIGHT, DARK, (0.44, -0.37))


def draw_horse(pen: Pen) -> None:
    thick, mane = pen.roll(0.3, 0.38), pen.roll(0.85, 1.15)
    if pen.below(2):  # head and neck
        chest = path("-75,95 -35,-50 10,-65 30,-10 25,95"), path("-15,-60 0,-98 15,-60")
        pen.fill(pen.body, *chest, limb(path("-5,-50 75,15"), 0.6, thick))
        hair = path("-2,-72 -50,-60 -75,-10 -95,70 -60,50 -35,10 -30,-30")
        pen.fill(pen.second, place(hair, mane))
        return pen.rings(0.09, LIGHT, DARK, (0.15, -0.4))
    pen.fill(pen.second, limb([*path("-55,0 -80,4 -90,25"), (-0.88, 0.6 * mane)], 0.16, 0.3))
    head = limb(path("45,-62 95,-30"), 0.32, 0.18), path("42,-70 50,-98 60,-70")
    trunk = oval(-0.1, 0.05, 0.52, pen.roll(0.24, 0.3)), limb(path("15,10 55,-60"), 0.5, thick)
    pen.fill(pen.body, *trunk, *head, *legs(pen, 0.22, 0.12, -0.5, -0.3, 0.15, 0.3))
    hair = path("50,-85 20,-70 -15,-15 -10,5 10,-5 35,-45")
    pen.fill(pen.second, place(hair, mane, x=0.5 - 0.5 * mane))


def draw_ship(pen: Pen) -> None:
    deck, bow = pen.roll(0.15, 0.3), pen.roll(0.45, 0.7)
    if pen.below(2):  # under sail
        pen.fill(DARK, box(-0.04, -0.98, 0.04, deck), edge=0)
        pen.fill(pen.second, [(0.08, -0.95), (0.85, deck - 0.22), (0.08, deck - 0.12)])
        pen.fill(LIGHT, [(-0.08, -pen.roll(0.6, 0.95)), (-0.08, deck - 0.1), (-0.75, deck - 0.1)])
    else:
        funnels = path("-32,-75 -2,-75 28,-75")[: 1 + pen.below(3)]
        pen.dots(LIGHT, 0.15, *place(funnels, x=-0.08, y=-0.1))
        pen.fill(pen.body, *(box(x - 0.08, y, x + 0.08, deck) for x, y in funnels))
        pen.fill(pen.second, box(-0.65, deck - 0.35, 0.5, deck), box(-0.5, deck - 0.55, 0.3, deck))
    pen.fill(pen.body, [(-0.9, deck), (0.98, deck - 0.12), (bow, 0.75), (-0.7, 0.75)])


def draw_truck(pen: Pen) -> None:
    load, top, end = pen.below(3), pen.roll(-0.8, -0.55), pen.roll(0.2, 0.4)
    pen.fill(pen.body, [(end + 0.04, 0.45), (end + 0.04, -0.35), *path("80,-35 95,5 98,45")])
    pen.fill(LIGHT, [(end + 0.2, 0), (end + 0.2, -0.24), *path("76,-24 86,0")], edge=0)
    pen.fill(DARK, box(-0.9, 0.3, 0.9, 0.5), edge=0)
    if load == 0:  # a closed box
        pen.fill(pen.second, box(-0.97, top, end, 0.35))
    elif load == 1:  # a tank
        caps = (oval(x, -0.1, 0.27, 0.42) for x in (-0.7, end - 0.27))
        pen.fill(pen.second, *caps, box(-0.7, -0.52, end - 0.27, 0.32))
    else:  # a heap in a tipper
        pen.fill(pen.ink, oval(-0.35, -0.3, 0.42, -0.5 * top), edge=0)
        pen.fill(pen.second, [(-0.98, -0.35), (end, -0.35), (end - 0.08, 0.35), (-0.8, 0.35)])
    pen.rings(pen.roll(0.16, 0.21), DARK, LIGHT, *path("-70,55 -32,55 66,55"))


DRAWERS = (
    draw_airplane, draw_automobile, draw_bird, draw_cat, draw_deer,
    draw_dog, draw_frog, draw_horse, draw_ship, draw_truck,
)  # fmt: skip
