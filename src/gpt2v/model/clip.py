"""CLIP with localised patch features: the model and its losses.

The global contrastive loss alone gives no gradient to the last layer's patch tokens. So a local
loss trains the patches of each object to name it, among the captions of all objects. Equal captions
in a batch are positives of each other.

Shapes: B samples of a batch, P pictures, N patches of a picture, T token positions, S side of a
picture in pixels.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from gpt2v.config.encoder import EncoderConfig
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import END_OF_TEXT, PAD, n_ids, special_id
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.hardware.device import to_device
from gpt2v.model.encoders import check_tower, new_encoder
from gpt2v.model.families import IMAGE_MEAN, IMAGE_STD, family_of

Clip: TypeAlias = CLIPModel | VisionTextDualEncoderModel
LONGEST_CAPTION = 77  # CLIP's context


def new_clip(config: EncoderConfig, tokenizer: Tokenizer) -> Clip:
    """A vision and a text tower with random weights, for our pictures and captions.

    It is a stock CLIPModel if its vision tower is CLIP's, else a stock VisionTextDualEncoderModel,
    which has the same parts under the same names.

    Raises:
        UserError: a tower is too large for this machine's memory, or no encoder family has its
            type.
    """
    check_tower(config.text, "text")
    end = special_id(tokenizer, END_OF_TEXT)
    shared = {
        "hidden_act": "gelu",
        "attention_dropout": 0.0,
        "projection_dim": config.projection_dim,
    }
    text = {
        **config.text.model_dump(),
        **shared,
        "intermediate_size": 4 * config.text.hidden_size,
        "vocab_size": n_ids(tokenizer),
        "max_position_embeddings": LONGEST_CAPTION,
        "bos_token_id": end,
        "eos_token_id": end,  # the default, 49407, pools the first token of every caption
        "pad_token_id": special_id(tokenizer, PAD),
    }
    size = {"projection_dim": config.projection_dim}
    if config.vision == "clip":
        shape = config.vision.options
        check_tower(shape, "vision")
        vision = {**shape.model_dump(), **shared, "intermediate_size": 4 * shape.hidden_size}
        return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, **size))
    tower, words = new_encoder(config.vision).tower, CLIPTextConfig(**text)
    both = VisionTextDualEncoderConfig(
        vision_config=tower.config.to_dict(), text_config=words.to_dict(), **size
    )
    return VisionTextDualEncoderModel(both, tower, CLIPTextModel(words))


def normalise(
    pixels: Pixels,
    device: torch.device,
    mean: Sequence[float] = IMAGE_MEAN,
    std: Sequence[float] = IMAGE_STD,
) -> Tensor:
    """uint8 (P, S, S, 3) -> float (P, 3, S, S), as a vision tower takes it; defaults are CLIP's."""
    x = to_device(pixels, device).permute(0, 3, 1, 2).float().div_(255)
    centre, width = (to_device(np.array(v, np.float32), device)[:, None, None] for v in (mean, std))
    return ((x - centre) / width).contiguous()


def caption_ids(captions: list[str], tokenizer: Tokenizer, device: torch.device) -> Tensor:
    """(B, T) token ids of captions, each with the end-of-text token that CLIP pools, and padded."""
    texts = [caption + END_OF_TEXT for caption in captions]
    rows = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    longest = max(map(len, rows))
    pad = special_id(tokenizer, PAD)
    padded = np.array([row + [pad] * (longest - len(row)) for row in rows], np.int64)
    return to_device(padded, device)


def embed_captions(clip: Clip, ids: Tensor) -> Tensor:
    """Unit embeddings (B, projection_dim) of captions (B, T)."""
    return F.normalize(clip.get_text_features(input_ids=ids).pooler_output, dim=-1)


