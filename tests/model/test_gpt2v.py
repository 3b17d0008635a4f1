"""GPT-2v: its parts, its token sources, and the weights that change in training."""

import numpy as np
import pytest
import torch

import helpers
from gpt2v.config.choice import choose
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import cell_span
from gpt2v.data.render.views import ImageView, TextView
from gpt2v.errors import UserError
from gpt2v.mm_train.train import build_gpt2v, train_mm
from gpt2v.model.clip import normalise
from gpt2v.model.encoders import new_encoder
from gpt2v.model.files import load_pretrained
from gpt2v.model.found import find_checkpoint
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.packed import Reader
from gpt2v.model.vision_tokens import CellEmbedding, SplicedText
from gpt2v.registry import VISION_TOWERS

SPEC = GridConfig(rows=2, cols=2)


def test_joining_parts_keeps_their_weights_and_the_tie(gpt2v, lm):
    for name, p in lm.state_dict().items():
        torch.testing.assert_close(gpt2v.language_model.state_dict()[name], p, rtol=0, atol=0)
    inner = gpt2v.language_model
    assert inner.lm_head.weight is inner.transformer.wte.weight


def test_patch_features_are_the_hidden_states_of_the_named_layer(gpt2v):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    x = normalise(pixels, torch.device("cpu"))
    with torch.no_grad():
        states = gpt2v.vision_tower(x, output_hidden_states=True).hidden_states
        features = helpers.patch_features(gpt2v, x)
    assert features.shape == (2, 36, 16)
    torch.testing.assert_close(features, states[-2][:, 1:], rtol=0, atol=0)
    assert not torch.allclose(features, states[-1][:, 1:])


