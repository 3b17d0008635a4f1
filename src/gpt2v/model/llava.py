"""GPT-2v as a stock LLaVA, which `LlavaForConditionalGeneration` and `LlavaProcessor` of plain
transformers load, with the same logits.

LLaVA reads every patch of the picture that its processor makes. So the logits are the same if a
picture fills the tower's canvas, or `picture.resize` scales it to do so. For a smaller picture,
`data.render.spans.ImageSpan` has only the patches that it covers, but the export also reads the
empty patches beside it.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from gpt2v.config.choice import choose
from gpt2v.data.grids.instructions import ALL
from gpt2v.data.grids.paraphrases import HELD_OUT_PROMPTS, PALETTE_ENDS, PROMPTS
from gpt2v.data.kept_text import quoted
from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, special_id
from gpt2v.errors import UserError
from gpt2v.model.families import family_of
from gpt2v.model.files import wrap_tokenizer
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.progress import waited
from gpt2v.registry import PROJECTORS, TOKEN_SOURCES

# LLaVA's activation between the two layers of its projector, for each of our projectors.
ACTIVATIONS = {"linear": "linear", "mlp": "gelu"}

# A document is text with pictures in it, without speakers.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}" + IMAGE + "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)


def check_llava(model: GPT2vModel, tokenizer: Tokenizer) -> None:
    """Check that a model can be exported as a LLaVA.

    Raises:
        UserError: LLaVA has no such vision tower, projector, pooling or image token, or a picture
            is too long.
    """
    config = model.config
    if config.vision_config.model_type not in CONFIG_MAPPING_NAMES:  # only transformers' own
        raise UserError(
            f"vision tower: a {config.vision_config.model_type}: LLaVA has no such tower; train a "
            "CLIP from it with `encoder train` and `teacher: RUN`, and MM-Train that"
        )
    projector = choose(PROJECTORS, config.projector)
    if projector not in ACTIVATIONS or getattr(projector.options, "hidden_size", None):
        raise UserError(
            f"projector: {projector.plain(defaults=False)}: LLaVA has no such projector; "
            f"{' and '.join(ACTIVATIONS)} of GPT-2's width can be exported"
        )
    if choose(TOKEN_SOURCES, config.vision_tokens) != "patches":
        raise UserError(
            f"vision_tokens: {config.vision_tokens}: LLaVA reads pictures; only patches can be "
            "exported"
        )
    if config.pool > 1:
        raise UserError(
            f"pool: {config.pool}: LLaVA has one token for every patch; only pool: 1 can be "
            "exported"
        )
    n_tokens, n_positions = n_vision_tokens(model), config.text_config.n_positions
    if n_tokens >= n_positions:
        raise UserError(
            f"n_positions: a picture is {n_tokens} vision tokens, which leave no room for a "
            f"question in the GPT-2's {n_positions} positions: LLaVA reads every patch"
        )
    if special_id(tokenizer, IMAGE) != config.image_token_id:
        raise UserError(
            f"tokenizer.json: {IMAGE} is token {special_id(tokenizer, IMAGE)}, but the model's "
            f"image_token_id is {config.image_token_id}"
        )


def n_vision_tokens(model: GPT2vModel) -> int:
    """Number of vision tokens of a whole picture, including the class token."""
    return model.geometry.n_patches + int(model.config.class_token)


def llava_model(model: GPT2vModel, tokenizer: Tokenizer) -> LlavaForConditionalGeneration:
    """A LLaVA with the same weights.

    GPT-2's head becomes a copy of its word embeddings: LLaVA expects a tied head elsewhere.
    """
    end, pad = special_id(tokenizer, END_OF_TEXT), special_id(tokenizer, PAD)
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": pad}
    text = copy.deepcopy(model.config.text_config)
    text.update({**special, "tie_word_embeddings": False})
    config = LlavaConfig(
        vision_config=copy.deepcopy(model.config.vision_config),
        text_config=text,
        image_token_index=model.config.image_token_id,
        image_seq_length=n_vision_tokens(model),
        projector_hidden_act=ACTIVATIONS[choose(PROJECTORS, model.config.projector)],
        vision_feature_layer=model.config.vision_layer,
        vision_feature_select_strategy=_strategy(model),
        tie_word_embeddings=False,
        **special,
    )
    for part in (config.text_config, config.vision_config):
        part.name_or_path = ""  # a path on this machine
    llava = LlavaForConditionalGeneration(config).to(model.dtype)
    projector = model.projector.state_dict()
    if choose(PROJECTORS, model.config.projector) == "linear":
        width = model.config.text_config.n_embd
        projector |= {"linear_2.weight": torch.eye(width), "linear_2.bias": torch.zeros(width)}
    inner = llava.model
    inner.vision_tower.load_state_dict(model.vision_tower.state_dict())
    inner.multi_modal_projector.load_state_dict(projector)
    inner.language_model.load_state_dict(model.language_model.transformer.state_dict())
    llava.lm_head.load_state_dict(model.language_model.lm_head.state_dict())
    llava.generation_config = GenerationConfig(**special)
    return llava


def llava_processor(model: GPT2vModel, tokenizer: Tokenizer) -> LlavaProcessor:
    """The processor that makes the model's input from pictures and text with `<image>` in it.

    A picture of the tower's size is not changed. Others are scaled like `picture.resize` does
    (bilinear, with area averaging), but always to the whole canvas, whatever their shape.
    """
    vision = model.config.vision_config
    size = {"height": vision.image_size, "width": vision.image_size}
    images = CLIPImageProcessorPil(
        size=size,
        crop_size=size,
        do_center_crop=False,
        resample=2,  # PIL's number for bilinear
        image_mean=model.config.image_mean,
        image_std=model.config.image_std,
    )
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.post_processor = None  # adds no tokens at the begin or end of documents
    wrapped = wrap_tokenizer(
        plain,
        padding_side="left",  # generation continues a batch at its right end
        model_max_length=model.config.text_config.n_positions,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=wrapped,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=_strategy(model),
        chat_template=_CHAT_TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=family_of(vision).n_class_tokens,
    )


def save_llava(folder: Path, model: GPT2vModel, tokenizer: Tokenizer) -> None:
    """Write weights, configuration, processor, tokenizer and a model card into the folder."""
    llava = llava_model(model, tokenizer)
    waited("mm export: writing the weights", partial(llava.save_pretrained, folder))
    llava_processor(model, tokenizer).save_pretrained(folder)
    _check_processor(folder, tokenizer)
    (folder / "README.md").write_text(model_card(model), encoding="utf-8", newline="\n")


def _check_processor(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise UserError unless the saved processor gives the tokens that the model was trained with.

    transformers may build other parts around a tokenizer than it was saved with.
    """
    wordings = [wording for instruction in ALL for wording in instruction.every_wording]
    lines = [*PROMPTS, *HELD_OUT_PROMPTS, *PALETTE_ENDS, *wordings]
    text = f"{IMAGE}\n" + "".join(f"| {line}\n{line} 12\n" for line in lines) + END_OF_TEXT
    theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)(text)["input_ids"]
    ours = tokenizer.encode(text, add_special_tokens=False).ids
    if theirs != ours:
        at = next(
            (i for i, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]),
            len(ours),
        )
        near = tokenizer.decode(ours[at : at + 5], skip_special_tokens=False)
        raise UserError(
            f"tokenizer.json: in transformers it gives other tokens than in training, from "
            f"{quoted(near)} on; it cannot be exported"
        )


