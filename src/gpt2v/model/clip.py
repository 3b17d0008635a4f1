"""CLIP with localised patch features: the model, its two losses, and its zero-shot classifier.

The global contrastive loss alone gives no gradient to the last layer's patch tokens, so a local
term asks each patch to name the object that it lies on, against the captions of all objects.
Equal captions in a batch are positives of each other.
"""

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from gpt2v.config import EncoderConfig
from gpt2v.data.pieces import END_OF_TEXT, PAD, special_id
from gpt2v.data.tiles import Pixels

# Mean and standard deviation of each channel that OpenAI's CLIP normalises with.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
_LONGEST_CAPTION = 77  # CLIP's context


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
        "max_position_embeddings": _LONGEST_CAPTION,
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


def normalise(pixels: Pixels, device: torch.device) -> Tensor:
    """uint8 (B, S, S, 3) -> float (B, 3, S, S), as CLIP takes it."""
    x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
    return ((x - mean) / std).contiguous()


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
    """Unit embeddings of whole pictures (B, D) and of their patches (B, N, D)."""
    hidden = clip.vision_model(pixel_values).last_hidden_state
    hidden = clip.visual_projection(clip.vision_model.post_layernorm(hidden))
    hidden = F.normalize(hidden, dim=-1)
    return hidden[:, 0], hidden[:, 1:]


def global_loss(clip: CLIPModel, pictures: Tensor, captions: Tensor, same: Tensor) -> Tensor:
    """Mean symmetric contrastive loss; `same` (B, B) marks equal captions as positives."""
    logits = clip.logit_scale.exp() * pictures @ captions.T
    share = same / same.sum(1, keepdim=True)
    both = F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)
    return both / 2


def local_loss(clip: CLIPModel, patches: Tensor, objects: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of each patch naming its object; targets below 0 are left out.

    Args:
        patches: (B, N, D) unit embeddings.
        objects: (C, D) unit embeddings of the objects' captions.
        target: (B, N) object at each patch.
    """
    on_object = target >= 0
    logits = clip.logit_scale.exp() * patches[on_object] @ objects.T
    return F.cross_entropy(logits.float(), target[on_object])


def cell_predictions(patch_scores: Tensor, cell: np.ndarray, n_cells: int) -> Tensor:
    """Zero-shot class of each cell: the mean of its patches' caption scores, (B, n_cells)."""
    onto = torch.from_numpy(np.eye(n_cells, dtype=np.float32)[cell]).to(patch_scores)
    return torch.einsum("bnc,nk->bkc", patch_scores, onto).argmax(-1)
