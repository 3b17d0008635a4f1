"""Tiny checkpoints of models of other projects, with random weights, as their classes save them."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GemmaConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

WORDS = (
    "What object is in row column Which Answer with the name of nothing else and user assistant "
    "airplane automobile bird cat deer dog frog horse ship truck 0 1 2 3 4 5 6 7 8 9 | ? : , ."
)
CHAT = (
    "{% for turn in messages %}{{ turn['role'] }}: "
    "{% if turn['content'] is string %}{{ turn['content'] }}"
    "{% else %}{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}"
)
SPECIAL = ["<pad>", "<s>", "</s>", "<image>", "<fake_token_around_image>", "<global-img>"]
SPECIAL += ["<end_of_utterance>", "<video>"]
PAD, BEGIN, END, IMAGE = range(4)
WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
VISION = {**WIDTH, "num_attention_heads": 4, "image_size": 32, "patch_size": 16}
FAMILIES = ("llama", "gpt2", "llava", "idefics3", "paligemma")
SEES = ("llava", "idefics3", "paligemma")


def tokenizer(chat: bool = False, **options: Any) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer in which some class names are one token, and some several."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([WORDS], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", **options
    )
    if chat:
        wrapped.chat_template = CHAT
    return wrapped


def text_config(size: int, **changes: Any) -> dict[str, Any]:
    return {
        **WIDTH,
        "vocab_size": size,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "pad_token_id": PAD,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        **changes,
    }


def build(family: str, folder: Path, **changes: Any) -> Path:
    """Write a checkpoint of a family; `changes` are of the language model's configuration."""
    torch.manual_seed(FAMILIES.index(family))
    images: Any
    if family == "llama":
        read = tokenizer(chat=True)
        model: Any = LlamaForCausalLM(LlamaConfig(**text_config(len(read), **changes)))
    elif family == "gpt2":
        read = tokenizer()
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=len(read), **shape, bos_token_id=BEGIN, eos_token_id=END)
        )
    elif family == "llava":
        own = tokenizer(extra_special_tokens={"image_token": "<image>"})
        images = CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        )
        read = LlavaProcessor(
            images,
            own,
            patch_size=16,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=CHAT,
        )
        config = LlavaConfig(
            text_config=LlamaConfig(**text_config(len(own), **changes)),
            vision_config=CLIPVisionConfig(**VISION),
            image_token_id=IMAGE,
            image_seq_length=4,
            vision_feature_layer=-1,
        )
        model = LlavaForConditionalGeneration(config)
    elif family == "idefics3":
        own = tokenizer()
        images = Idefics3ImageProcessorPil(
            size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
        )
        read = Idefics3Processor(images, own, image_seq_len=1, chat_template=CHAT)
        config = Idefics3Config(
            text_config=LlamaConfig(**text_config(len(own), **changes)),
            vision_config=VISION,
            image_token_id=IMAGE,
            scale_factor=2,
            pad_token_id=PAD,
        )
        model = Idefics3ForConditionalGeneration(config)
    else:
        own = tokenizer(extra_special_tokens={"image_token": "<image>"})
        images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
        images.image_seq_length = 4
        read = PaliGemmaProcessor(images, own)  # adds words to the tokenizer
        config = PaliGemmaConfig(
            text_config=GemmaConfig(
                **text_config(len(own), tie_word_embeddings=False, **changes), head_dim=8
            ),
            tie_word_embeddings=False,
            vision_config=SiglipVisionConfig(**VISION, projection_dim=32, vision_use_head=False),
            image_token_id=IMAGE,
            projection_dim=32,
            hidden_size=32,
        )
        model = PaliGemmaForConditionalGeneration(config)
    with torch.no_grad():  # larger than at the start of a training, so that answers differ
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "vision" not in name:
                weight.mul_(4)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    read.save_pretrained(folder)
    return folder


def without(folder: Path, to: Path, *names: str) -> Path:
    """A copy of a checkpoint without some of its files."""
    to.mkdir()
    for file in folder.iterdir():
        if file.name not in names:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def changed(folder: Path, name: str, **values: Any) -> None:
    """Change keys of one of a checkpoint's JSON files."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