def embed_patches(
    clip: Clip, pixel_values: Tensor, window: int | None = None
) -> tuple[Tensor, Tensor]:
    """Embed pictures (B, 3, S, S).

    Args:
        window: in place of the tower's own, where pictures are scaled.

    Returns:
        unit embeddings of whole pictures (B, projection_dim), and embeddings of their patches
        (B, N, projection_dim), which are not normalised.
    """
    tower = clip.vision_model
    scaled = {} if window is None else {"window": window}
    hidden = tower(pixel_values, **scaled).last_hidden_state
    if isinstance(tower, CLIPVisionModel):
        hidden = tower.post_layernorm(hidden)  # CLIP has it for the class token only
    hidden = clip.visual_projection(hidden)
    n_class_tokens = family_of(tower.config).n_class_tokens
    whole = hidden[:, 0] if n_class_tokens else hidden.mean(1)
    return F.normalize(whole, dim=-1), hidden[:, n_class_tokens:]


def pool_regions(patches: Tensor, region: Tensor, n_regions: int, normalise: bool = True) -> Tensor:
    """Mean embedding of each region's patches, (B, n_regions, projection_dim), as a unit vector.

    It is zero for a region without patches.

    Args:
        patches: (B, N, projection_dim) patch embeddings.
        region: (B, N) or (1, N) region of each patch; below 0: no region.
        normalise: false: the mean itself.
    """
    member = (region[..., None] == torch.arange(n_regions, device=region.device)).to(patches)
    sums = member.mT @ patches
    if not normalise:
        return sums / member.sum(1).clamp(min=1)[..., None]
    return F.normalize(sums, dim=-1, eps=max(1e-12, torch.finfo(sums.dtype).tiny))  # 0 in fp16


def global_loss(clip: Clip, pictures: Tensor, captions: Tensor, same: Tensor) -> Tensor:
    """Mean symmetric contrastive loss.

    Args:
        pictures: (B, projection_dim) unit embeddings.
        captions: (B, projection_dim) unit embeddings.
        same: (B, B) 1 where captions are equal, else 0.
    """
    logits = clip.logit_scale.exp() * pictures @ captions.T
    share = same / same.sum(1, keepdim=True)
    both = F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)
    return both / 2


def local_losses(
    clip: Clip,
    patches: Tensor,
    objects: Tensor,
    region: Ints,
    target: Ints,
    label_smoothing: float = 0.0,
    normalise: bool = True,
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of regions that name their object, and of single patches that name it.

    With the mean over a region, training is several times as fast: with single patches, attention
    must first find the object's other patches.

    Args:
        patches: (B, N, projection_dim) patch embeddings.
        objects: (n_classes, projection_dim) unit embeddings of the objects' captions.
        region: (B, N) region of each patch; below 0: no region.
        target: (B, n_regions) class of the object in each region; below 0: no object.
        label_smoothing: share of the target that is spread over all classes.
        normalise: whether to compare directions, as CLIP does. Without it this is a linear
            classifier whose weights are the captions' embeddings, which learns faster.
    """
    n_regions = target.shape[1]
    filled = (region[..., None] == np.arange(n_regions)).any(1)  # (B, n_regions)
    seen = np.flatnonzero((target >= 0) & filled)
    of_patch = np.where(region < 0, -1, np.take_along_axis(target, np.maximum(region, 0), axis=1))
    on_object = np.flatnonzero(of_patch >= 0)
    named = np.concatenate([target.ravel()[seen], of_patch.ravel()[on_object]])
    at_region, at_patch, names, region_BN = (
        to_device(a, patches.device) for a in (seen, on_object, named, region)
    )
    pooled = pool_regions(patches, region_BN, n_regions, normalise).flatten(0, 1)[at_region]
    single = patches.flatten(0, 1)[at_patch]
    if normalise:
        single = F.normalize(single, dim=-1)
    features = torch.cat([pooled, single])
    losses = F.cross_entropy(
        (clip.logit_scale.exp() * features @ objects.T).float(),
        names,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses[: len(seen)].mean(), losses[len(seen) :].mean()
