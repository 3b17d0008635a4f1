"""The export as a stock LLaVA: plain transformers, in a separate process, reads it as we do.

Shapes: T token positions, V words of the vocabulary.
"""

import ast
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import LlavaProcessor

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.views import ImageView
from gpt2v.data.text_pieces import END_OF_TEXT, PAD, special_id
from gpt2v.errors import UserError
from gpt2v.model.from_llava import load_llava
from gpt2v.model.llava import llava_processor, n_vision_tokens
from gpt2v.model.packed import Reader
from llava_cases import CASES, STD, Case, batches, build, write

ATOL = 1e-5  # for logits of a few units; differences are up to 7e-7


@pytest.fixture(scope="module")
def models(lm, table):
    return {name: build(case, lm, table) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def cases(models, tokenizer, bank, table, tmp_path_factory):
    """Every case, and one with a wrong weight, exported and read by another process."""
    root = tmp_path_factory.mktemp("llava")
    for name, model in models.items():
        (root / name).mkdir()
        write(root / name, model, tokenizer, bank, table)
    shutil.copytree(root / "clip", root / "spoilt")
    weights = root / "spoilt" / "llava" / "model.safetensors"
    state = load_file(weights)
    (key,) = (k for k in state if k.endswith("multi_modal_projector.linear_2.bias"))
    state[key][3] += 0.1
    save_file(state, weights, metadata={"format": "pt"})
    reader = helpers.REPO / "tests" / "llava_reader.py"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, reader, *(root / name for name in [*models, "spoilt"])],
        capture_output=True,
        text=True,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        cwd=root,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return root


@pytest.fixture(params=list(CASES))
def case(request, cases, models):
    folder = cases / request.param
    said = json.loads((folder / "said.json").read_text())
    return models[request.param], folder, load_file(folder / "outputs.safetensors"), said


def largest(actual, expected):
    return float((actual - expected).abs().max())


@torch.no_grad()
def ours(model, ids, pixels):
    """Logits of one sequence, (T, V), by GPT2vModel's own forward."""
    return model(ids[None], pixel_values=pixels).logits[0]


def greedy(model, ids, pixels, n, end):
    """Up to n new tokens, and the smallest difference of the best two logits."""
    new, margins = [], []
    while len(new) < n and (not new or new[-1] != end):
        top = ours(model, torch.cat([ids, torch.tensor(new, dtype=ids.dtype)]), pixels)[-1].topk(2)
        new.append(int(top.indices[0]))
        margins.append(float(top.values[0] - top.values[1]))
    return new, min(margins)


def pictures_of(folder, model, files):
    if not files:
        return None
    return model.normalise(np.stack([np.asarray(Image.open(folder / f)) for f in files]))


def test_every_weight_is_found_and_none_is_left_over(case):
    _, _, _, said = case
    assert said["missing_keys"] == said["unexpected_keys"] == said["mismatched_keys"] == []


def test_logits_are_those_of_the_packed_reader_and_of_our_own_forward(case, bank, table):
    model, folder, outputs, _ = case
    inputs = load_file(folder / "inputs.safetensors")
    spread = []
    for name, (_, batch) in batches(model, bank, table).items():
        pixels = inputs.get(f"{name}.pixel_values")
        with torch.no_grad():
            packed_logits, packed = Reader.of(model)(batch)
            forward = model(torch.from_numpy(batch.input_ids), pixel_values=pixels).logits
        given = outputs[f"{name}.given"]
        torch.testing.assert_close(given, forward, rtol=0, atol=ATOL)
        torch.testing.assert_close(given[packed.read], packed_logits, rtol=0, atol=ATOL)
        spread.append(float(packed_logits.std(0).max()))
    assert min(spread) > 0.1  # the logits depend on the question


