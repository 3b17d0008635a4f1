"""The length of the longest sample of a data spec, which a model must have positions for."""

from dataclasses import replace

import numpy as np

from gpt2v.config.grids import Mode, SampleSpec
from gpt2v.data.grids.instructions import ALL, number_of
from gpt2v.data.grids.instructions.base import DIRECTIONS
from gpt2v.data.grids.numbering import MOST, numbering_of
from gpt2v.data.grids.paraphrases import longest_wording
from gpt2v.data.grids.samples import Samples, draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.text import answer_pieces, choice_pieces
from gpt2v.data.render.views import View


def max_length(spec: SampleSpec, render: Renderer, view: View, mode: Mode) -> int:
    """The largest number of positions that a sample of this spec can take."""
    table, names = render.table, render.bank.class_names
    as_word, as_listed = (
        np.array([len(table.tokens(space + name)) for name in names]) for space in (" ", "")
    )
    drawn = draw_samples(spec.largest, render.bank, 0, "train", np.arange(1))
    word = int(as_word.argmax())
    others = np.where(np.arange(len(names)) == word, 0, as_listed)
    n_others = drawn.palette.shape[1] - 1
    # The palette of the worst sample must hold the object of its cells, so that it can be counted.
    # The longest palette may not hold it: `spare` is the difference.
    first, second = np.sort(as_listed)[::-1][[0, min(1, len(names) - 1)]]
    listed = as_listed[word] + n_others * others.max()
    spare = max(0, int(first + n_others * second - listed))
    # A numbering names the objects once more, as words.
    other = int(others.argmax())
    numbered = int(np.where(np.arange(len(names)) == word, 0, as_word).max() - as_word[other])
    lengths = [0]
    for name in spec.instructions:
        worst = _worst(drawn, spec, render, word, other, number_of(name))
        said = table.lengths(answer_pieces(worst, names, table)).sum(-1) - len(table.tokens("\n"))
        choices = table.lengths(choice_pieces(worst, names, table)).max(-1, initial=0)
        more = np.maximum(choices - said, 0)  # if another answer is longer than this sample's
        more_tokens = int(more.sum() if mode == "chained" else more.max())
        batch = render(worst, view, mode)
        again = n_others * numbered if "numbering" in ALL[number_of(name)].named else 0
        lengths.append(int(batch.position_ids.max()) + 1 + spare + more_tokens + again)
    return max(lengths)


def _worst(
    drawn: Samples, spec: SampleSpec, render: Renderer, word: int, other: int, number: int
) -> Samples:
    """A sample of one instruction with the longest name in every cell, and the longest numbers."""
    palette = np.full_like(drawn.palette, other)
    palette[:, 0] = word
    rows, cols = drawn.classes.shape[1:]
    sizes = [len(render.table.tokens(direction)) for direction in DIRECTIONS]
    values = {
        "row": rows - 1,
        "col": cols - 1,
        "other_row": rows - 1,
        "other_col": cols - 1,
        "object": word,
        "direction": int(np.argmax(sizes)),
        "instruction": number,
        "classes": word,
        "position": spec.augment.position_offset,
        **longest_wording(spec.augment, render.table, number),
    }
    filled = {name: np.full_like(getattr(drawn, name), value) for name, value in values.items()}
    largest = np.arange(palette.shape[1])[::-1]  # the number of the object in every cell
    if palette.shape[1] <= MOST:
        filled["numbering"] = np.full_like(
            drawn.numbering, numbering_of(largest[None], palette).item()
        )
    return replace(drawn, palette=palette, **filled)
