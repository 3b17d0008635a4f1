"""Checkpoints as Hugging Face directories: weights, configuration and tokenizer together."""

from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, SPECIAL_TOKENS, n_ids
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError, first_line
from gpt2v.hub import looks_local
from gpt2v.progress import waited
from gpt2v.run_layout import checkpoints_of
from gpt2v.runs import restored
from gpt2v.storage.manifest import verify
from gpt2v.train import checkpoints

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


def find_checkpoint(model: str, key: str) -> str:
    """The path of a run's newest checkpoint, or the given checkpoint directory or hub id itself.

    Args:
        model: a run, a checkpoint directory or a hub id.
        key: name of the setting, for messages.

    Raises:
        UserError: a local path has no checkpoint, or its files do not match its manifest.
    """
    path = restored(Path(model))
    if not path.exists():
        if looks_local(model):
            raise UserError(f"{key}: {model}: no such run or checkpoint")
        return model
    if checkpoints.folder_of(path).is_dir():
        steps = checkpoints_of(path)
        if not steps:
            raise UserError(f"{key}: {model}: this run has no checkpoint")
        path = steps[-1]
    if not (path / "config.json").is_file():
        raise UserError(f"{key}: {model}: no config.json here; expected a run or a checkpoint")
    fault = verify(path)
    if fault:
        raise UserError(f"{key}: {fault}")
    return str(path)


def load_pretrained(kind: type[M], path: str, key: str, **options: Any) -> M:
    """`from_pretrained` in fp32; it fails with one line if a weight is missing.

    Weights are always in fp32 in training, whatever format a checkpoint has; autocast lowers the
    precision where it can.

    Args:
        kind: class of the model.
        key: name of the setting, for messages.
        options: more arguments of `from_pretrained`.

    Raises:
        UserError: the checkpoint has another architecture, cannot be read, or lacks weights.
    """
    try:
        model: M
        model, loading = waited(
            f"{key}: loading {path}",
            lambda: kind.from_pretrained(
                path,
                output_loading_info=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                dtype=torch.float32,
                **options,
            ),
        )
    except Exception as error:  # hub, file and format errors have no common type
        reason = first_line(error)
        raise UserError(f"{key}: {path}: cannot be loaded as {kind.__name__}: {reason}") from None
    for name, saved, expected in sorted(loading["mismatched_keys"]):
        raise UserError(
            f"{key}: {path}: {name} has shape {list(saved)} in its weights, but {list(expected)} "
            "by its config.json"
        )
    missing = sorted(loading["missing_keys"])
    if missing:
        raise UserError(
            f"{key}: {path}: not a {kind.__name__} checkpoint: it lacks {missing[0]} "
            f"and {len(missing) - 1} more weights"
        )
    return model


def load_gpt2(path: str, key: str) -> tuple[GPT2LMHeadModel, Tokenizer]:
    """A GPT-2 and its tokenizer; adds embedding rows for `<image>` and `<pad>` if they are missing.

    Raises:
        UserError: they cannot be loaded, or do not belong together.
    """
    lm = load_pretrained(GPT2LMHeadModel, path, key)
    tokenizer = load_tokenizer(path, key)
    rows, size = lm.config.vocab_size, n_ids(tokenizer)
    if size > rows + len(SPECIAL_TOKENS):  # at most so many rows are added
        raise UserError(
            f"{key}: {path}: its tokenizer has {size} tokens with {IMAGE}, but the GPT-2 has a "
            f"vocabulary of {rows} tokens, which is too small; they do not belong together"
        )
    if size > rows:
        lm.resize_token_embeddings(size)
    return lm, tokenizer


def quiet_transformers() -> None:
    """Switch off transformers' progress bars, and its warnings, which are not of use here."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
