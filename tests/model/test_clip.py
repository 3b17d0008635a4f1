"""CLIP: it pools the right token, equal captions are positives, and patches get a gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import helpers
from gpt2v.config.encoder import EncoderConfig
from gpt2v.data.text_pieces import END_OF_TEXT, special_id
from gpt2v.model.clip import (
    caption_ids,
    embed_captions,
    embed_patches,
    global_loss,
    local_losses,
    new_clip,
    pool_regions,
)

CPU = torch.device("cpu")
CAPTIONS = ["a picture of a cat.", "a picture of a dog.", "a picture of a cat and a dog."]


@pytest.fixture(scope="module")
def clip(tokenizer):
    torch.manual_seed(0)
    config = EncoderConfig.model_validate(helpers.TINY_ENCODER)
    return helpers.louder(new_clip(config, tokenizer)).eval()


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_captions_of_different_content_differ(clip, tokenizer):
    with torch.no_grad():
        embeddings = embed_captions(clip, caption_ids(CAPTIONS, tokenizer, CPU))
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))
    similarity = embeddings @ embeddings.T
    assert float(similarity[~torch.eye(3, dtype=torch.bool)].max()) < 0.999


def test_the_pooled_token_is_the_end_of_the_caption(clip, tokenizer):
    ids = caption_ids(CAPTIONS, tokenizer, CPU)
    end = special_id(tokenizer, END_OF_TEXT)
    assert (ids == end).sum(1).tolist() == [1, 1, 1]
    assert int(ids[0, -1]) == tokenizer.token_to_id("<pad>")
    with torch.no_grad():
        together = embed_captions(clip, ids)
        alone = [embed_captions(clip, caption_ids([c], tokenizer, CPU))[0] for c in CAPTIONS]
        last = clip.text_model(ids).last_hidden_state[torch.arange(3), (ids == end).int().argmax(1)]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=0)
    expected = F.normalize(clip.text_projection(last), dim=-1)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=0)


def test_the_default_end_token_would_pool_nothing(tokenizer):
    """A planted error, which shows that the test above detects it."""
    torch.manual_seed(0)
    config = EncoderConfig.model_validate(helpers.TINY_ENCODER)
    wrong = new_clip(config, tokenizer).eval()
    wrong.text_model.eos_token_id = 49407
    if hasattr(wrong.text_model.config, "eos_token_id"):
        wrong.text_model.config.eos_token_id = 49407
    with torch.no_grad():
        embeddings = embed_captions(wrong, caption_ids(CAPTIONS, tokenizer, CPU))
    torch.testing.assert_close(embeddings[0], embeddings[1])  # "a" twice: the first token of both


def test_pictures_are_embedded_as_clip_does(clip, pixels):
    with torch.no_grad():
        whole, patches = embed_patches(clip, pixels)
        expected = F.normalize(clip.get_image_features(pixels).pooler_output, dim=-1)
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=0)
    assert patches.shape == (3, 16, 16)


def contrastive(scale, pictures, captions, positives):
    """Plain Python: mean over rows and columns of -log of the positives' mean log-softmax."""
    logits = scale * pictures @ captions.T
    total = 0.0
    for a, same in ((logits, positives), (logits.T, positives.T)):
        logp = torch.log_softmax(a, -1)
        rows = [-logp[i][same[i] > 0].mean() for i in range(len(a))]
        total += torch.stack(rows).mean()
    return total / 2


def test_equal_captions_are_positives(clip):
    torch.manual_seed(0)
    pictures = F.normalize(torch.randn(4, 16), dim=-1)
    captions = F.normalize(torch.randn(4, 16), dim=-1)
    captions[3] = captions[0]
    same = torch.eye(4)
    same[0, 3] = same[3, 0] = 1
    with torch.no_grad():
        loss = global_loss(clip, pictures, captions, same)
        expected = contrastive(clip.logit_scale.exp(), pictures, captions, same)
    torch.testing.assert_close(loss, expected)
    grad = {}
    for name, target in (("positive", same), ("negative", torch.eye(4))):
        text = captions.clone().requires_grad_()
        global_loss(clip, pictures, text, target).backward()
        grad[name] = text.grad
    assert not torch.allclose(grad["positive"], grad["negative"])


def patch_gradient(clip, pixels, loss):
    """Gradient of the last layer's output, split into class token and patches."""
    gradients = {}
    layer = clip.vision_model.encoder.layers[-1]

    def hook(_module, _inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden.register_hook(lambda g: gradients.setdefault("g", g))

    handle = layer.register_forward_hook(hook)
    loss(*embed_patches(clip, pixels)).backward()
    handle.remove()
    clip.zero_grad()
    return float(gradients["g"][:, 0].abs().max()), float(gradients["g"][:, 1:].abs().max())


def test_only_the_local_term_reaches_the_last_layers_patches(clip, tokenizer, pixels):
    text = embed_captions(clip, caption_ids(CAPTIONS, tokenizer, CPU)).detach()
    region = np.arange(48).reshape(3, 16) % 4 - 1  # some patches show nothing
    target = np.array([[0, 1, 2]] * 3)
    on_class, on_patches = patch_gradient(
        clip, pixels, lambda whole, _: global_loss(clip, whole, text, torch.eye(3))
    )
    assert on_class > 0
    assert on_patches == 0
    on_class, on_patches = patch_gradient(
        clip, pixels, lambda _, patches: sum(local_losses(clip, patches, text, region, target))
    )
    assert on_class == 0
    assert on_patches > 0


def test_the_local_loss_ignores_patches_and_regions_without_an_object(clip):
    torch.manual_seed(0)
    objects = F.normalize(torch.randn(4, 16), dim=-1)
    region = np.array([[0, -1, 0, 1], [-1, 1, 2, -1]])
    target = np.array([[3, 0, 1], [2, 2, -1]])  # region 2 of the first has no patch
    patches = torch.randn(2, 4, 16)
    for patch, label in {(0, 0): 3, (0, 2): 3, (0, 3): 0, (1, 1): 2}.items():
        patches[patch] = 3 * objects[label]

    def loss(patches, target=target):
        with torch.no_grad():
            return float(sum(local_losses(clip, patches, objects, region, target)))

    for patch in ((0, 1), (1, 0), (1, 2), (1, 3)):  # the background, and a region without an object
        changed = patches.clone()
        changed[patch] += 5
        assert loss(changed) == pytest.approx(loss(patches), abs=1e-6)
    for patch in ((0, 0), (0, 3), (1, 1)):
        changed = patches.clone()
        changed[patch] = 9 * objects[1]
        assert loss(changed) > loss(patches) + 0.01
    turned = np.where(target >= 0, (target + 1) % 4, target)
    assert loss(patches, turned) > loss(patches) + 0.5


def test_a_region_is_the_unit_mean_of_its_patches():
    patches = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [0.0, -3.0], [9.0, 9.0]]])
    pooled = pool_regions(patches, torch.tensor([[0, 0, 2, -1]]), 3)
    half = 0.5**0.5
    torch.testing.assert_close(pooled, torch.tensor([[[half, half], [0.0, 0.0], [0.0, -1.0]]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_region_without_patches_has_no_gradient_in_any_number_format(dtype):
    patches = torch.randn(1, 4, 8, dtype=dtype, requires_grad=True)
    pooled = pool_regions(patches, torch.tensor([[0, 0, 2, -1]]), 3)
    assert (pooled[0, 1] == 0).all()
    pooled.sum().backward()
    assert patches.grad.isfinite().all()
    assert (patches.grad[0, 3] == 0).all()
