"""CLIP with localised patch features: the model, its two losses, and its zero-shot classifier.

The global contrastive loss alone gives no gradient to the last layer's patch tokens, so a local
term asks the patches of each object to name it, against the captions of all objects.
Equal captions in a batch are positives of each other.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from gpt2v.config.training import EncoderConfig
from gpt2v.data.text_pieces import END_OF_TEXT, PAD, special_id
from gpt2v.data.tiles.image_files import Pixels

# Mean and standard deviation of each channel that OpenAI's CLIP normalises with.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
LONGEST_CAPTION = 77  # CLIP's context


def new_clip(config: EncoderConfig, tokenizer: Tokenizer) -> CLIPModel:
    """A CLIPModel from random weights for pictures and captions of our own."""
    end = special_id(tokenizer, END_OF_TEXT)
    tower = {
        "hidden_act": "gelu",
        "attention_dropout": 0.0,
        "projection_dim": config.projection_dim,
    }
    text = {
        **config.text.model_dump(),
        **tower,
        "intermediate_size": 4 * config.text.hidden_size,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": LONGEST_CAPTION,
        "bos_token_id": end,
        "eos_token_id": end,  # the default, 49407, would pool the first token of every caption
        "pad_token_id": special_id(tokenizer, PAD),
    }
    vision = {
        **config.vision.model_dump(),
        **tower,
        "intermediate_size": 4 * config.vision.hidden_size,
    }
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.projection_dim)
    )


def normalise(
    pixels: Pixels,
    device: torch.device,
    mean: Sequence[float] = IMAGE_MEAN,
    std: Sequence[float] = IMAGE_STD,
) -> Tensor:
    """uint8 (B, S, S, 3) -> float (B, 3, S, S), as a vision tower takes it; by default, CLIP."""
    x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255)
    centre, width = (torch.tensor(v, device=device)[:, None, None] for v in (mean, std))
    return ((x - centre) / width).contiguous()


def caption_ids(captions: list[str], tokenizer: Tokenizer, device: torch.device) -> Tensor:
    """(B, T) captions, each closed by the end-of-text token that CLIP pools."""
    rows = [e.ids for e in tokenizer.encode_batch([c + END_OF_TEXT for c in captions])]
    longest = max(map(len, rows))
    pad = special_id(tokenizer, PAD)
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)


def embed_captions(clip: CLIPModel, ids: Tensor) -> Tensor:
    """Unit embeddings (B, D) of captions."""
    return F.normalize(clip.get_text_features(input_ids=ids).pooler_output, dim=-1)


def embed_patches(clip: CLIPModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Unit embeddings of whole pictures (B, D); embeddings of their patches (B, N, D)."""
    hidden = clip.vision_model(pixel_values).last_hidden_state
    hidden = clip.visual_projection(clip.vision_model.post_layernorm(hidden))
    return F.normalize(hidden[:, 0], dim=-1), hidden[:, 1:]


def pool_regions(patches: Tensor, region: Tensor, n_regions: int) -> Tensor:
    """Unit mean embedding of each region's patches, (B, R, D); zero where a region has none.

    Args:
        patches: (B, N, D).
        region: (B, N) or (1, N) region of each patch; below 0: none.
    """
    member = (region[..., None] == torch.arange(n_regions, device=region.device)).to(patches)
    return F.normalize(member.mT @ patches, dim=-1)


def global_loss(clip: CLIPModel, pictures: Tensor, captions: Tensor, same: Tensor) -> Tensor:
    """Mean symmetric contrastive loss; `same` (B, B) marks equal captions as positives."""
    logits = clip.logit_scale.exp() * pictures @ captions.T
    share = same / same.sum(1, keepdim=True)
    both = F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)
    return both / 2


def local_losses(
    clip: CLIPModel, patches: Tensor, objects: Tensor, region: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of regions naming their object, and of single patches doing so.

    The mean over a region learns several times as fast: from patches one by one, attention has to
    find the object's other patches before there is anything to learn from.

    Args:
        patches: (B, N, D) patch embeddings.
        objects: (C, D) unit embeddings of the objects' captions.
        region: (B, N) region of each patch; below 0: none.
        target: (B, R) object in each region; below 0: none.
    """
    pooled = pool_regions(patches, region, target.shape[1])
    seen = (target >= 0) & (pooled != 0).any(-1)
    of_patch = target.gather(1, region.clamp(min=0)).masked_fill(region < 0, -1)
    on_object = of_patch >= 0
    features = torch.cat([pooled[seen], F.normalize(patches[on_object], dim=-1)])
    named = torch.cat([target[seen], of_patch[on_object]])
    losses = F.cross_entropy(
        (clip.logit_scale.exp() * features @ objects.T).float(), named, reduction="none"
    )
    n_regions = int(seen.sum())
    return losses[:n_regions].mean(), losses[n_regions:].mean()
