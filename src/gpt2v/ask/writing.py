"""Greedy decoding: what a model writes after a question, up to the end of the line."""

from typing import Any

import torch
from tokenizers import Tokenizer

from gpt2v.ask.inputs import Inputs
from gpt2v.data.text_pieces import END_OF_TEXT, special_id


@torch.no_grad()
def write_line(model: Any, inputs: Inputs, tokenizer: Tokenizer, n_positions: int) -> str:
    """The likeliest continuation of one sequence, token by token, without its line break.

    Args:
        model: called as `model(**inputs)`; gives logits (1, T, V).
        inputs: one sequence.
        n_positions: maximum number of token positions.
    """
    end, written = special_id(tokenizer, END_OF_TEXT), []
    while int(inputs["position_ids"].max()) + 1 < n_positions:
        best = model(**inputs).logits[0, -1].argmax()
        if int(best) == end:
            break
        written.append(int(best))
        if "\n" in tokenizer.decode(written):
            break
        following = {
            "input_ids": best,
            "attention_mask": torch.ones_like(best),
            "position_ids": inputs["position_ids"][0, -1] + 1,
        }
        longer = {k: torch.cat([inputs[k], v.view(1, 1)], dim=1) for k, v in following.items()}
        inputs = inputs | longer
    return str(tokenizer.decode(written)).partition("\n")[0].strip()
