"""Parts of models: tokenizer, GPT-2, vision and text towers, and the cache of a frozen tower."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gpt2v.config.base import Config


class TokenizerConfig(Config):
    """The tokenizer: byte-level BPE, either trained on our own data or an existing one."""

    source: str = Field(
        "trained",
        description="'trained' on the texts of this configuration, a folder with tokenizer files, "
        "or a hub id such as gpt2",
    )
    vocab_size: int = Field(
        1024, ge=259, le=1_000_000, description="trained: maximum number of tokens"
    )


class GPT2ModelConfig(Config):
    """A GPT-2 with random weights; fields as in `transformers.GPT2Config`."""

    n_layer: int = Field(2, ge=1, le=1000, description="number of transformer blocks")
    n_head: int = Field(4, ge=1, le=1000, description="number of attention heads")
    n_embd: int = Field(128, ge=8, le=100_000, description="width of the hidden state")
    n_positions: int = Field(
        512, ge=8, le=1_000_000, description="maximum length of a sequence in tokens"
    )
    dropout: float | None = Field(
        0.0,
        ge=0,
        lt=1,
        description="chance to drop a value, at every dropout layer; none: as in `init`, whose "
        "layers differ",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} must be a multiple of n_head {self.n_head}")
        return self


class VisionConfig(Config):
    """A CLIP vision tower with random weights; fields as in `transformers.CLIPVisionConfig`."""

    image_size: int = Field(96, ge=8, le=4096, description="side of the picture in pixels")
    patch_size: int = Field(16, ge=1, le=4096, description="side of a patch in pixels")
    hidden_size: int = Field(128, ge=8, le=100_000, description="width of the hidden state")
    num_hidden_layers: int = Field(4, ge=1, le=1000, description="number of transformer blocks")
    num_attention_heads: int = Field(4, ge=1, le=1000, description="number of attention heads")

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        return self


class ConvConfig(Config):
    """A convolutional vision tower with random weights; see `gpt2v.model.conv`."""

    model_type: ClassVar[str] = "gpt2v_conv"  # of its checkpoints
    any_size: ClassVar[bool] = True  # it reads pictures of other sizes than image_size, too

    image_size: int = Field(96, ge=8, le=4096, description="side of the picture in pixels")
    widths: list[Annotated[int, Field(ge=8, le=100_000)]] = Field(
        [64, 256, 256],
        min_length=1,
        max_length=8,
        description="channels of each block; a block halves the feature map, so that the side of a "
        "patch is 2 to the power of the number of blocks",
    )
    depth: int = Field(2, ge=1, le=100, description="number of convolutions in each block")
    window: int | None = Field(
        None,
        ge=2,
        le=4096,
        description="cut pictures into squares of this side in pixels and see each by itself, so "
        "that cells of this size do not see their neighbours; none: see whole pictures",
    )
    mirror: bool = Field(
        False,
        description="features are means of those of a picture (of each window) and of its mirror "
        "image; pre-training sees one of the two at a time",
    )

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return 1 << len(self.widths)

    @property
    def hidden_size(self) -> int:
        """Width of the patches' features."""
        return self.widths[-1]

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of {self.patch_size}, as each of "
                f"{len(self.widths)} widths halves the picture"
            )
        if self.window and (self.window % self.patch_size or self.image_size % self.window):
            raise ValueError(
                f"window {self.window} must be a multiple of {self.patch_size}, the side of a "
                f"patch, and divide image_size {self.image_size}"
            )
        return self


class TextTowerConfig(Config):
    """A CLIP text tower with random weights."""

    hidden_size: int = Field(128, ge=8, le=100_000, description="width of the hidden state")
    num_hidden_layers: int = Field(2, ge=1, le=1000, description="number of transformer blocks")
    num_attention_heads: int = Field(4, ge=1, le=1000, description="number of attention heads")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        return self


class FeaturesConfig(Config):
    """Cache of a frozen vision tower's features: computed once per picture, kept on the disk."""

    mode: Literal["auto", "off", "require"] = Field(
        "auto",
        description="auto: use a cache if possible (evaluations, probes, ladders: if it exists); "
        "off: use none; require: stop with an error if no cache is possible",
    )
    path: str | None = Field(
        None, description="folder of the caches; none: gpt2v/features in the user's cache folder"
    )
    max_gb: float = Field(
        4.0,
        gt=0,
        allow_inf_nan=True,
        description="auto, require: maximum size of a cache in GB; .inf: any size",
    )
