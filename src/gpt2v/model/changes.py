"""Interventions: a GPT-2v runs with other hidden states at a site than its own.

What it computes later, answers too, follows from the changed states. Names of sites are in
`config.sites`.

Shapes: B samples of a batch, P pictures, N patches of a picture, M vision tokens,
T token positions, D width of a hidden state.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gpt2v.config.sites import Site
from gpt2v.model.families import family_of, window_of
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.layer_changes import LayerChange, layer_changes
from gpt2v.model.packed import Packed
from gpt2v.model.states import image_positions
from gpt2v.model.windows import cut_windows, join_windows

Change = Callable[[Tensor], Tensor]  # all states at a site to others of the same shape


@contextmanager
def changed(model: GPT2vModel, site: Site, change: Change) -> Iterator[None]:
    """In this block, each forward pass goes on from changed states at a site.

    Everything that reads packed batches with this model does so, such as a scorer. Kept features
    do not pass the vision tower, so sites `vision` need a source without a cache
    (`ProjectedPatches`). At the last layer of the language model, a change of image positions
    changes no answer: no later layer reads them.

    Args:
        site: `vision.L`, `pre-projector`, `post-projector` or `lm.L`.
        change: gets (P, N, D), patches in raster order; of sites `lm` (B, M, D), see
            `states.text_states`. Class tokens stay as they are. A tower that averages a picture
            with its mirror image has both passes changed, each in the order of the picture.

    Raises:
        ValueError: another site.
    """

    def cast(states: Tensor) -> Tensor:
        return change(states).to(states.dtype)

    if site.name == "lm" and site.layer is not None:
        own = LayerChange(model.language_model, site.layer, partial(_of_images, cast))
        token = layer_changes.set((*layer_changes.get(), own))
        try:
            yield
        finally:
            layer_changes.reset(token)
        return
    if site.name == "vision" and site.layer is not None:
        hooks = _tower_hooks(model.vision_tower, site.layer, cast)
    elif site.name == "pre-projector":
        hooks = [_given(model.projector, cast)]
    elif site.name == "post-projector":
        hooks = [_returned(model.projector, cast)]
    else:
        raise ValueError(f"states at {site} cannot be changed")
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _of_images(change: Change, hidden_BTD: Tensor, packed: Packed) -> Tensor:
    """Hidden states of a packed batch, changed at its image positions."""
    at_BM = image_positions(packed)
    flat = hidden_BTD.flatten(0, 1)
    states = change(flat[at_BM]).flatten(0, 1)
    return flat.index_copy(0, at_BM.flatten(), states).view_as(hidden_BTD)


def _given(module: nn.Module, change: Change) -> Any:
    """A hook that changes what a module is called with."""
    return module.register_forward_pre_hook(lambda _, given: (change(given[0]), *given[1:]))


def _returned(module: nn.Module, change: Change) -> Any:
    """A hook that changes what a module returns.

    It comes before other hooks: with those, transformers notes the hidden states.
    """
    return module.register_forward_hook(lambda _, given, states: change(states), prepend=True)


def _tower_hooks(tower: PreTrainedModel, layer: int, change: Change) -> list[Any]:
    """Hooks on a vision tower that change one of its `hidden_states`."""
    blocks, hooks = _blocks(tower), []
    if hasattr(tower.config, "layer_patch_sizes"):
        maps = _MapChange(tower, change)
        hooks.append(tower.register_forward_pre_hook(maps.begin))
        change = maps
    else:
        change = partial(_of_patches, family_of(tower.config).n_class_tokens, change)
    at = _returned(blocks[layer - 1], change) if layer else _given(blocks[0], change)
    return [*hooks, at]


def _blocks(tower: PreTrainedModel) -> nn.ModuleList:
    """The blocks of a vision tower, one for each of its `hidden_states` but the first."""
    depth = tower.config.num_hidden_layers
    for module in tower.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ValueError(f"{type(tower).__name__} has no list of its {depth} blocks")


def _of_patches(n_class_tokens: int, change: Change, tokens: Tensor) -> Tensor:
    """A transformer's tokens (P, n_class_tokens + N, D), changed at its patches."""
    return torch.cat([tokens[:, :n_class_tokens], change(tokens[:, n_class_tokens:])], dim=1)


class _MapChange:
    """Changes the feature maps of a convolutional tower as patches (P, N, D) of whole pictures.

    Its second pass of a picture is that of the mirror image.
    """

    def __init__(self, tower: PreTrainedModel, change: Change) -> None:
        self.window, self.change = window_of(tower.config), change
        self.n_windows, self.is_mirrored = 1, False

    def begin(self, tower: nn.Module, given: tuple[Tensor, ...]) -> None:
        """The tower is called."""
        self.is_mirrored = False
        self.n_windows = given[0].shape[-1] // self.window if self.window else 1

    def __call__(self, maps: Tensor) -> Tensor:
        seen = maps.flip(-1) if self.is_mirrored else maps
        patches = join_windows(seen.permute(0, 2, 3, 1).flatten(1, 2), self.n_windows)
        side = maps.shape[-1] * self.n_windows
        states = self.change(patches)
        whole = states.mT.reshape(len(states), -1, side, side)
        other = cut_windows(whole, self.n_windows)
        other = other.flip(-1) if self.is_mirrored else other
        self.is_mirrored = not self.is_mirrored
        return other
