"""Whether a tokenizer and a text tower can take the captions of a training."""

import torch
from tokenizers import Tokenizer

from gpt2v.config.encoder import EncoderConfig
from gpt2v.data.kept_text import changed_text, quoted, tokens_of
from gpt2v.data.scenes import object_caption, scene_caption
from gpt2v.data.text_pieces import END_OF_TEXT, special_id
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError
from gpt2v.model import clip as clips


def check_captions(config: EncoderConfig, bank: TileBank, tokenizer: Tokenizer) -> None:
    """Check the captions of all objects and of scenes.

    Raises:
        UserError: the tokenizer changes one, or it exceeds the text tower's context.
    """
    names, end = bank.class_names, special_id(tokenizer, END_OF_TEXT)
    where = f"tokenizer.source: {config.tokenizer.source}"
    if config.teacher is not None:
        where = f"teacher: {config.teacher}"
    for caption in (scene_caption([]), *map(object_caption, names), scene_caption(list(names))):
        ids, ended = tokens_of(tokenizer, [caption, caption + END_OF_TEXT], where)
        change = changed_text(tokenizer, caption, ids)
        if change is None and ended != [*ids, end]:
            change = f"{END_OF_TEXT} after {quoted(caption)} is joined with it"
        if change is not None:
            raise UserError(
                f"{where}: does not keep captions: {change}; "
                "choose another tokenizer, or rename the class"
            )
    n_objects = max(layout.lattice**2 for layout in config.scenes.layouts)
    n_objects *= 2 if config.scenes.cut else 1
    longest = sorted(names, key=lambda name: len(tokenizer.encode(f" {name},").ids))
    captions = [scene_caption(longest[-n_objects:]), *(object_caption(n) for n in longest)]
    length = clips.caption_ids(captions, tokenizer, torch.device("cpu")).shape[1]
    if length > clips.LONGEST_CAPTION:
        raise UserError(
            f"scenes.layouts: captions of up to {n_objects} objects need {length} tokens, but the "
            f"text tower takes {clips.LONGEST_CAPTION}"
        )
