"""Hidden states of a GPT-2v at sites, from one full forward pass of a batch.

Names of sites are in `config.sites`. Class tokens are left out everywhere: they show no patch.

Shapes: B samples of a batch, P pictures, N patches of a picture, M vision tokens,
T token positions, Q questions about a grid, D width of a hidden state, S side of a picture in
pixels.
"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from gpt2v.config.sites import Site
from gpt2v.data.grids.questions import ANSWER
from gpt2v.data.render.batches import Batch
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.hardware.device import to_device
from gpt2v.model.families import family_of
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.layer_changes import as_changed
from gpt2v.model.packed import Packed, Reader, block_inputs

_MOST_PIXELS = 8  # a patch's side, in pixels that are kept


# ---- of pictures -----------------------------------------------------------------------------


@torch.no_grad()
def picture_states(
    model: GPT2vModel, pixels: Pixels, sites: Sequence[Site], random: PreTrainedModel | None = None
) -> dict[Site, Tensor]:
    """States of pictures at sites before the language model.

    Args:
        pixels: (P, S, S, 3) uint8.
        sites: `pixels`, `vision.L`, `random.L`, `pre-projector` and `post-projector`.
        random: see `random_tower`; needed for sites `random`.

    Returns:
        (P, N, D) for each site, patches in raster order. Early layers of a convolutional tower have
        smaller patches than its last (`layer_patch_sizes`), and with pooling `post-projector` has
        fewer, larger ones. `pixels` are from 0 to 1, of patches of at most 8 x 8 pixels, to which
        larger ones are averaged.
    """
    names = {site.name for site in sites}
    x = model.normalise(pixels)
    states: dict[Site, Tensor] = {}
    if "pixels" in names:
        states[Site("pixels")] = pixels_of_patches(pixels, model.config.vision_config.patch_size)
    if names & {"vision", "pre-projector", "post-projector"}:
        kept: list[tuple[Tensor, ...]] = []
        tower = model.vision_tower
        hook = tower.register_forward_hook(lambda *call: kept.append(call[-1].hidden_states))
        try:
            features_PND = model.vision_features(x)
        finally:
            hook.remove()
        states |= _of_layers("vision", tower, kept[0], sites)
        states[Site("pre-projector")] = features_PND[:, : model.geometry.n_patches]
    if "post-projector" in names:
        tokens = model.project(features_PND)
        n_tokens = tokens.shape[1] - int(model.config.class_token)
        states[Site("post-projector")] = tokens[:, :n_tokens]
    if "random" in names:
        assert random is not None, "sites `random` need a random tower"
        hidden = random(x, output_hidden_states=True).hidden_states
        states |= _of_layers("random", random, hidden, sites)
    return {site: states[site] for site in sites}


def _of_layers(
    name: str, tower: PreTrainedModel, hidden: tuple[Tensor, ...], sites: Sequence[Site]
) -> dict[Site, Tensor]:
    """The patches of a tower's hidden states at the sites with this name."""
    first = family_of(tower.config).n_class_tokens
    return {
        site: hidden[site.layer][:, first:]
        for site in sites
        if site.name == name and site.layer is not None
    }


def pixels_of_patches(pixels: Pixels, patch_size: int) -> Tensor:
    """Pixels (P, S, S, 3) as those of each patch, from 0 to 1, (P, N, D) in raster order.

    D is three numbers for each pixel of a patch. Patches that are wider than 8 pixels are averaged
    to 8 x 8. Pixels past the last patch are left out.
    """
    n = pixels.shape[1] // patch_size
    whole = torch.from_numpy(np.ascontiguousarray(pixels[:, : n * patch_size, : n * patch_size]))
    cut = whole.view(len(pixels), n, patch_size, n, patch_size, 3).permute(0, 1, 3, 5, 2, 4)
    patches = F.adaptive_avg_pool2d(cut.flatten(0, 2) / 255, min(patch_size, _MOST_PIXELS))
    return patches.permute(0, 2, 3, 1).reshape(len(pixels), n * n, -1)


def random_tower(model: GPT2vModel, seed: int) -> PreTrainedModel:
    """A vision tower like the model's, with random weights, on the same device."""
    tower = model.vision_tower
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        other: PreTrainedModel = family_of(tower.config).model_class(copy.deepcopy(tower.config))
    return other.to(tower.device, tower.dtype).eval().requires_grad_(False)


# ---- of the language model -------------------------------------------------------------------


@torch.no_grad()
def text_states(
    reader: Reader, batch: Batch, sites: Sequence[Site], table: PieceTable
) -> dict[Site, Tensor]:
    """States of the language model at sites, of transformers' `hidden_states`.

    Args:
        batch: rendered with `table`; with or without choices.
        sites: `lm.L`, `question.L` and `answer.L`.

    Returns:
        (B, M, D) for sites `lm`: of each grid, in the order of its image placeholders; and
        (B, Q, D) for the others, of each question in the order of its slot (of a slot without a
        question, anything).

    Raises:
        ValueError: grids of the batch have different numbers of image positions.
    """
    packed, embeds = reader.embedded(batch)
    at = {"answer": _flat(batch, batch.ends, reader.device)}
    names = {site.name for site in sites}
    if "question" in names:
        at["question"] = _flat(batch, ends_of_words(batch, table), reader.device)
    if "lm" in names:
        at["lm"] = image_positions(packed)
    states: dict[Site, Tensor] = {}
    for layer, hidden_BTD in enumerate(all_hidden(reader, packed, embeds)):
        for site in sites:
            if site.layer == layer:
                states[site] = hidden_BTD.flatten(0, 1)[at[site.name]]
    return {site: states[site] for site in sites}


def all_hidden(reader: Reader, packed: Packed, embeds_BTD: Tensor) -> Iterator[Tensor]:
    """Transformers' `hidden_states` (B, T, D), one after the other; the last one is normalised."""
    gpt2 = reader.lm.transformer
    for hidden_BTD in block_inputs(reader.lm, packed, embeds_BTD):
        yield hidden_BTD
    n_samples, length = packed.input_ids.shape
    mask = packed.mask.expand(n_samples, -1, -1, -1)[..., :length]
    last_BTD = gpt2.ln_f(gpt2.h[-1](hidden_BTD, attention_mask=mask))
    yield as_changed(reader.lm, len(gpt2.h), last_BTD, packed)


def image_positions(packed: Packed) -> Tensor:
    """Image positions without class tokens, (B, M): indices into the flattened (B, T).

    Raises:
        ValueError: the samples have different numbers of them, or none.
    """
    if packed.images is None or packed.shown is None:
        raise ValueError("this batch shows no pictures")
    own = packed.shown.patch >= 0
    own |= not own.any()  # the positions of cells have no patches, and no class token
    counts = np.bincount(packed.shown.sample[own], minlength=len(packed.input_ids))
    if (counts != counts[0]).any():
        raise ValueError("the grids of this batch have different numbers of image positions")
    return packed.images[to_device(np.flatnonzero(own), packed.images.device)].view(len(counts), -1)


def ends_of_words(batch: Batch, table: PieceTable) -> Ints:
    """Position of the last token of the words of each question, before ` A:`, (B, Q).

    It stands right before them, also where questions share their first words: never their last.
    """
    return batch.ends - len(table.tokens(ANSWER))


def _flat(batch: Batch, at_BQ: Ints, device: torch.device) -> Tensor:
    """Positions of each sample (B, Q) as indices into the flattened (B, T)."""
    n_samples, length = batch.input_ids.shape
    return to_device(at_BQ + length * np.arange(n_samples)[:, None], device)
