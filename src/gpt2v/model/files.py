"""Checkpoints as Hugging Face directories: weights, configuration and tokenizer in one place."""

from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, SPECIAL_TOKENS
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError, first_line
from gpt2v.runs import looks_local
from gpt2v.train import checkpoints

M = TypeVar("M", bound=PreTrainedModel)


def save_pretrained(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Write what `from_pretrained` of plain transformers reads."""
    model.save_pretrained(folder)
    wrap_tokenizer(tokenizer).save_pretrained(folder)


def load_weights(folder: Path, model: PreTrainedModel) -> None:
    """Take the weights that `save_pretrained` wrote into a model of the same shape."""
    model.load_state_dict(load_pretrained(type(model), str(folder), "checkpoint").state_dict())


def wrap_tokenizer(tokenizer: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    """The tokenizer as `transformers` loads it.

    Args:
        options: further arguments of PreTrainedTokenizerFast, which are saved with it.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=[IMAGE],
        **options,
    )


def find_checkpoint(source: str, key: str) -> str:
    """The newest checkpoint of a run, a checkpoint directory, or a hub id as it is.

    Raises:
        UserError: a local path without a checkpoint, or one whose files do not match its manifest.
    """
    path = Path(source)
    if not path.exists():
        if looks_local(source):
            raise UserError(f"{key}: {source}: no such run or checkpoint")
        return source
    if checkpoints.folder_of(path).is_dir():
        steps = checkpoints.listed(path)
        if not steps:
            raise UserError(f"{key}: {source}: this run has no checkpoint")
        path = steps[-1]
    if not (path / "config.json").is_file():
        raise UserError(f"{key}: {source}: no config.json here; expected a run or a checkpoint")
    fault = checkpoints.verify(path)
    if fault:
        raise UserError(f"{key}: {fault}")
    return str(path)


def load_pretrained(kind: type[M], path: str, key: str, **options: Any) -> M:
    """`from_pretrained` in fp32 with every weight found, or one clear line.

    Training keeps its weights in fp32 whatever a checkpoint was saved in; autocast lowers what it
    may.

    Raises:
        UserError: the checkpoint is of another architecture, or lacks weights.
    """
    try:
        model: M
        model, found = kind.from_pretrained(
            path,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            dtype=torch.float32,
            **options,
        )
    except Exception as error:  # hub, file and format errors have no common type
        reason = first_line(error)
        raise UserError(f"{key}: {path}: cannot be loaded as {kind.__name__}: {reason}") from None
    for name, saved, expected in sorted(found["mismatched_keys"]):
        raise UserError(
            f"{key}: {path}: {name} is {list(saved)} in its weights, but {list(expected)} by its "
            "config.json"
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise UserError(
            f"{key}: {path}: no {kind.__name__} checkpoint: it lacks {missing[0]} "
            f"and {len(missing) - 1} more weights"
        )
    return model


def load_gpt2(path: str, key: str) -> tuple[GPT2LMHeadModel, Tokenizer]:
    """A GPT-2 and its tokenizer, with rows for `<image>` and `<pad>`, which others' lack."""
    lm = load_pretrained(GPT2LMHeadModel, path, key)
    tokenizer = load_tokenizer(path, key)
    rows, size = lm.config.vocab_size, tokenizer.get_vocab_size()
    if size > rows + len(SPECIAL_TOKENS):  # as many rows may be added, no more
        raise UserError(
            f"{key}: {path}: its tokenizer has {size} tokens with {IMAGE}, but the GPT-2 a "
            f"vocabulary of {rows}, which leaves no room for it; they do not belong together"
        )
    if size > rows:
        lm.resize_token_embeddings(size)
    return lm, tokenizer


def quiet_transformers() -> None:
    """Its progress bars and its warnings about what we do on purpose do not help a user."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
