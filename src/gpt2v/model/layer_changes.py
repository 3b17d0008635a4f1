"""Changes of a language model's hidden states, which the packed forward pass applies.

Shapes: B samples of a batch, T token positions, D width of a hidden state.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import GPT2LMHeadModel

if TYPE_CHECKING:
    from gpt2v.model.packed import Packed


@dataclass(frozen=True)
class LayerChange:
    """A change of a language model's hidden states.

    Attributes:
        lm: the model; others are not changed.
        layer: index into `hidden_states`.
        change: from the states (B, T, D) of a packed batch to those that take their place.
    """

    lm: GPT2LMHeadModel
    layer: int
    change: Callable[[Tensor, "Packed"], Tensor]


# Made by `changes.changed`, in the order in which they are applied.
layer_changes: ContextVar[tuple[LayerChange, ...]] = ContextVar("layer_changes", default=())


def as_changed(lm: GPT2LMHeadModel, layer: int, hidden_BTD: Tensor, packed: "Packed") -> Tensor:
    """Hidden states (B, T, D) of a layer with the changes that are in force."""
    for own in layer_changes.get():
        if own.lm is lm and own.layer == layer:
            hidden_BTD = own.change(hidden_BTD, packed)
    return hidden_BTD