def _strategy(model: GPT2vModel) -> str:
    """LLaVA's name for reading all of the vision tower's tokens, or all but the class token."""
    has_class_token = family_of(model.config.vision_config).n_class_tokens > 0
    return "default" if has_class_token and not model.config.class_token else "full"


def model_card(model: GPT2vModel) -> str:
    """Content of README.md: what the model is, how to load it, and facts of its configuration."""
    config, vision, text = model.config, model.config.vision_config, model.config.text_config
    rows = {
        "vision tower": f"{family_of(vision).name}, {vision.num_hidden_layers} layers, "
        f"{vision.hidden_size} wide",
        "pictures": f"{vision.image_size}x{vision.image_size} pixels in "
        f"{vision.patch_size}-pixel patches",
        "vision tokens": f"{n_vision_tokens(model)} for each picture"
        + (", the class token first" if config.class_token else ""),
        "read from": f"`hidden_states[{config.vision_layer}]` of the vision tower",
        "projector": config.projector,
        "language model": f"GPT-2, {text.n_layer} layers, {text.n_embd} wide, "
        f"{text.n_positions} positions, {text.vocab_size} words",
        "parameters": f"{model.num_parameters():,}",
    }
    table = "\n".join(f"| {name} | {fact} |" for name, fact in rows.items())
    return _CARD.format(table=table, size=vision.image_size)


_CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- gpt2v
- llava
---

# GPT-2v

A small GPT-2 with a vision tower, trained with gpt2v to answer questions about a grid of objects,
which it sees as a picture or reads as a text table. This is the same model as a stock
`LlavaForConditionalGeneration` of plain transformers.

```python
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

path = "."  # this folder, or its name on the Hub
model = LlavaForConditionalGeneration.from_pretrained(path)
processor = AutoProcessor.from_pretrained(path)

prompt = (
    "<image>\\n"
    "The grid above is size 2 by 2. "
    "Each cell contains an object from ['bird', 'cat', 'dog', 'frog'].\\n"
    "What object is in row 0, column 1? A:"
)
inputs = processor(images=Image.open("picture.png"), text=prompt, return_tensors="pt")
output = model.generate(**inputs, do_sample=False, max_new_tokens=4)
print(processor.decode(output[0, inputs["input_ids"].shape[1] :]))
```

The attention maps of its language model are read where they are made. (`output_attentions=True`
raises a TypeError in transformers 5: a LLaVA has no place for GPT-2's `cross_attentions`.)

```python
model.set_attn_implementation("eager")
maps = []  # for each layer: (batch, heads, tokens, tokens)
for block in model.model.language_model.h:
    block.attn.register_forward_hook(lambda module, args, output: maps.append(output[1]))
model(**inputs)
print([tuple(of_layer.shape) for of_layer in maps])
```

It continues documents in exactly the words of its training; the chat template adds nothing. A
picture is scaled to {size}x{size} pixels; one of that size is read exactly as in training. If gpt2v
draws a smaller picture into a corner of the canvas, LLaVA also reads the empty patches, which gpt2v
leaves out.

| part | is |
| --- | --- |
{table}
"""
