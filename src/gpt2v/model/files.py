"""Checkpoints as Hugging Face directories: weights, configuration and tokenizer together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from tokenizers import Tokenizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, SPECIAL_TOKENS, n_ids
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError, first_line
from gpt2v.model.families import OTHER_PARTS
from gpt2v.model.found import read_config
from gpt2v.model.weights import check_loaded, weight_files
from gpt2v.progress import waited

M = TypeVar("M", bound=PreTrainedModel)


def save_pretrained(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Write the files that `from_pretrained` of plain transformers reads."""
    model.save_pretrained(folder)
    save_tokenizer(folder, tokenizer)


def save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write the files of a tokenizer.

    Raises:
        OSError: they cannot be written.
    """
    try:
        wrap_tokenizer(tokenizer).save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # tokenizers has no type of its own for errors of the disk
        raise OSError(first_line(error)) from None


def load_weights(folder: Path, model: PreTrainedModel) -> None:
    """Load the weights that `save_pretrained` wrote into a model of the same shape.

    Raises:
        UserError: the checkpoint does not fit the model.
    """
    model.load_state_dict(load_pretrained(type(model), str(folder), "checkpoint").state_dict())


def wrap_tokenizer(tokenizer: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    """The tokenizer as `transformers` loads it.

    Args:
        options: more arguments of PreTrainedTokenizerFast, which are saved with it.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=[IMAGE],
        **options,
    )


def load_pretrained(
    kind: type[M], path: str, key: str, elsewhere: str | None = OTHER_PARTS, **options: Any
) -> M:
    """`from_pretrained` in fp32; the model holds exactly the weights in the checkpoint's files.

    Weights are always in fp32 in training, whatever format a checkpoint has; autocast lowers the
    precision where it can.

    Args:
        kind: class of the model.
        key: name of the setting, for messages.
        elsewhere: regular expression of names of weights that the model need not have, because they
            belong to other parts of the checkpoint.
        options: more arguments of `from_pretrained`.

    Raises:
        UserError: the checkpoint has another architecture, cannot be read, needs code of its own,
            or its weights are not those of the model: missing, left over, of another shape or
            type, or not finite.
    """
    read_config(path, key)
    files = weight_files(path, key)
    try:
        model: M
        model, loading = waited(
            f"{key}: loading {path}",
            lambda: kind.from_pretrained(
                files[0].parent,  # a hub id's files are in the cache now
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # reported below, by name
                dtype=torch.float32,
                # Not what config.json says, which may need a GPU, or be code of the hub.
                attn_implementation="sdpa" if kind._supports_sdpa else "eager",
                **options,
            ),
        )
    except Exception as error:  # hub, file and format errors have no common type
        reason = first_line(error)
        if isinstance(error, KeyError):  # the message is only the name
            reason = f"config.json names {reason}, which transformers does not have"
        raise UserError(f"{key}: {path}: cannot be loaded as {kind.__name__}: {reason}") from None
    for name, saved, expected in sorted(loading["mismatched_keys"]):
        raise UserError(
            f"{key}: {path}: {name} has shape {list(saved)} in its weights, but {list(expected)} "
            "by its config.json"
        )
    missing = sorted(loading["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more weights" if missing[1:] else ""
        raise UserError(
            f"{key}: {path}: not a {kind.__name__} checkpoint: it lacks {missing[0]}{more}"
        )
    check_loaded(model, files, f"{key}: {path}", loading["unexpected_keys"], elsewhere)
    return model


def gpt2_config(path: str, key: str) -> GPT2Config:
    """The configuration of a GPT-2's checkpoint.

    Raises:
        UserError: as `read_config`, or the checkpoint is no GPT-2's.
    """
    values = read_config(path, key)
    model_type = values.get("model_type")
    if model_type is None:
        raise UserError(f"{key}: {path}: config.json: has no model_type; a GPT-2's is gpt2")
    if model_type != "gpt2":  # others have weights with the same names, but compute other logits
        raise UserError(
            f"{key}: {path}: cannot be loaded as GPT2LMHeadModel: it is a {model_type} checkpoint"
        )
    try:
        return GPT2Config.from_dict(values)
    except Exception as error:  # wrong values have no common type
        raise UserError(f"{key}: {path}: config.json: {first_line(error)}") from None


def load_gpt2(path: str, key: str) -> tuple[GPT2LMHeadModel, Tokenizer]:
    """A GPT-2 and its tokenizer; adds embedding rows for `<image>` and `<pad>` if they are missing.

    Raises:
        UserError: they cannot be loaded, or do not belong together.
    """
    gpt2_config(path, key)
    lm = load_pretrained(GPT2LMHeadModel, path, key, elsewhere=None)
    tokenizer = load_tokenizer(path, key)
    rows, size = lm.config.vocab_size, n_ids(tokenizer)
    if size > rows + len(SPECIAL_TOKENS):  # at most so many rows are added
        raise UserError(
            f"{key}: {path}: its tokenizer has {size} tokens with {IMAGE}, but the GPT-2 has a "
            f"vocabulary of {rows} tokens, which is too small; they do not belong together"
        )
    if size > rows:
        add_rows(lm, size)
    return lm, tokenizer


@torch.no_grad()
def add_rows(lm: GPT2LMHeadModel, size: int) -> None:
    """Add words to a GPT-2's vocabulary, up to `size` words; the logits of the others stay equal.

    Each new row, of the embeddings and of a head of its own, is the mean of the old rows. So a new
    word's logit is the mean of the old ones: it is never the likeliest word before it is trained.
    """
    rows = lm.config.vocab_size
    lm.resize_token_embeddings(size, mean_resizing=False)
    for layer in (lm.get_input_embeddings(), lm.get_output_embeddings()):  # may be the same rows
        layer.weight[rows:] = layer.weight[:rows].mean(0)


@contextmanager
def quietly() -> Iterator[None]:
    """`quiet_transformers` in this block only, for functions that a user's own program calls."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    quiet_transformers()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def quiet_transformers() -> None:
    """Switch off transformers' progress bars, and its warnings, which are not of use here."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
