"""A model is asked about samples, own pictures and own words."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2v.ask.model import Model
from gpt2v.ask.writing import write_line
from gpt2v.config.grids import GridConfig, HeldOutGridConfig
from gpt2v.config.measuring import EvalConfig
from gpt2v.config.pictures import PictureConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.text_pieces import IMAGE
from gpt2v.errors import UserError
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.trained.defaults import Filled
from gpt2v.trained.record import TrainedOn
from llava_cases import CASES, build

WORDS = "What object is in row 0, column 1?"


def of(gpt2v, lm, tokenizer, bank, **grid):
    """A model as if it had been trained on such grids."""
    filled = Filled(EvalConfig(grid=HeldOutGridConfig(**grid)))
    model = Model(lm, gpt2v, tokenizer, "", "runs/x", filled=filled)
    model.__dict__["trained_on"] = TrainedOn(bank.class_names, tile_size=bank.size)
    return model


@pytest.fixture(scope="module")
def model(gpt2v, tokenizer, bank):
    return of(gpt2v, gpt2v.language_model, tokenizer, bank)


@pytest.fixture(scope="module")
def blind(lm, tokenizer, bank):
    return of(None, lm, tokenizer, bank)


def a_sample(bank, **grid):
    return GridDataset(GridConfig(**grid), bank, 3, "test")[0]


GRIDS = {
    "full": {},
    "smaller": {"rows": 2, "cols": 1},
    "multi": {"rows": 1, "cols": 2, "picture": PictureConfig(layout="multi")},
    "latex": {"rows": 2, "cols": 2, "form": "latex"},
    "counts": {"instructions": {"count": 1.0, "exists": 1.0}},
}


@pytest.mark.parametrize("modality", ["text", "image", "text+image"])
@pytest.mark.parametrize("name", GRIDS)
def test_the_logits_of_a_batch_are_those_of_the_scorer(model, bank, name, modality):
    sample = a_sample(bank, **GRIDS[name])
    answers = model.ask(sample=sample, modality=modality)
    inputs = model.batch(sample=sample, modality=modality)
    with torch.no_grad():
        logits = model(**inputs).logits
    last = inputs["attention_mask"].sum(1) - 1
    logprobs = logits[torch.arange(len(last)), last].log_softmax(-1)
    assert len(answers) == len(logprobs) == len(sample.asked)
    assert [answer.truth for answer in answers] == sample.answers
    for answer, row in zip(answers, logprobs, strict=True):
        for choice, value in answer.logprobs.items():
            first, *rest = model.table.tokens(f" {choice}")
            if not rest:
                assert row[first].item() == pytest.approx(value, abs=1e-4)


def test_a_class_token_is_at_its_placeholder(lm, table, tokenizer, bank):
    gpt2v = build(CASES["clip-class-token"], lm, table)
    model = of(gpt2v, gpt2v.language_model, tokenizer, bank)
    sample = a_sample(bank, rows=1, cols=2)
    inputs = model.batch(WORDS, sample=sample)
    assert inputs["image_tokens"][0].tolist() == [0, -1]
    with torch.no_grad():
        row = model(**inputs).logits[0, -1].log_softmax(-1)
    (answer,) = model.ask(WORDS, sample=sample)
    best = next(iter(answer.logprobs))
    (token,) = model.table.tokens(f" {best}")
    assert row[token].item() == pytest.approx(answer.logprobs[best], abs=1e-4)
    assert model.attention(WORDS, sample=sample).weights.shape == (2, 2, 2, 4)


def test_the_attention_is_that_of_plain_transformers(model, gpt2v, bank, tokenizer):
    """The input is written here from the words of the sample, for a GPT-2 of transformers."""
    sample = a_sample(bank)
    plain = GPT2LMHeadModel(gpt2v.language_model.config)
    plain.load_state_dict(gpt2v.language_model.state_dict())
    plain.set_attn_implementation("eager")
    text = f"{IMAGE * 36}\n{sample.prompt}{sample.questions[1]}"
    ids = torch.tensor([tokenizer.encode(text).ids])
    pixels = torch.from_numpy(sample.pictures[0]).permute(2, 0, 1)[None] / 255
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (gpt2v.config.image_mean, gpt2v.config.image_std)
    )
    with torch.no_grad():
        embeds = plain.transformer.wte(ids)
        embeds[0, :36] = gpt2v.vision_tokens((pixels - mean) / std)[0]
        maps = plain.eval()(inputs_embeds=embeds, output_attentions=True).attentions
    expected = torch.stack([layer[0, :, -1, :36] for layer in maps]).reshape(2, 2, 6, 6)
    before = gpt2v.language_model.config._attn_implementation
    found = model.attention(sample.questions[1], sample=sample)
    np.testing.assert_allclose(found.weights, expected.numpy(), atol=1e-5)
    assert found.weights.std() > 1e-3
    assert found.cells[::2, ::2].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    np.testing.assert_array_equal(found.pixels, sample.pictures[0])
    np.testing.assert_allclose(found.by_cell.sum(-1), found.weights.sum((2, 3)), rtol=1e-5)
    assert gpt2v.language_model.config._attn_implementation == before


def test_pictures_of_cells_stand_side_by_side_in_the_attention(model, bank):
    picture = PictureConfig(layout="multi")
    sample = a_sample(bank, rows=2, cols=2, picture=picture)
    found = model.attention(WORDS, sample=sample)
    assert found.cells.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    whole = np.concatenate([np.concatenate(sample.pictures[i : i + 2], axis=1) for i in (0, 2)])
    np.testing.assert_array_equal(found.pixels, whole)


@pytest.mark.parametrize("kind", ["PIL", "array", "file"])
def test_an_own_picture_is_read_as_the_sample(model, bank, kind, tmp_path):
    sample = a_sample(bank)
    sample.image.save(tmp_path / "own.png")
    image = {"PIL": sample.image, "array": sample.pictures[0], "file": tmp_path / "own.png"}[kind]
    (own,) = model.ask(WORDS, image=image, palette=sample.palette)
    (drawn,) = model.ask(WORDS, sample=sample)
    assert own.logprobs == drawn.logprobs
    assert own.truth is None
    assert own.right is None
    assert drawn.right == (drawn.text == sample.classes[0][1])


def test_own_words_are_read_as_the_sample(model, bank):
    sample = a_sample(bank, rows=2, cols=3)
    (own,) = model.ask(WORDS, text=sample.table, palette=sample.palette)
    (drawn,) = model.ask(WORDS, sample=sample, modality="text")
    assert own.logprobs == drawn.logprobs
    assert own.truth == drawn.truth == sample.classes[0][1]


def test_picture_and_words_together(model, bank):
    sample = a_sample(bank)
    shown = {"image": sample.image, "text": sample.table, "palette": sample.palette}
    (own,) = model.ask(WORDS, **shown)
    (drawn,) = model.ask(WORDS, sample=sample, modality="text+image")
    assert own.logprobs == drawn.logprobs


def test_the_palette_of_own_words_is_filled_up(model):
    grid = model.grid(text="| truck | dog |")
    assert set(grid.palette) > {"truck", "dog"}
    assert len(grid.palette) == 4
    assert grid.n_questions == 0


def test_an_own_picture_lists_all_objects_and_says_so(model, bank, capsys):
    image = a_sample(bank).image
    assert model.grid(image=image).palette == list(bank.class_names)
    model.ask(WORDS, image=image)
    assert "palette: all 10 objects, but the model was trained with 4" in capsys.readouterr().err


def test_rows_from_one_are_those_of_the_training(gpt2v, tokenizer, bank):
    grid = {"augment": {"index_bases": [1]}}
    model = of(gpt2v, gpt2v.language_model, tokenizer, bank, **grid)
    (answer,) = model.ask("What object is in row 1, column 2?", text="| cat | dog |")
    assert answer.truth == "dog"
    with pytest.raises(UserError, match="no row 0; the grid has rows 1 to 1"):
        model.ask("What objects are in row 0?", text="| cat | dog |")


def test_what_has_no_choices_is_written(model, bank):
    sample = a_sample(bank, rows=1, cols=2)
    (answer,) = model.ask("Transcribe the grid.", sample=sample)
    assert answer.logprobs == {}
    assert answer.truth == ", ".join(sample.classes[0])
    (free,) = model.ask("Transcribe the grid.", free=True, sample=sample)
    assert free.text == answer.text
    assert free.instruction is None


def test_the_writing_is_greedy_decoding(blind, lm, table):
    """Against the logits of whole sequences, without a cache."""
    inputs = blind.batch("Transcribe the grid.", text="| cat | dog |")
    ids, ends = inputs["input_ids"], table.tokens("\n")
    n = ids.shape[1]
    with torch.no_grad():
        while ids.shape[1] < n + 20 and ids[0, -1] not in ends:
            logits = lm(ids).logits[0, -1]
            logits[[table.image_id, table.pad_id]] = -torch.inf
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
    expected = blind.tokenizer.decode(ids[0, n:].tolist()).partition("\n")[0].strip()
    assert expected
    assert write_line(lm, inputs, blind.tokenizer).startswith(expected)


def test_a_short_sequence_is_padded_on_the_right(blind):
    asked = [WORDS, "Do row 0, column 0 and row 0, column 1 hold the same object?"]
    inputs = blind.batch(asked, text="| cat | dog |")
    short, long = inputs["attention_mask"].sum(1).tolist()
    assert short < long == inputs["input_ids"].shape[1]
    assert inputs["input_ids"][0, short:].unique().tolist() == [blind.table.pad_id]
    assert inputs["position_ids"][0, :short].tolist() == list(range(short))
    assert set(inputs) == {"input_ids", "attention_mask", "position_ids"}


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        ({}, "nothing is shown: give image, text or sample"),
        ({"text": "| cat |", "modality": "text"}, "modality: is for a sample"),
        ({"image": np.zeros((48, 48, 3), np.uint8)}, "image: runs/x is a GPT-2 without vision"),
        ({"text": "| cat | zebra |"}, "text: no object 'zebra'; the model knows airplane, "),
        ({"text": "| cat | dog |\n| cat |"}, "text: row 1 has 1 cells, but row 0 has 2"),
        ({"text": "\n"}, "text: holds no grid"),
        ({"text": "| cat |\n" * 17}, "text: a grid has at most 16 rows"),
        ({"text": "| cat |", "palette": ["dog"]}, "palette: lacks cat, which the grid holds"),
        ({"text": "| cat |", "palette": ["cat", "cat"]}, "palette: must name each object once"),
        ({"text": "| cat |", "palette": ["cow"]}, "palette: no object 'cow'"),
    ],
)
def test_what_cannot_be_shown_is_one_line(blind, shown, says):
    with pytest.raises(UserError) as error:
        blind.ask(WORDS, **shown)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_a_grid_that_is_too_long_is_refused(blind):
    with pytest.raises(UserError, match=r"need \d+ positions, .* n_positions: 512"):
        blind.ask("Transcribe the grid.", text=("|" + " cat |" * 16 + "\n") * 16)


def test_a_model_that_knows_no_objects_says_so(lm, tokenizer):
    model = Model(lm, None, tokenizer, "", "runs/stories", filled=Filled(EvalConfig()))
    model.__dict__["trained_on"] = TrainedOn()
    with pytest.raises(UserError, match="runs/stories: nothing says on which objects"):
        model.ask(WORDS, text="| cat | dog |")


def test_a_model_of_text_only_reads_a_sample_as_text(blind, bank):
    sample = a_sample(bank)
    assert blind.ask(WORDS, sample=sample) == blind.ask(WORDS, sample=sample, modality="text")
    with pytest.raises(UserError, match="modality: runs/x is a GPT-2 without vision tower"):
        blind.ask(WORDS, sample=sample, modality="image")


def test_a_model_without_pixels_refuses_pictures(gpt2v, tokenizer, bank):
    """It was trained with embeddings of the objects at the image positions."""
    config = type(gpt2v.config).from_dict(
        gpt2v.config.to_dict() | {"vision_tokens": "cell-embeddings"}
    )
    other = GPT2vModel(config)
    model = of(other, other.language_model, tokenizer, bank)
    sample = a_sample(bank)
    assert model.ask(WORDS, sample=sample)[0].text in bank.class_names
    for call in (
        lambda: model.ask(WORDS, image=sample.image),
        lambda: model.batch(WORDS, sample=sample),
    ):
        with pytest.raises(UserError, match="runs/x: was trained without pictures"):
            call()


def test_a_sample_is_still_equal_to_itself(bank):
    one, other = a_sample(bank), a_sample(bank)
    assert one.samples is not other.samples
    assert dataclasses.replace(one, pictures=()) == dataclasses.replace(other, pictures=())
