"""Rendered batches: labels, positions, segments and choices, against documents in plain Python."""

import numpy as np
import pytest

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import IGNORE, Renderer
from gpt2v.data.render.pictures import compose
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.views import ImageView, TextView

SPEC = GridConfig(rows=2, cols=3, questions=4)


@pytest.fixture(scope="module")
def samples(bank):
    return draw_samples(SPEC, bank, 0, "train", np.arange(5))


@pytest.fixture(params=["bank", "long_bank"])
def named(request):
    return request.getfixturevalue(request.param)


def test_chained_batches_are_the_document_with_answers_supervised(named, table, samples):
    batch = Renderer(named, table)(samples, TextView(), "chained")
    names = named.class_names
    for i in range(5):
        real = batch.segments[i] >= 0
        ids = batch.input_ids[i][real]
        start = helpers.prefix(samples, i, names, helpers.markdown(samples, i, names))
        assert table.tokenizer.decode(ids.tolist()) == start + helpers.chat(samples, i, names)
        segments = batch.segments[i][real]
        assert batch.sees[segments[:, None], segments][np.tri(len(ids), dtype=bool)].all()
        assert batch.position_ids[i][real].tolist() == list(range(real.sum()))
        supervised = batch.labels[i] != IGNORE
        assert not (supervised & ~real).any()
        np.testing.assert_array_equal(batch.labels[i][supervised], batch.input_ids[i][supervised])
        said = table.tokenizer.decode(batch.input_ids[i][supervised].tolist())
        assert said == "".join(helpers.answer(samples, i, q, names) for q in range(4))
    assert batch.n_supervised == (batch.labels != IGNORE).sum()


@pytest.mark.parametrize("with_choices", [False, True])
def test_independent_questions_share_the_prefix_and_restart(named, table, samples, with_choices):
    batch = Renderer(named, table)(samples, TextView(), "independent", with_choices)
    names = named.class_names
    for i in range(5):
        text = helpers.prefix(samples, i, names, helpers.markdown(samples, i, names))
        shared = table.tokens(text)
        root = batch.segments[i] == 0
        assert batch.input_ids[i][root].tolist() == shared
        assert batch.position_ids[i][root].tolist() == list(range(len(shared)))
        for q in range(4):
            answer = np.flatnonzero(batch.answers[i] == q)
            seen = batch.sees[batch.segments[i, answer[0]]]  # segments that the answer sees
            mine = np.isin(batch.segments[i], np.flatnonzero(seen)) & (batch.segments[i] >= 0)
            ids = batch.input_ids[i][mine].tolist()
            alone = text + helpers.question(samples, i, q) + helpers.answer(samples, i, q, names)
            assert ids == table.tokens(alone)
            assert batch.position_ids[i][mine].tolist() == list(range(len(ids)))


def test_every_token_of_every_choice_is_read_after_its_question(named, table, samples):
    batch = Renderer(named, table)(samples, TextView(), "independent", with_choices=True)
    reads = batch.choices
    for c, name in enumerate(named.class_names):
        tokens = table.tokens(f" {name}")
        for i in range(5):
            for q in range(4):
                assert table.strings[reads.pieces[i, q, c]] == f" {name}"
                assert [t for t in reads.token[i, q, c].tolist() if t >= 0] == tokens
                at = reads.position[i, q, c, : len(tokens)]
                first = np.flatnonzero(batch.answers[i] == q)[0]
                assert at[0] == first - 1
                # The token that is read at a position follows it in the choice's own branch.
                assert batch.input_ids[i, at[1:]].tolist() == tokens[:-1]
                expected = batch.position_ids[i, at[0]] + np.arange(len(tokens))
                assert batch.position_ids[i, at].tolist() == expected.tolist()


def test_choices_are_never_supervised(long_bank, table, samples):
    render = Renderer(long_bank, table)
    plain = render(samples, TextView(), "independent")
    scored = render(samples, TextView(), "independent", with_choices=True)
    assert plain.n_supervised == scored.n_supervised
    assert scored.input_ids.shape[1] > plain.input_ids.shape[1]


def test_both_views_of_a_sample_hold_the_same_grid_and_questions(bank, table, samples):
    span = PictureGeometry(48, 8).span(2, 3, 16)
    render = Renderer(bank, table, PictureGeometry(48, 8))
    text, image = render(samples, TextView()), render(samples, ImageView(span))
    np.testing.assert_array_equal(image.pixels, compose(samples, bank, 48))
    np.testing.assert_array_equal(text.samples.classes, image.samples.classes)
    for i in range(5):
        is_image = image.input_ids[i] == table.image_id
        assert is_image.sum() == len(span) == 24
        assert is_image[:24].all()
        decoded = table.tokenizer.decode(image.input_ids[i, 24:].tolist(), False)
        lines = helpers.markdown(samples, i, bank.class_names)
        assert table.tokenizer.decode(text.input_ids[i].tolist(), False) == lines + decoded[1:]
        assert decoded[0] == "\n"


def test_a_spliced_text_stores_the_words_behind_the_placeholders(long_bank, table, samples):
    render = Renderer(long_bank, table)
    plain = render(samples, TextView())
    spliced = render(samples, TextView(spliced=True))
    is_image = spliced.input_ids == table.image_id
    together = np.where(is_image, spliced.hidden_ids, spliced.input_ids)
    np.testing.assert_array_equal(together, plain.input_ids)
    for i in range(5):
        lines = helpers.markdown(samples, i, long_bank.class_names)
        assert spliced.hidden_ids[i][is_image[i]].tolist() == table.tokens(lines)
    np.testing.assert_array_equal(plain.labels, spliced.labels)


def test_a_choice_of_a_chained_question_follows_all_before_it(long_bank, table, samples):
    names = long_bank.class_names
    batch = Renderer(long_bank, table)(samples, TextView(), "chained", with_choices=True)
    reads = batch.choices
    assert reads.position.shape[-1] > 1  # some names have several tokens
    for i in range(5):
        text = helpers.prefix(samples, i, names, helpers.markdown(samples, i, names))
        for q in range(4):
            text += helpers.question(samples, i, q)
            before = table.tokens(text)
            assert table.tokens(text)[-1] == batch.input_ids[i, batch.ends[i, q]]
            for c, name in enumerate(names):
                tokens = table.tokens(f" {name}")
                for k, at in enumerate(reads.position[i, q, c, : len(tokens)]):
                    sees = batch.sees[batch.segments[i, at], batch.segments[i]]
                    mine = (sees & (batch.segments[i] >= 0))[: at + 1]
                    ids = batch.input_ids[i, : at + 1][mine]
                    assert ids.tolist() == before + tokens[:k]
                    assert batch.position_ids[i, : at + 1][mine].tolist() == list(range(len(ids)))
            text += helpers.answer(samples, i, q, names)
