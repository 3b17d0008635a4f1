"""Open any Hugging Face model that writes text, with its tokenizer and its processor."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from gpt2v.config.hf import PREFIX, HFConfig
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.errors import UserError, first_line
from gpt2v.hardware.device import chosen_device, has_right_attention
from gpt2v.hardware.precision import DTYPES, has_bf16
from gpt2v.model.found import GPT2V, find_checkpoint, read_config
from gpt2v.model.identity import Traceable
from gpt2v.progress import waited


@dataclass(frozen=True)
class HFModel(Traceable):
    """A model of another project.

    Attributes:
        name: as the user named it, with `hf:`.
        path: a folder or a hub id.
        model: in eval mode, on the chosen device.
        sees: whether it can see pictures.
        tokenizer: pads on the left.
        processor: of pictures and text; None: there is none that can be used.
    """

    name: str
    path: str
    model: PreTrainedModel
    sees: bool
    tokenizer: Any
    processor: Any | None

    @property
    def n_positions(self) -> int | None:
        """The most tokens that it reads; None: it does not say."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) else None

    @property
    def geometry(self) -> PictureGeometry | None:
        """Of the pictures that its vision tower takes; None: it does not say."""
        vision = getattr(self.model.config, "vision_config", None)
        side, patch = (getattr(vision, name, None) for name in ("image_size", "patch_size"))
        if isinstance(side, int) and isinstance(patch, int) and 0 < patch <= side:
            return PictureGeometry(side, patch)
        return None

    @property
    def ends(self) -> list[int]:
        """The tokens that end what it says."""
        found = self.model.generation_config.eos_token_id
        listed = [found] if isinstance(found, int) else list(found or [])
        own = self.tokenizer.eos_token_id
        return list(dict.fromkeys([*listed, *([] if own is None else [own])]))


def load_hf(name: str, config: HFConfig, pictures: bool = True) -> HFModel:
    """Open a model.

    Args:
        name: `hf:` and a folder, a run or a hub id.
        pictures: whether it is shown pictures.

    Raises:
        UserError: there is none, it writes no text, it sees no pictures but is shown some, it has
            no tokenizer, a part of it cannot be loaded, or it is a GPT-2v of ours.
    """
    where = f"model: {name}"
    path = find_checkpoint(name.removeprefix(PREFIX), "model")
    if read_config(path, "model").get("model_type") == GPT2V:
        raise UserError(f"{where}: is a GPT-2v, which is measured without {PREFIX}")
    kind, sees = _kind(path, where)
    if pictures and not sees:
        raise UserError(
            f"modalities: {name} reads text only, and sees no pictures; use --modalities text"
        )
    processor: Any = None
    if sees:
        lacks = f"{where}: has no processor that can be loaded"
        try:
            processor = _loaded(lacks, AutoProcessor, path)
        except UserError:
            if pictures:
                raise
    if hasattr(processor, "tokenizer"):  # which some processors have changed
        tokenizer = processor.tokenizer
    elif pictures:
        raise UserError(f"{where}: has no processor of pictures and text")
    else:
        tokenizer = _loaded(f"{where}: has no tokenizer that can be loaded", AutoTokenizer, path)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"{where}: its tokenizer has neither a pad nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return HFModel(name, path, _weights(kind, path, where, config), sees, tokenizer, processor)


def _kind(path: str, where: str) -> tuple[type[PreTrainedModel], bool]:
    """The class of a checkpoint's model, and whether it sees pictures."""
    config = type(_loaded(f"{where}: its config.json cannot be used", AutoConfig, path))
    if config in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[config], True
    if config in MODEL_FOR_CAUSAL_LM_MAPPING:
        return MODEL_FOR_CAUSAL_LM_MAPPING[config], False
    raise UserError(
        f"{where}: is a {config.model_type} checkpoint; needed is a model that transformers opens "
        "as AutoModelForImageTextToText or AutoModelForCausalLM"
    )


def _loaded(lacks: str, auto: Any, path: str) -> Any:
    """What a class of transformers loads from a checkpoint; `lacks` begins the message if not."""
    try:
        return auto.from_pretrained(path, trust_remote_code=False)
    except ImportError as error:  # a package is missing; then it says at length where it is
        raise UserError(f"{lacks}: {first_line(error).partition('. ')[0]}") from None
    except Exception as error:  # errors of hub, files and formats have no common type
        raise UserError(f"{lacks}: {first_line(error)}") from None


def _weights(
    kind: type[PreTrainedModel], path: str, where: str, config: HFConfig
) -> PreTrainedModel:
    device = chosen_device()
    lean = device.type != "cpu" and has_bf16(device)
    dtype = DTYPES["bf16" if lean else "fp32"] if config.dtype == "auto" else DTYPES[config.dtype]
    fused = kind._supports_sdpa and has_right_attention(device.type, torch.__version__)
    try:
        model, loading = waited(
            f"{where}: loading",
            lambda: kind.from_pretrained(
                path,
                dtype=dtype,
                attn_implementation="sdpa" if fused else "eager",
                output_loading_info=True,
                use_safetensors=True,
                trust_remote_code=False,
            ),
        )
    except Exception as error:  # hub, file and format errors have no common type
        raise UserError(f"{where}: cannot be loaded: {first_line(error)}") from None
    if missing := sorted(loading["missing_keys"]):
        raise UserError(f"{where}: its weights lack {missing[0]}")
    placed: PreTrainedModel = model.to(device).eval()
    return placed
