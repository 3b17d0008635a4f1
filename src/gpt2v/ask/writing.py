"""Greedy decoding: what a model writes after a question, up to the end of the line."""

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, GPT2LMHeadModel

from gpt2v.ask.inputs import Inputs
from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, special_id
from gpt2v.errors import UserError
from gpt2v.model.gpt2v import GPT2vModel

_NEWLINE = "\n"


@torch.no_grad()
def write_line(model: GPT2LMHeadModel | GPT2vModel, inputs: Inputs, tokenizer: Tokenizer) -> str:
    """The likeliest continuation of one sequence, token by token, without its line break.

    Placeholders and padding are no text, so they are never written.

    Raises:
        UserError: the sequence leaves no position free.
    """
    if isinstance(model, GPT2vModel):
        lm = model.language_model
        pictures = inputs.get("pixel_values"), inputs.get("image_tokens")
        embeds = model.input_embeds(inputs["input_ids"], *pictures)
    else:
        lm = model
        embeds = lm.get_input_embeddings()(inputs["input_ids"])
    free = lm.config.n_positions - embeds.shape[1]
    if free < 1:
        raise UserError(
            f"question: grid and question need {embeds.shape[1]} positions, so there is none for "
            f"an answer; the GPT-2 has n_positions: {lm.config.n_positions}"
        )
    end, pad, image = (special_id(tokenizer, token) for token in (END_OF_TEXT, PAD, IMAGE))
    lm.generation_config = GenerationConfig()  # else it would fill in what is left open here
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=free,
        suppress_tokens=[image, pad],
        eos_token_id=[end, *tokenizer.encode(_NEWLINE).ids],
        pad_token_id=pad,
    )
    mask = inputs["attention_mask"]
    (written,) = lm.generate(inputs_embeds=embeds, attention_mask=mask, generation_config=config)
    return str(tokenizer.decode(written.tolist())).partition(_NEWLINE)[0].strip()