def test_the_processor_lays_out_text_and_pictures_as_our_renderer_does(case, bank, table):
    model, folder, outputs, _ = case
    inputs = load_file(folder / "inputs.safetensors")
    for name, (_, batch) in batches(model, bank, table).items():
        mask = outputs[f"{name}.attention_mask"].bool()
        lengths = (batch.segments >= 0).sum(1)
        assert mask.sum(1).tolist() == lengths.tolist()
        for i, length in enumerate(lengths):
            ids = outputs[f"{name}.input_ids"][i, mask[i]]
            np.testing.assert_array_equal(ids, batch.input_ids[i, :length])
            given = outputs[f"{name}.given"][i, :length]
            torch.testing.assert_close(
                outputs[f"{name}.logits"][i, mask[i]], given, rtol=0, atol=ATOL
            )
        torch.testing.assert_close(
            outputs[f"{name}.alone"][0],
            outputs[f"{name}.given"][0, : lengths[0]],
            rtol=0,
            atol=ATOL,
        )
        if batch.pixels is not None:
            torch.testing.assert_close(
                outputs[f"{name}.pixel_values"], inputs[f"{name}.pixel_values"], rtol=0, atol=1e-6
            )


def test_independent_questions_are_what_one_prompt_each_gives(case, bank, table, tokenizer):
    """Compare a packed batch, as in an evaluation, with prompts of one question each."""
    model, _, _, _ = case
    side = model.geometry.image_size // bank.size
    spec = GridConfig(rows=side, cols=side)
    samples = draw_samples(spec, bank, 0, "test", np.arange(1))
    span = model.token_geometry.span(side, side, bank.size)
    batch = Renderer(bank, table, model.token_geometry)(samples, ImageView(span))
    with torch.no_grad():
        logits, _ = Reader.of(model)(batch)
    processor = llava_processor(model, tokenizer)
    head = helpers.prefix(samples, 0, bank.class_names, "<image>\n")
    texts = [
        head + helpers.question(samples, 0, q) + helpers.answer(samples, 0, q, bank.class_names)
        for q in range(side**2)
    ]
    picture = Image.fromarray(batch.pixels[0])
    rows = [processor(images=picture, text=text, return_tensors="pt") for text in texts]
    alone = [ours(model, row["input_ids"][0], row["pixel_values"])[-3:-1] for row in rows]
    torch.testing.assert_close(torch.cat(alone), logits, rtol=0, atol=ATOL)


def test_greedy_generation_is_the_same_token_by_token(case, tokenizer):
    """Padded on the left, and one prompt by itself; also of prompts with several pictures."""
    model, folder, outputs, _ = case
    end, pad = special_id(tokenizer, END_OF_TEXT), special_id(tokenizer, PAD)
    prompts = json.loads((folder / "prompts.json").read_text())
    assert (outputs["two.attention_mask"][:, 0] == 0).any()  # one of them is padded
    for name, rows in prompts.items():
        for i, (_, files) in enumerate(rows):
            mask = outputs[f"{name}.attention_mask"][i].bool()
            ids = outputs[f"{name}.input_ids"][i, mask]
            pixels = pictures_of(folder, model, files)
            expected = ours(model, ids, pixels)
            logits = outputs[f"{name}.logits"][i, mask]
            torch.testing.assert_close(logits, expected, rtol=0, atol=ATOL)
            new, margin = greedy(model, ids, pixels, 8, end)
            assert margin > 2 * ATOL  # no tie that rounding may decide
            written = outputs[f"{name}.new"][i].tolist()
            assert written == new + [pad] * (len(written) - len(new))
            if i == 0:
                assert outputs[f"{name}.new_alone"][0].tolist() == new


def test_a_chat_of_text_and_pictures_is_the_document(case):
    _, _, outputs, said = case
    for name in ("text", "one", "multi", "two"):
        mask = outputs[f"{name}.attention_mask"][0].bool()
        assert said[f"{name}.chat"] == outputs[f"{name}.input_ids"][0, mask].tolist()


def test_the_model_cards_code_runs_and_nothing_names_this_machine(case, cases):
    model, folder, _, said = case
    answer, maps = said["card"]
    assert answer.strip()
    text = model.config.text_config
    assert len(ast.literal_eval(maps)) == text.n_layer
    for batch, heads, read, tokens in ast.literal_eval(maps):
        assert (batch, heads, read) == (1, text.n_head, tokens)
        assert tokens > n_vision_tokens(model)
    for path in (folder / "llava").iterdir():
        assert str(cases).encode() not in path.read_bytes(), path.name
        assert path.stat().st_mode & 0o777 == 0o644


