"""The built-in vision towers that can be trained from random weights. Their models are in `model`.

The options of every tower have an `image_size` and a `patch_size` in pixels and a `hidden_size`, as
fields or as properties. `model_type`, if they have one, is that of the tower's checkpoints; and
`any_size`, if true, says that its model reads pictures of other sizes as well.
"""

from typing import Annotated

from gpt2v.config.choice import Choice, OneOf
from gpt2v.config.models import ConvConfig, VisionConfig
from gpt2v.registry import VISION_TOWERS


@VISION_TOWERS.register("clip", options=VisionConfig, at="gpt2v.model.encoders:new_clip_tower")
def clip() -> None:
    """A CLIP vision transformer, with random weights."""


@VISION_TOWERS.register("conv", options=ConvConfig, at="gpt2v.model.conv:new_conv_tower")
def conv() -> None:
    """A convolutional tower, with random weights: photographs of 32 pixels in minutes."""


VisionTower = Annotated[Choice, OneOf(VISION_TOWERS, "clip")]
CLIP_TOWER = Choice("clip", VISION_TOWERS, VisionConfig())
