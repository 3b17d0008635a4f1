"""Position embeddings of a vision tower for pictures of another size.

They are resampled once, into the tower's weights, so a saved tower needs no interpolation.

Shapes: D width of a hidden state.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from gpt2v.model.families import family_of


def resampled(tower: PreTrainedModel, image_size: int) -> PreTrainedModel:
    """The same tower for pictures of `image_size` pixels.

    Its position embeddings are interpolated (bicubic), as transformers' `interpolate_pos_encoding`
    does at every call.
    """
    family = family_of(tower.config)
    config = copy.deepcopy(tower.config)
    config.image_size = image_size
    state = tower.state_dict()
    if family.positions is not None:
        (name,) = (name for name in state if name.endswith(family.positions))
        state[name] = resample_positions(
            state[name], family.n_class_tokens, image_size // config.patch_size
        )
    other: PreTrainedModel = family.model_class(config)
    other.load_state_dict(state)
    return other


def resample_positions(positions: Tensor, n_class_tokens: int, side: int) -> Tensor:
    """Position embeddings (..., n_class_tokens + n**2, D) -> (..., n_class_tokens + side**2, D)."""
    table = positions.reshape(-1, positions.shape[-1])
    classes, patches = table[:n_class_tokens], table[n_class_tokens:]
    before = math.isqrt(len(patches))
    plane = patches.float().T.reshape(1, -1, before, before)
    plane = F.interpolate(plane, size=(side, side), mode="bicubic", align_corners=False)
    whole = torch.cat([classes, plane[0].flatten(1).T.to(table.dtype)])
    return whole.reshape(*positions.shape[:-2], *whole.shape)
