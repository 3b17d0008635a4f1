"""How well an encoder names the objects in new pictures, by comparison with captions."""

import torch
from tokenizers import Tokenizer

from gpt2v.config.grids import ContentConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.spans import ImageSpan, PictureGeometry
from gpt2v.data.scenes import object_caption
from gpt2v.data.tiles.bank import TileBank
from gpt2v.model import clip as clips
from gpt2v.train.finite import OVERFLOW, check_finite


def scoring_grid(bank: TileBank, geometry: PictureGeometry) -> tuple[ContentConfig, ImageSpan]:
    """The largest square grid that fits into a picture, of all classes, and its patches.

    Raises:
        UserError: not even one tile fits.
    """
    side = min(16, max(1, geometry.image_size // bank.size))
    spec = ContentConfig(rows=side, cols=side, palette=len(bank.class_names))
    return spec, geometry.span(side, side, bank.size)


@torch.no_grad()
def zero_shot_accuracy(
    clip: clips.Clip,
    tokenizer: Tokenizer,
    bank: TileBank,
    geometry: PictureGeometry,
    split: str,
    n_images: int,
) -> float:
    """Share of grid cells whose patches are nearest to the caption of the right class.

    The captions are those of all classes.

    Raises:
        UserError: an embedding is NaN or infinite.
    """
    device = next(clip.parameters()).device
    spec, span = scoring_grid(bank, geometry)
    rows, cols = spec.largest_shape
    ids = clips.caption_ids([object_caption(n) for n in bank.class_names], tokenizer, device)
    objects = clips.embed_captions(clip, ids)
    region = torch.from_numpy(span.cell).to(device)[None]
    right = total = 0
    for pictures in GridDataset(spec, bank, 1, split, n_images).pictures(geometry.image_size, 100):
        pixels = clips.normalise(pictures.pixels, device)
        patches = clips.embed_patches(clip, pixels)[1][:, span.patch]
        cells = clips.pool_regions(patches, region, rows * cols)
        scores = cells @ objects.T
        check_finite({"similarities": scores}, "model", OVERFLOW)
        named = scores.argmax(-1).cpu().numpy()
        right += int((named == pictures.grids.classes.reshape(named.shape)).sum())
        total += named.size
    return right / total
