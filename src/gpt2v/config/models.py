"""What models are built from: tokenizer, GPT-2, CLIP's towers, and what is kept of a frozen one."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gpt2v.config.base import Config


class TokenizerConfig(Config):
    """Byte-level BPE trained on our own corpora, or GPT-2's own."""

    source: str = Field(
        "trained", description="'trained', a folder with tokenizer files, or a hub id such as gpt2"
    )
    vocab_size: int = Field(1024, ge=259, description="trained: size of the vocabulary, at most")


class GPT2ModelConfig(Config):
    """A GPT-2 from random weights; the names are `transformers.GPT2Config`'s."""

    n_layer: int = Field(2, ge=1, description="transformer blocks")
    n_head: int = Field(4, ge=1, description="attention heads")
    n_embd: int = Field(128, ge=8, description="width")
    n_positions: int = Field(512, ge=8, description="longest context in tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout everywhere")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} must be a multiple of n_head {self.n_head}")
        return self


class VisionConfig(Config):
    """A CLIP vision tower from random weights; the names are `transformers.CLIPVisionConfig`'s."""

    image_size: int = Field(96, ge=8, description="side of the picture in pixels")
    patch_size: int = Field(16, ge=1, description="side of a patch in pixels")
    hidden_size: int = Field(128, ge=8, description="width")
    num_hidden_layers: int = Field(4, ge=1, description="transformer blocks")
    num_attention_heads: int = Field(4, ge=1, description="attention heads")

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        return self


class TextTowerConfig(Config):
    """CLIP's text tower."""

    hidden_size: int = Field(128, ge=8, description="width")
    num_hidden_layers: int = Field(2, ge=1, description="transformer blocks")
    num_attention_heads: int = Field(4, ge=1, description="attention heads")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        return self


def _off(mode: Any) -> Any:
    return "off" if mode is False else mode  # YAML 1.1 reads a bare `off` as false


class FeaturesConfig(Config):
    """Features of a frozen vision tower: computed once for each picture and kept on the disk."""

    mode: Annotated[Literal["auto", "off", "require"], BeforeValidator(_off)] = Field(
        "auto",
        description="auto: where it can be (evaluations and probes: if they are there already); "
        "off: never; require: else refuse",
    )
    path: str | None = Field(
        None, description="folder of the caches; none: gpt2v/features in the user's cache"
    )
    max_gb: float = Field(4.0, gt=0, description="auto, require: largest cache in GB")
