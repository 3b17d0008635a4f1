"""Batches of grids of any size, instruction and layout: packed samples equal single ones."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

import helpers
from gpt2v.config.data import DataConfig
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.instructions import ALL, NAMES
from gpt2v.data.grids.samples import NOT_ASKED, draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.pictures import natural_pictures
from gpt2v.data.render.question_tree import QuestionTree
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.text import grid_pieces, prompt_pieces, question_pieces
from gpt2v.data.render.views import TextView, view_of
from gpt2v.data.stream import Stream
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.resizing import resize
from gpt2v.errors import UserError
from gpt2v.model.clip import normalise
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import score

EVERYTHING = GridConfig(
    rows=[2, 3],
    cols=[1, 3],
    palette=[2, 4],
    instructions=dict.fromkeys(NAMES, 1.0),
    questions=7,
)
N_SAMPLES = 6


@pytest.fixture(params=["bank", "long_bank"])
def named(request):
    return request.getfixturevalue(request.param)


def plain_logp(lm, ids):
    with torch.no_grad():
        return torch.log_softmax(lm(input_ids=torch.tensor([ids])).logits[0], -1)


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_scores_of_every_instruction_equal_plain_gpt2(lm, named, tokenizer, form):
    table, names = PieceTable(tokenizer), named.class_names
    samples = draw_samples(EVERYTHING, named, 1, "test", np.arange(N_SAMPLES))
    render = Renderer(named, table)
    batch = render(samples, TextView(form), "independent", with_choices=True)
    records = score(Reader(lm, table.image_id), batch, render)
    questions = question_pieces(samples, names, table)
    grids = grid_pieces(samples, TextView(form), names, table)
    prompts = prompt_pieces(samples, names, table)
    seen = set()
    slots = np.argwhere(samples.instruction != NOT_ASKED)
    assert len(slots) == len(records["exact"]) == 7 * N_SAMPLES
    for k, (i, q) in enumerate(slots):
        stem = table.text(grids[i]) + table.text(prompts[i]) + table.text(questions[i, q])
        said = table.text(batch.truth[i, q])
        assert records["truth"][k] == said.strip()
        assert records["instruction"][k] == NAMES[samples.instruction[i, q]]
        length = len(table.tokens(said))
        ids = table.tokens(stem + said)
        logp = plain_logp(lm, ids)
        greedy = logp[-length - 1 : -1].argmax(-1).tolist()
        assert records["exact"][k] == (greedy == ids[-length:])
        for choice, logprob in zip(records["choices"][k], records["logprobs"][k], strict=True):
            own = table.tokens(f" {choice}")
            values = plain_logp(lm, table.tokens(f"{stem} {choice}"))[-len(own) - 1 : -1]
            expected = sum(float(values[n, t]) for n, t in enumerate(own))
            assert logprob == pytest.approx(expected, abs=5e-4)
        if records["choices"][k]:
            assert records["truth"][k] in records["choices"][k]
            seen.add(records["instruction"][k])
        else:
            assert records["prediction"][k] == (said.strip() if records["exact"][k] else None)
            listed = ("locate", "row", "column", "transcribe", "matrix")
            assert ALL[samples.instruction[i, q]].name in listed
    assert len(seen) >= 4


@pytest.mark.parametrize(
    ("asked", "rows"),
    [({"lookup": 1.0}, 2), ({"lookup": 1.0}, [1, 2]), (dict.fromkeys(NAMES, 1.0), 2)],
)
def test_words_that_questions_begin_with_alike_are_read_once(
    lm, bank, tokenizer, asked, rows, monkeypatch
):
    """The records are those of a batch in which each question has its own copy of them."""
    table = PieceTable(tokenizer)
    render, reader = Renderer(bank, table), Reader(lm, table.image_id)
    spec = GridConfig(rows=rows, cols=2, instructions=asked, questions=4)
    samples = draw_samples(spec, bank, 3, "test", np.arange(N_SAMPLES))
    batch = render(samples, TextView(), "independent", with_choices=True)
    records = score(reader, batch, render)
    monkeypatch.setattr(
        QuestionTree, "of", lambda questions, asked: QuestionTree.apart(*asked.shape)
    )
    other = render(samples, TextView(), "independent", with_choices=True)
    apart = score(reader, other, render)
    n_saved, n_questions = other.n_tokens - batch.n_tokens, len(records["exact"])
    if rows == 2 and len(asked) == 1:  # of four cells, two in each row
        in_row = len(table.tokens("What object is in row")), len(table.tokens(" 0, column"))
        assert n_saved == N_SAMPLES * (3 * in_row[0] + 2 * in_row[1])
    elif len(asked) == 1:
        n_words = len(table.tokens("What object is in row"))
        assert n_saved == n_words * (n_questions - N_SAMPLES)
    for name, column in records.items():
        if name == "logprobs":
            for one, alone in zip(column, apart[name], strict=True):
                assert one == pytest.approx(alone, abs=2e-4)
        else:
            assert column == apart[name], name


def read_alone(gpt2v, bank, table, spec, index, view):
    render, reader = Renderer(bank, table, PictureGeometry(48, 8)), Reader.of(gpt2v)
    with torch.no_grad():
        return [
            reader(render(draw_samples(spec, bank, 0, "test", np.array([i])), view))[0]
            for i in index
        ]


@pytest.mark.parametrize(
    "changes",
    [
        {"modality": "image", "picture": {"resize": True}},
        {"modality": "image", "picture": {"layout": "multi"}},
        {"modality": "text+image", "form": "csv", "picture": {"layout": "multi", "resize": True}},
        {"modality": "text+image", "picture": {"resize": True, "gap": 3, "border": 5}},
    ],
)
def test_grids_of_different_sizes_are_read_as_each_alone(gpt2v, bank, table, changes):
    spec = GridConfig.model_validate(
        {"rows": [1, 2], "cols": [1, 3], "instructions": {"lookup": 1.0, "count": 1.0}, **changes}
    )
    view = view_of(spec, spec.modality, bank.size, gpt2v.token_geometry)
    samples = draw_samples(spec, bank, 0, "test", np.arange(N_SAMPLES))
    batch = Renderer(bank, table, PictureGeometry(48, 8))(samples, view)
    assert len(set(samples.n_cells.tolist())) > 1
    n_pictures = samples.n_cells.sum() if "multi" in str(changes) else N_SAMPLES
    assert len(batch.pixels) == n_pictures
    with torch.no_grad():
        together, _ = Reader.of(gpt2v)(batch)
    alone = torch.cat(read_alone(gpt2v, bank, table, spec, range(N_SAMPLES), view))
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)


def test_each_cells_picture_is_at_its_own_placeholders(gpt2v, bank, table):
    """Compared with plain calls of the vision tower on each tile alone."""
    spec = GridConfig.model_validate(
        {
            "rows": 2,
            "cols": [1, 2],
            "modality": "image",
            "picture": {"layout": "multi", "resize": True},
        }
    )
    view = view_of(spec, spec.modality, bank.size, gpt2v.token_geometry)
    samples = draw_samples(spec, bank, 0, "test", np.arange(4))
    batch = Renderer(bank, table, PictureGeometry(48, 8))(samples, view)
    with torch.no_grad():
        tokens = Reader.of(gpt2v).source(batch)
        expected = []
        for own in natural_pictures(samples, bank, spec.picture):
            for pixels in own:
                big = resize(pixels[None], 48, 48)
                expected.append(gpt2v.vision_tokens(normalise(big, torch.device("cpu")))[0])
    torch.testing.assert_close(tokens, torch.cat(expected), atol=1e-5, rtol=0)
    assert int((batch.input_ids == table.image_id).sum()) == len(tokens)


def stream_of(bank, table, **spec):
    config = DataConfig.model_validate({"batch_size": 8, "stages": [{"steps": 1, "mix": [spec]}]})
    return Stream(config, Renderer(bank, table))


def test_positions_start_anywhere_in_training_only(bank, table):
    plain = stream_of(bank, table)
    moved = stream_of(bank, table, augment={"position_offset": 40})
    one, other = plain.batch(0), moved.batch(0)
    np.testing.assert_array_equal(one.input_ids, other.input_ids)
    shift = (other.position_ids - one.position_ids)[one.segments >= 0].reshape(8, -1)
    assert (shift == shift[:, :1]).all()
    assert shift.min() >= 0
    assert shift.max() <= 40
    assert len(set(shift[:, 0].tolist())) > 3
    offsets = {int(moved.batch(step).samples.position.max()) for step in range(60)}
    assert max(offsets) == 40
    held_out = moved.dataset(moved.spec(0), "val", 20)
    for batch in held_out.batches(moved.layout(moved.spec(0)), moved.render):
        assert not batch.samples.position.any()
    needed = int(one.position_ids.max()) + 1
    moved.check(needed + 40)
    with pytest.raises(UserError, match=f"needs {needed + 40} positions"):
        moved.check(needed + 39)


def stated(made):
    """The number of positions in the message of the check."""
    with pytest.raises(UserError, match=r"needs \d+ positions") as refused:
        made.check(8)
    return int(str(refused.value).split("needs ")[1].split()[0])


@pytest.mark.parametrize("mode", ["chained", "independent"])
@pytest.mark.parametrize("name", NAMES)
def test_the_check_covers_every_sample_of_every_instruction(bank, table, mode, name):
    """All names have the same number of tokens, so some sample needs all positions of the check."""
    tried = [f"{c}q-qz{d}x" for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for d in "abcd"]
    shape = {n: (len(table.tokens(f" {n}")), len(table.tokens(n))) for n in tried}
    ((common, count),) = Counter(shape.values()).most_common(1)
    assert count >= 10
    assert common[0] > 4
    names = tuple(n for n in tried if shape[n] == common)[:10]
    tiles = dataclasses.replace(bank, class_names=names)
    spec = {"rows": 2, "cols": [2, 3], "palette": [2, 3], "mode": mode}
    made = stream_of(tiles, table, instructions={name: 1.0}, **spec)
    longest = max(int(made.batch(step).position_ids.max()) + 1 for step in range(150))
    assert longest <= stated(made)
    if mode == "independent":
        assert stated(made) - longest <= 2  # one number or direction was not drawn
    made.check(stated(made))


@pytest.mark.parametrize("name", NAMES)
def test_the_check_covers_names_and_words_of_every_length(long_bank, table, name):
    augment = {"paraphrase": True, "index_bases": [0, 1], "position_offset": 9}
    spec = {"rows": [2, 3], "cols": [2, 11], "palette": [2, 6], "augment": augment}
    made = stream_of(long_bank, table, instructions={name: 1.0}, **spec)
    longest = max(int(made.batch(step).position_ids.max()) + 1 for step in range(100))
    assert longest <= stated(made)


def test_an_impossible_picture_of_any_size_is_refused_before_training(bank, table):
    """The largest grid may have a patch for each cell where a smaller one has not."""
    small = helpers.repainted(bank, lambda pixels, _: pixels[:, :4, :4])
    small = dataclasses.replace(small, size=4)
    spec = {"rows": 1, "cols": [5, 6], "modality": "image", "picture": {"gap": 6}}
    config = DataConfig.model_validate({"batch_size": 8, "stages": [{"steps": 1, "mix": [spec]}]})
    made = Stream(config, Renderer(small, table, PictureGeometry(112, 8)))
    with pytest.raises(UserError, match=r"data\.stages\.0\.mix\.0\..*no patch"):
        made.check(512)


def test_held_out_wordings_are_refused_in_training(bank, table):
    made = stream_of(bank, table, augment={"paraphrase": True, "held_out": True})
    with pytest.raises(UserError, match=r"data\.stages\.0\.mix\.0\.augment\.held_out: .*never"):
        made.check(512)
