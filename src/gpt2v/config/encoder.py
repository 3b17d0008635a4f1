"""Configuration of the encoder's training."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from gpt2v.config.base import MOST, Config
from gpt2v.config.effect import refuse_unused
from gpt2v.config.loop import TrainConfig, check_rates
from gpt2v.config.models import TextTowerConfig, TokenizerConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.scenes import SceneConfig
from gpt2v.config.towers import CLIP_TOWER, VisionTower


class EncoderConfig(Config):
    """`gpt2v encoder train`: contrastive pre-training of a CLIP on captioned scenes.

    With a teacher, also or only distillation: the text tower is then the teacher's.
    """

    only_default: ClassVar[tuple[str, ...]] = (
        "train.stage_groups",
        "train.eval_windows",
        "train.shard",
    )

    tiles: TilesConfig = TilesConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    vision: VisionTower = Field(CLIP_TOWER, description="vision tower, with random weights")
    text: TextTowerConfig = TextTowerConfig()
    teacher: str | None = Field(
        None,
        description="encoder to learn from, patch by patch: a run of `encoder train` (path); its "
        "tokenizer, text tower and `projection_dim` are taken over; none: captions alone",
    )
    projection_dim: int = Field(
        128,
        ge=8,
        le=100_000,
        description="width of the embeddings that pictures and captions share",
    )
    scenes: SceneConfig = SceneConfig()
    global_weight: float = Field(
        0.25, ge=0, description="weight of the loss that matches scenes with captions"
    )
    region_weight: float = Field(
        1.0, ge=0, description="weight of the loss that names each object from its mean patch"
    )
    patch_weight: float = Field(
        0.25, ge=0, description="weight of the loss that names the object from each single patch"
    )
    teacher_weight: float = Field(
        1.0,
        ge=0,
        description="weight of the loss that brings each patch to the teacher's; with a teacher, "
        "the other weights may be 0",
    )
    teacher_pool: int = Field(
        1,
        ge=1,
        le=1024,
        description="each of the teacher's patches becomes the mean of its teacher_pool x "
        "teacher_pool patches, as `pool` of MM-Train reads them",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each name's target that all names get, in the losses that name "
        "objects",
    )
    supervised_start: int = Field(
        0,
        ge=0,
        le=MOST,
        description="number of first steps that learn from the names of objects alone, as a linear "
        "classifier of regions and patches does: without the captions of scenes",
    )
    small_start: int = Field(
        0,
        ge=0,
        le=MOST,
        description="number of first steps that show scenes in smaller pictures, which cost less; "
        "for a convolutional tower",
    )
    small_scale: float = Field(
        0.75,
        gt=0,
        lt=1,
        description="side of the pictures of small_start as a share of vision.image_size; patches "
        "stay whole, in each window",
    )
    data_seed: int = Field(0, ge=0, description="seed of the training data")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="number of scenes per step")
    steps: int = Field(1000, ge=1, le=MOST, description="number of training steps")
    train: TrainConfig

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        if not self.train.groups:
            raise ValueError("train.groups: required")
        if self.train.stage_groups:
            raise ValueError("train.stage_groups: the encoder's training has no stages")
        return self

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        check_rates(self.train)
        refuse_unused(self.train, ("eval_windows",), "the encoder reads no text", "train.")
        refuse_unused(self.train, ("shard",), "an encoder is never sharded", "train.")
        if self.supervised_start and not (self.region_weight or self.patch_weight):
            raise ValueError("supervised_start: needs region_weight or patch_weight above 0")
        if self.supervised_start >= self.steps and self.global_weight:
            raise ValueError(
                f"supervised_start: must be below the {self.steps} steps, or global_weight 0"
            )
        self._check_small()
        shape = self.vision.options
        sides = [shape.image_size // layout.lattice for layout in self.scenes.layouts]
        if max(sides) < 2 * shape.patch_size:
            why = "the vision's patches are larger than half of a cell"
            refuse_unused(self.scenes, ("cut",), why, "scenes.")
        names = ["global_weight", "region_weight", "patch_weight"]
        if self.teacher is None:
            refuse_unused(self, ("teacher_weight", "teacher_pool"), "there is no teacher")
        else:
            names.append("teacher_weight")
            if not self.teacher_weight:
                refuse_unused(self, ("teacher_pool",), "teacher_weight is 0")
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"{', '.join(names)}: one must be above 0, or nothing trains")
        if not (self.region_weight or self.patch_weight):
            why = "region_weight and patch_weight are 0, so no object is named"
            refuse_unused(self, ("label_smoothing",), why)
        return self

    @property
    def small_side(self) -> int:
        """Side in pixels of the pictures of `small_start`."""
        shape = self.vision.options
        window = getattr(shape, "window", None) or shape.image_size
        patches = max(1, int(self.small_scale * window / shape.patch_size + 1e-9))
        return int(patches * shape.patch_size * (shape.image_size // window))

    def _check_small(self) -> None:
        """Raise ValueError if the vision cannot read smaller pictures."""
        if not self.small_start:
            return refuse_unused(self, ("small_scale",), "small_start is 0")
        if self.teacher is not None or not getattr(self.vision.options, "any_size", False):
            why = f"a {self.vision} tower" if self.teacher is None else "a teacher"
            raise ValueError(f"small_start: {why} reads pictures of one size only; leave it out")
        if self.small_side >= self.vision.options.image_size:
            raise ValueError("small_start: the vision's windows are one patch each; leave it out")
        if self.small_start >= self.steps:
            raise ValueError(f"small_start: must be below the {self.steps} steps")
        lattice = max(layout.lattice for layout in self.scenes.layouts)
        if self.small_side // lattice < self.vision.options.patch_size:
            raise ValueError(
                f"small_scale: a scene of {self.small_side} pixels has cells smaller than a patch "
                f"(lattice: {lattice})"
            )
