"""How well an encoder names objects in pictures that it has not seen, by their captions alone."""

import torch
from tokenizers import Tokenizer
from transformers import CLIPModel

from gpt2v.config.grids import ContentConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.spans import ImageSpan, PictureGeometry
from gpt2v.data.scenes import object_caption
from gpt2v.data.tiles.bank import TileBank
from gpt2v.model import clip as clips


def scoring_grid(bank: TileBank, geometry: PictureGeometry) -> tuple[ContentConfig, ImageSpan]:
    """The largest square grid that a picture holds, of any of the classes, and its patches."""
    side = min(16, max(1, geometry.image_size // bank.size))
    spec = ContentConfig(rows=side, cols=side, palette=len(bank.class_names))
    return spec, geometry.span(side, side, bank.size)


@torch.no_grad()
def zero_shot_accuracy(
    clip: CLIPModel,
    tokenizer: Tokenizer,
    bank: TileBank,
    geometry: PictureGeometry,
    split: str,
    n_images: int,
) -> float:
    """Share of grid cells named rightly, among all classes, by their patches' captions."""
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
        found = (cells @ objects.T).argmax(-1).cpu().numpy()
        right += int((found == pictures.grids.classes.reshape(found.shape)).sum())
        total += found.size
    return right / total