def test_it_comes_back_as_the_same_gpt2v(case):
    """Configuration and every weight; the head is a copy of tied word embeddings."""
    model, folder, _, _ = case
    back = load_llava(str(folder / "llava"), "model")
    for name in ("projector", "vision_layer", "image_token_id", "class_token", "pool"):
        assert getattr(back.config, name) == getattr(model.config, name), name
    for name in ("image_mean", "image_std"):
        assert getattr(back.config, name) == pytest.approx(getattr(model.config, name), abs=1e-12)
    assert back.geometry == model.geometry
    weights = back.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights.pop(name), value, rtol=0, atol=0)
    assert not weights


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act: relu"),
        ({"vision_feature_layer": [-2, -1]}, "vision_feature_layer: "),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias: False"),
        ({"text_config": {"model_type": "llama"}}, "its language model is a llama"),
        ({"vision_config": {"model_type": "pixtral"}}, "pixtral"),
    ],
)
def test_a_llava_that_no_gpt2v_is_like_is_refused(cases, tmp_path, changes, says):
    copy = shutil.copytree(cases / "clip" / "llava", tmp_path / "l")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(UserError) as caught:
        load_llava(str(copy), "model")
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_second_linear_layer_is_refused(cases, tmp_path):
    copy = shutil.copytree(cases / "clip-linear" / "llava", tmp_path / "l")
    state = load_file(copy / "model.safetensors")
    (key,) = (k for k in state if k.endswith("multi_modal_projector.linear_2.weight"))
    state[key][0, 1] = 0.5
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="two linear layers"):
        load_llava(str(copy), "model")


def test_a_changed_weight_is_noticed(cases):
    """A planted error: one number of the projector."""
    sound, spoilt = (load_file(cases / name / "outputs.safetensors") for name in ("clip", "spoilt"))
    torch.testing.assert_close(spoilt["text.given"], sound["text.given"], rtol=0, atol=0)
    for name in ("one", "multi"):
        assert largest(spoilt[f"{name}.given"], sound[f"{name}.given"]) > 100 * ATOL


def test_a_square_picture_of_another_size_is_scaled_as_ours_are(bank, table, lm, tokenizer):
    """Equal up to one grey level: picture.resize of a 3x3 grid from 48 to 32 pixels."""
    model = build(Case(), lm, table)
    spec = GridConfig.model_validate({"rows": 3, "cols": 3, "picture": {"resize": True}})
    samples = draw_samples(spec, bank, 0, "test", np.arange(1))
    span = model.token_geometry.span(3, 3, bank.size, spec.picture)
    resized = Renderer(bank, table, PictureGeometry(32, 8))(
        samples, ImageView(span, picture=spec.picture)
    )
    natural = Renderer(bank, table, PictureGeometry(48, 8))(samples, ImageView(span)).pixels[0]
    inputs = llava_processor(model, tokenizer)(
        images=Image.fromarray(natural), text="<image>", return_tensors="pt"
    )
    grey_level = 1 / 255 / min(STD)
    assert largest(inputs["pixel_values"], model.normalise(resized.pixels)) < 1.01 * grey_level


def test_a_tokenizer_that_adds_tokens_adds_none_in_the_export(lm, table, tokenizer, tmp_path):
    """The export adds no tokens to documents, even if the GPT-2's own files would."""
    adding = Tokenizer.from_str(tokenizer.to_str())
    ends = [(END_OF_TEXT, special_id(tokenizer, END_OF_TEXT))]
    adding.post_processor = TemplateProcessing(single=f"{END_OF_TEXT} $A", special_tokens=ends)
    assert adding.encode("a cat").ids[0] == ends[0][1]
    llava_processor(build(Case(), lm, table), adding).save_pretrained(tmp_path)
    ids = LlavaProcessor.from_pretrained(tmp_path)(text="a cat")["input_ids"]
    assert ids[0] == table.tokens("a cat")


def test_a_picture_smaller_than_the_canvas_has_more_tokens_in_the_export(
    bank, table, lm, tokenizer
):
    """As the documentation says: our model leaves out the canvas around a 1x2 grid."""
    model = build(Case(), lm, table)
    span = model.token_geometry.span(1, 2, bank.size)
    canvas = Image.new("RGB", (32, 32))
    inputs = llava_processor(model, tokenizer)(images=canvas, text="<image>", return_tensors="pt")
    assert (len(span), inputs["input_ids"].shape[1]) == (8, 16)