def test_normalising_is_clips(gpt2v):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    expected = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    normalised = normalise(pixels, torch.device("cpu"))
    np.testing.assert_allclose(normalised.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bank", "long_bank"])
def test_spliced_text_gives_the_logits_of_the_text(gpt2v, lm, table, name, request):
    bank = request.getfixturevalue(name)
    samples = draw_samples(SPEC, bank, 0, "test", np.arange(4))
    render = Renderer(bank, table)
    with torch.no_grad():
        plain, _ = Reader(lm, table.image_id)(render(samples, TextView()))
        spliced = render(samples, TextView(spliced=True))
        source = SplicedText(gpt2v, render)
        logits, _ = Reader(lm, table.image_id, source)(spliced)
    torch.testing.assert_close(logits, plain, rtol=0, atol=0)
    spliced.hidden_ids[:, 3] = table.tokens(" xyz")[0]  # planted: one other word
    with torch.no_grad():
        wrong, _ = Reader(lm, table.image_id, source)(spliced)
    assert float((wrong - plain).abs().max()) > 1e-3


def test_cell_embeddings_follow_the_span(gpt2v, lm, bank, table):
    samples = draw_samples(SPEC, bank, 0, "test", np.arange(4))
    render = Renderer(bank, table)
    source = CellEmbedding(gpt2v, render)
    batch = render(samples, ImageView(cell_span(4, 3), with_pixels=False))
    embeddings = source(batch).reshape(4, 12, -1)
    for i in range(4):
        for k, cell in enumerate(np.repeat(range(4), 3)):
            name = bank.class_names[samples.classes[i].reshape(-1)[cell]]
            word = lm.transformer.wte.weight[table.tokens(f" {name}")].mean(0)
            torch.testing.assert_close(embeddings[i, k], word)


def parts(model):
    """A copy of the weights of each part."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    names = ("vision_tower", "projector", "language_model")
    return {n: {k: v for k, v in state.items() if k.startswith(n)} for n in names}


@pytest.mark.parametrize("frozen", ["vision_tower", "projector", "language_model", None])
def test_a_frozen_part_does_not_move_by_one_bit_and_the_others_move(frozen, bank, lm_run, tmp_path):
    groups = [
        {"name": n, "pattern": f"^{n}", "lr": 0 if n == frozen else 0.01, "optimizer": "muon"}
        for n in ("vision_tower", "projector", "language_model")
    ]
    train = {**helpers.TINY_MM["train"], "groups": groups}
    config = helpers.mm_config(lm_run, train=train)
    torch.manual_seed(config.train.seed)
    before = parts(build_gpt2v(config)[0])
    train_mm(config, tmp_path, bank)
    after = parts(load_pretrained(GPT2vModel, find_checkpoint(str(tmp_path), "mm"), "mm"))
    for name in before:
        same = [torch.equal(before[name][k], after[name][k]) for k in before[name]]
        assert all(same) if name == frozen else not all(same), name
        if name != frozen:
            moved = {k for k, s in zip(before[name], same, strict=True) if not s}
            # not every configuration uses the last layers of the tower
            assert len(moved) > 0.8 * len(before[name]), set(before[name]) - moved


def test_training_twice_gives_the_same_weights_bit_for_bit(bank, lm_run, mm_run, tmp_path):
    train_mm(helpers.mm_config(lm_run), tmp_path, bank)
    files = [next(run.rglob("model.safetensors")).read_bytes() for run in (tmp_path, mm_run)]
    assert files[0] == files[1]


def test_an_encoder_from_a_checkpoint_has_all_its_weights(lm_run, tmp_path):
    tower = new_encoder(choose(VISION_TOWERS, helpers.TINY_TOWER)).tower
    tower.save_pretrained(tmp_path)
    model, _ = build_gpt2v(helpers.mm_config(lm_run, encoder=str(tmp_path)))
    for name, p in tower.state_dict().items():
        torch.testing.assert_close(model.vision_tower.state_dict()[name], p, rtol=0, atol=0)


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_the_tower_lacks_is_refused(lm_run, layer):
    with pytest.raises(UserError, match=rf"vision_layer: {layer} must lie in -3\.\.2"):
        build_gpt2v(helpers.mm_config(lm_run, vision_layer=layer))


def test_a_foreign_gpt2_gets_the_tokens_that_it_lacks(lm_run, tmp_path):
    """A plain GPT-2 has no <image>: its embeddings grow, its other weights stay."""
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel

    path = find_checkpoint(str(lm_run), "lm")
    lm = GPT2LMHeadModel.from_pretrained(path)
    small = lm.config.vocab_size - 1
    tokenizer = Tokenizer.from_file(f"{path}/tokenizer.json")
    assert tokenizer.get_vocab_size() == small + 1
    lm.resize_token_embeddings(small)
    lm.save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model, grown = build_gpt2v(helpers.mm_config(tmp_path))
    assert model.language_model.transformer.wte.weight.shape[0] == grown.get_vocab_size()
    unchanged = model.language_model.transformer.wte.weight[:small]
    torch.testing.assert_close(unchanged, lm.transformer.wte.weight, rtol=0, atol=0)


def test_pooled_vision_tokens_are_means_of_squares_of_patches(gpt2v):
    """Pooled by two, token (r, c) is the projected mean of its four patches."""
    torch.manual_seed(0)
    side = gpt2v.geometry.image_size // gpt2v.geometry.patch_size
    assert side % 2 == 0
    pixels = torch.randn(2, 3, gpt2v.geometry.image_size, gpt2v.geometry.image_size)
    gpt2v.config.pool = gpt2v.projector.pool = 2
    words = gpt2v.get_input_embeddings().weight
    try:
        with torch.no_grad():
            tokens = gpt2v.vision_tokens(pixels)
            patches = helpers.patch_features(gpt2v, pixels).reshape(2, side, side, -1)
            for token in range((side // 2) ** 2):
                r, c = divmod(token, side // 2)
                square = patches[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((1, 2))
                torch.testing.assert_close(tokens[:, token], gpt2v.projector.each(square, words))
        assert gpt2v.token_geometry.patch_size == 2 * gpt2v.geometry.patch_size
    finally:
        gpt2v.config.pool = gpt2v.projector.pool = 1
