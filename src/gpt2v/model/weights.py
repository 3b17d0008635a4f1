"""What stands in the weight files of a checkpoint, and whether a loaded model holds just that.

transformers loads a checkpoint with layers left over, integers in place of numbers, or a head of
its own that the configuration calls tied, and at most warns. A result of such a model would be
another model's. So every tensor in the files is compared with the model's.
"""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from gpt2v.data.data_files import check_here
from gpt2v.errors import UserError, first_line, within
from gpt2v.hub import HubError, model_file
from gpt2v.train.finite import check_finite

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
_MERGE = f"holds an adapter ({ADAPTER}); merge it into its model and save that"
_PICKLED = re.compile(r".*\.(bin|pt|pth|ckpt|pkl)|pytorch_model\.bin\.index\.json")
_OTHER_WEIGHTS = re.compile(r".*\.(safetensors|gguf|h5|msgpack|onnx)")
_FLOATS = ("F64", "F32", "F16", "BF16")  # safetensors' names; loaded as fp32
# Buffers in checkpoints of older versions, which are made again and not loaded.
_BUFFERS = re.compile(r"(^|\.)(attn\.(masked_)?bias|crossattention\.bias|position_ids)$")


def weight_files(path: str, key: str) -> list[Path]:
    """The safetensors files of a checkpoint, each checked to hold floating-point numbers.

    Args:
        path: a folder or a hub id.
        key: name of the setting, for messages.

    Raises:
        UserError: there are none, one is missing or cannot be read, or the weights are an
            adapter's, pickled or quantised.
    """
    try:
        files = _files(path, key)
    except HubError as error:
        raise UserError(f"{key}: {path}: {error}") from None
    if (files[0].parent / ADAPTER).is_file():
        raise UserError(f"{key}: {path}: {_MERGE}")
    for file in files:
        for name, dtype in _dtypes(file, key):
            if dtype not in _FLOATS and not _BUFFERS.search(name):
                raise UserError(
                    f"{key}: {file}: {name} is of type {dtype}; quantised weights cannot be used, "
                    f"only {', '.join(_FLOATS)}"
                )
    return files


def _files(path: str, key: str) -> list[Path]:
    whole = model_file(path, WEIGHTS)
    if whole is not None:
        return [whole]
    index = model_file(path, INDEX)
    if index is not None:
        return _shards(path, index, key)
    if Path(path, ADAPTER).is_file():
        raise UserError(f"{key}: {path}: {_MERGE}")
    raise UserError(f"{key}: {path}: {_no_weights(Path(path))}")


def _no_weights(folder: Path) -> str:
    files = sorted(file.name for file in folder.glob("*") if file.is_file())
    pickled = next(filter(_PICKLED.fullmatch, files), None)
    if pickled is not None:
        return (
            f"its weights are in {pickled}, a pickle, which can run code and is never loaded; "
            f"save them as {WEIGHTS}"
        )
    other = next(filter(_OTHER_WEIGHTS.fullmatch, files), None)
    return f"has no {WEIGHTS}" + (f", only {other}, which is not read" if other else "")


def _shards(path: str, index: Path, key: str) -> list[Path]:
    """The files that an index names."""
    try:
        places: dict[str, str] = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{key}: {index}: is damaged: it names no files") from None
    files = []
    for name in names:
        file = model_file(path, name)
        if file is None:
            raise UserError(f"{key}: {path}: {name} is missing, which {INDEX} names")
        files.append(file)
        there = {tensor for tensor, _ in _dtypes(file, key)}
        for tensor in sorted(tensor for tensor, place in places.items() if place == name):
            if tensor not in there:
                raise UserError(f"{key}: {file}: lacks {tensor}, which {INDEX} says is there")
    return files


def _dtypes(file: Path, key: str) -> Iterator[tuple[str, str]]:
    """Name and type of each tensor in a file, without reading its values."""
    with within(f"{key}: "):
        check_here(file)
    try:
        with safe_open(file, "pt") as content:
            for name in content.keys():  # noqa: SIM118 (it is no mapping)
                yield name, content.get_slice(name).get_dtype()
    except (OSError, SafetensorError) as error:
        raise UserError(f"{key}: {file}: cannot be read: {first_line(error)}") from None


def check_loaded(
    model: PreTrainedModel,
    files: list[Path],
    where: str,
    unexpected: Collection[str],
    elsewhere: str | None = None,
) -> None:
    """Check that a model, in fp32, holds the weights in the files, all of them, and all finite.

    Args:
        where: begins messages: the setting and the path.
        unexpected: names in the files that the model has not, as `from_pretrained` gives them.
        elsewhere: regular expression of names that belong to other parts of the checkpoint.

    Raises:
        UserError: names the first tensor that is not finite, not used, or not what the model holds.
    """
    own = model.state_dict()
    check_finite(own, where, "its training has diverged, or the file is damaged")
    for name in sorted(unexpected):
        if not (_BUFFERS.search(name) or (elsewhere and re.match(elsewhere, name))):
            raise UserError(
                f"{where}: its weights have {name}, for which a {type(model).__name__} of its "
                "config.json has no place; the two do not belong together"
            )
    # Those that the configuration ties; transformers does not tie two that differ in the files.
    for name, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        if own[name].data_ptr() != own[source].data_ptr():
            raise UserError(
                f"{where}: {name} differs from {source} in its weights, but its config.json says "
                "tie_word_embeddings: true; with false, both are kept"
            )
    for file in files:
        with safe_open(file, "pt") as content:
            for name in content.keys():  # noqa: SIM118 (it is no mapping)
                mine = _partner(name, own, model.base_model_prefix)
                if mine is not None and not _equal(content.get_tensor(name), own[mine]):
                    raise UserError(
                        f"{where}: the model's {mine} is not {name} of {file.name}; is there a "
                        "second tensor for it in the files?"
                    )


def _partner(name: str, own: Collection[str], prefix: str) -> str | None:
    """The name in the model of a tensor in a file, which may lack the prefix of the base model or
    have it in addition; None: the model has no such tensor, or transformers renames it.
    """
    if _BUFFERS.search(name):
        return None
    names = (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))
    return next((candidate for candidate in names if candidate in own), None)


def _equal(saved: Tensor, mine: Tensor) -> bool:
    return torch.equal(saved.to(mine.dtype), mine.to(saved.device))
