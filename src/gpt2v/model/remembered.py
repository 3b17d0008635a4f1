"""What a frozen tower with windows says of a window is computed once, however often it is shown.

Shapes: P pictures, N patches of a picture, S side of a picture in pixels, D width of a hidden
state.
"""

import math
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from gpt2v.data.tiles.image_files import Pixels
from gpt2v.model.windows import cut_windows, join_windows

_AT_ONCE = 64  # windows; always so many, because a sum may be rounded otherwise among fewer


class Remembered:
    """Embeddings of patches, looked up by the pixels of their window, in the machine's memory.

    They are the same bits whenever they are computed, so a resumed training is the same.

    Args:
        embed: embeddings (n_windows, n_patches, D) of the patches of windows
            (n_windows, 3, side, side), each by itself.
        window: side of a window in pixels.
        limit: bytes of embeddings; above it, all are forgotten.
        mirror: whether the patches of a mirrored window are the same, mirrored; then one of the two
            is embedded.
    """

    def __init__(
        self, embed: Callable[[Tensor], Tensor], window: int, limit: int, mirror: bool = False
    ) -> None:
        self._embed, self._window, self._limit = embed, window, limit
        self._mirror = mirror
        self._kept: dict[bytes, Tensor] = {}  # (n_patches, D) each
        self._bytes = 0

    @property
    def n_kept(self) -> int:
        """Number of windows whose patches are in memory."""
        return len(self._kept)

    def patches(self, pixels: Pixels, normalised: Tensor) -> Tensor:
        """Embeddings (P, N, D) of the patches of pictures.

        Args:
            pixels: uint8 (P, S, S, 3).
            normalised: (P, 3, S, S) the same, as the tower takes it.
        """
        n = pixels.shape[1] // self._window
        keys, turned = self._keys(pixels, n)
        if self._bytes > self._limit:
            self._kept, self._bytes = {}, 0
        new = {key: place for place, key in enumerate(keys) if key not in self._kept}
        if new:
            places = list(new.values())
            embedded = self._embedded(cut_windows(normalised, n)[places])
            self._kept |= zip(new, _mirrored(embedded, turned[places]), strict=True)
            self._bytes += embedded.nbytes
        found = _mirrored(torch.stack([self._kept[key] for key in keys]), turned)
        return join_windows(found.to(normalised.device), n)

    def _keys(self, pixels: Pixels, n: int) -> tuple[list[bytes], Tensor]:
        """Under what each window is kept, in the order of `cut_windows`, and which are mirrored.

        With `mirror`, a window and its mirror image have one key, and one of the two is mirrored.
        """
        side = self._window
        squares = pixels.reshape(len(pixels), n, side, n, side, 3).transpose(0, 1, 3, 2, 4, 5)
        windows = squares.reshape(-1, side, side, 3)
        keys = _digests(windows)
        if not self._mirror:
            return keys, torch.zeros(len(keys), dtype=torch.bool)
        pairs = list(zip(keys, _digests(windows[:, :, ::-1]), strict=True))
        return [min(pair) for pair in pairs], torch.tensor([key > other for key, other in pairs])

    def _embedded(self, windows: Tensor) -> Tensor:
        """Embeddings (n_windows, n_patches, D) of windows (n_windows, 3, side, side)."""
        count = len(windows)
        filled = torch.cat([windows, windows.new_zeros(-count % _AT_ONCE, *windows.shape[1:])])
        return torch.cat([self._embed(some) for some in torch.split(filled, _AT_ONCE)])[
            :count
        ].cpu()


def _digests(windows: Pixels) -> list[bytes]:
    """A digest of each of windows (n_windows, side, side, 3)."""
    return [blake2b(np.ascontiguousarray(one).data, digest_size=16).digest() for one in windows]


def _mirrored(patches: Tensor, which: Tensor) -> Tensor:
    """Patches (n_windows, n_patches, D), those of some windows (n_windows,) from left to right."""
    if not which.any():
        return patches
    side = math.isqrt(patches.shape[1])
    flipped = patches.reshape(len(patches), side, side, -1).flip(2).flatten(1, 2)
    return torch.where(which[:, None, None], flipped, patches)
