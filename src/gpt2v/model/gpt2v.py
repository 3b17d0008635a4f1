"""GPT-2v: a CLIP vision tower and a projector in front of a GPT-2.

A picture is a run of `<image>` placeholders in the token sequence; vision tokens replace their
embeddings. Which vision tokens is the business of a source (see `sources`); by default they are
the projected patches of the picture.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from gpt2v.data.images import PictureGeometry
from gpt2v.model.projector import PROJECTORS


class GPT2vConfig(PreTrainedConfig):  # type: ignore[misc]
    """Vision tower, projector and language model, and where they meet."""

    model_type = "gpt2v"
    sub_configs = {"vision_config": CLIPVisionConfig, "text_config": GPT2Config}  # noqa: RUF012

    def __init__(
        self,
        vision_config: dict[str, Any] | CLIPVisionConfig | None = None,
        text_config: dict[str, Any] | GPT2Config | None = None,
        projector: str = "mlp",
        vision_layer: int = -1,
        image_token_id: int = 0,
        pool: int = 1,
        **kwargs: Any,
    ) -> None:
        self.vision_config: CLIPVisionConfig = _parsed(CLIPVisionConfig, vision_config)
        self.text_config: GPT2Config = _parsed(GPT2Config, text_config)
        self.projector = projector
        self.vision_layer = vision_layer
        self.image_token_id = image_token_id
        self.pool = pool
        kwargs.setdefault("tie_word_embeddings", True)
        super().__init__(**kwargs)


def _parsed(kind: Any, config: Any) -> Any:
    return config if isinstance(config, kind) else kind(**(config or {}))


class GPT2vModel(PreTrainedModel):  # type: ignore[misc]
    """The parts `vision_tower`, `projector` and `language_model`."""

    config_class = GPT2vConfig
    base_model_prefix = ""
    _tied_weights_keys = {  # noqa: RUF012
        "language_model.lm_head.weight": "language_model.transformer.wte.weight"
    }
    _supports_sdpa = True

    def __init__(self, config: GPT2vConfig) -> None:
        super().__init__(config)
        self.vision_tower = CLIPVisionModel(config.vision_config)
        self.projector = PROJECTORS[config.projector](
            config.vision_config.hidden_size, config.text_config.n_embd
        )
        self.language_model = GPT2LMHeadModel(config.text_config)
        self.post_init()

    @classmethod
    def from_parts(
        cls,
        vision_tower: CLIPVisionModel,
        language_model: GPT2LMHeadModel,
        projector: str,
        vision_layer: int,
        image_token_id: int,
        pool: int = 1,
    ) -> "GPT2vModel":
        """Join trained parts; only the projector starts from random weights."""
        config = GPT2vConfig(
            vision_tower.config,
            language_model.config,
            projector,
            vision_layer,
            image_token_id,
            pool,
        )
        model = cls(config)
        model.vision_tower.load_state_dict(vision_tower.state_dict())
        model.language_model.load_state_dict(language_model.state_dict())
        return model

    def get_input_embeddings(self) -> torch.nn.Module:
        wte: torch.nn.Module = self.language_model.get_input_embeddings()
        return wte

    @property
    def geometry(self) -> PictureGeometry:
        """The pictures that the vision tower takes, in its patches."""
        vision = self.config.vision_config
        return PictureGeometry(vision.image_size, vision.patch_size)

    @property
    def token_geometry(self) -> PictureGeometry:
        """The same pictures, in vision tokens of `pool` x `pool` patches."""
        vision = self.config.vision_config
        return PictureGeometry(vision.image_size, vision.patch_size * self.config.pool)

    def patch_features(self, pixel_values: Tensor) -> Tensor:
        """Patch embeddings before the projector: (B, 3, S, S) -> (B, N, D), no class token."""
        output = self.vision_tower(pixel_values, output_hidden_states=True)
        features: Tensor = output.hidden_states[self.config.vision_layer][:, 1:]
        return features

    def vision_tokens(self, pixel_values: Tensor) -> Tensor:
        """Projected means of `pool` x `pool` patches, raster order: (B, 3, S, S) -> (B, M, D)."""
        features_BND = self.patch_features(pixel_values)
        if self.config.pool > 1:
            side = math.isqrt(features_BND.shape[1])
            plane = features_BND.mT.reshape(len(features_BND), -1, side, side)
            features_BND = F.avg_pool2d(plane, self.config.pool).flatten(2).mT
        tokens: Tensor = self.projector(features_BND)
        return tokens
