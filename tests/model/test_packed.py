"""One packed pass equals one question at a time, with plain GPT-2 as the reference.

Shapes: T token positions, V words of the vocabulary.
"""

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch._dynamo.config
from transformers import GPT2LMHeadModel

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.views import ImageView, TextView
from gpt2v.hardware.attention import WRITTEN_OUT
from gpt2v.hardware.compilation import compile_modules
from gpt2v.hardware.onednn import use_onednn
from gpt2v.model.clip import normalise
from gpt2v.model.packed import Reader, Reads, answer_loss, attention_mask, pack, read_hidden
from gpt2v.model.scoring import score

NO_IMAGE = -1  # an id that no token has
SPEC = GridConfig(rows=2, cols=2, questions=3)
N = 3


@pytest.fixture(scope="module")
def samples(bank):
    return draw_samples(SPEC, bank, 0, "test", np.arange(N))


@pytest.fixture(scope="module", params=["sdpa", "eager", WRITTEN_OUT])
def attending(request, lm):
    """The tiny GPT-2 with each implementation of attention."""
    model = GPT2LMHeadModel._from_config(
        copy.deepcopy(lm.config), attn_implementation=request.param
    )
    model.load_state_dict(lm.state_dict())
    assert model.config._attn_implementation == request.param
    return model.eval()


@pytest.fixture(params=["bank", "long_bank"])
def named(request):
    return request.getfixturevalue(request.param)


def plain_logits(lm, ids):
    """Ordinary causal GPT-2 on one sequence: (T, V)."""
    with torch.no_grad():
        return lm(input_ids=torch.tensor([ids])).logits[0]


def alone(samples, i, q, names, table):
    """Token ids of one question with its answer, and how many of them are the answer's."""
    text = helpers.prefix(samples, i, names, helpers.markdown(samples, i, names))
    said = helpers.answer(samples, i, q, names)
    ids = table.tokens(text + helpers.question(samples, i, q) + said)
    return ids, len(table.tokens(said))


def packed_answers(lm, batch):
    """Logits before every answer token, by (sample, question): (n_answer_tokens, V)."""
    with torch.no_grad():
        packed = pack(batch, torch.device("cpu"), NO_IMAGE)
        logits = lm.lm_head(read_hidden(lm, packed))
    number = np.full(batch.input_ids.shape, -1)
    number[packed.read] = np.arange(len(logits))
    answers = {}
    for i, q in np.ndindex(samples_shape(batch)):
        at = np.flatnonzero(batch.answers[i] == q)
        answers[i, q] = logits[number[i, at - 1]]
    return answers


def samples_shape(batch):
    return batch.samples.row.shape


def worst_difference(lm, batch, names, table):
    """Largest difference of any answer's logits from the reference, by question."""
    worst = np.zeros(samples_shape(batch))
    for (i, q), logits in packed_answers(lm, batch).items():
        ids, length = alone(batch.samples, i, q, names, table)
        reference = plain_logits(lm, ids)[-length - 1 : -1]
        assert reference.shape == logits.shape
        worst[i, q] = float((reference - logits).abs().max())
    return worst


@pytest.mark.parametrize("with_choices", [False, True])
def test_packed_answers_equal_one_question_at_a_time(
    attending, named, table, samples, with_choices
):
    batch = Renderer(named, table)(samples, TextView(), "independent", with_choices)
    if len(table.tokens(" " + named.class_names[1])) > 1:
        assert (batch.segments == -1).any()  # samples have different lengths
    worst = worst_difference(attending, batch, named.class_names, table)
    assert worst.max() < 1e-4


def test_the_planted_mask_in_which_questions_see_each_other_is_detected(
    attending, bank, table, samples
):
    batch = Renderer(bank, table)(samples, TextView())
    sees = np.tril(np.ones_like(batch.sees))
    worst = worst_difference(
        attending, dataclasses.replace(batch, sees=sees), bank.class_names, table
    )
    assert worst[:, 0].max() < 1e-4  # the first question has none before it
    assert worst[:, 1:].min() > 1e-2


def test_positions_that_do_not_restart_are_detected(lm, bank, table, samples):
    batch = Renderer(bank, table)(samples, TextView())
    running = np.broadcast_to(np.arange(batch.input_ids.shape[1]), batch.input_ids.shape)
    wrong = dataclasses.replace(batch, position_ids=running.copy())
    worst = worst_difference(lm, wrong, bank.class_names, table)
    assert worst[:, 0].max() < 1e-4
    assert worst[:, 1:].min() > 1e-2


def test_choice_scores_equal_teacher_forcing_each_choice(attending, named, table, samples):
    batch = Renderer(named, table)(samples, TextView(), "independent", with_choices=True)
    names = named.class_names
    records = score(Reader(attending, table.image_id), batch, Renderer(named, table))
    for i, q in np.ndindex(N, 3):
        text = helpers.prefix(samples, i, names, helpers.markdown(samples, i, names))
        stem = text + helpers.question(samples, i, q)
        expected = []
        for name in names:
            tokens = table.tokens(f" {name}")
            ids = table.tokens(f"{stem} {name}")
            logp = torch.log_softmax(plain_logits(attending, ids), -1)
            expected.append(sum(float(logp[-len(tokens) - 1 + k, t]) for k, t in enumerate(tokens)))
        np.testing.assert_allclose(records["logprobs"][i * 3 + q], expected, atol=2e-4)


def test_chained_questions_equal_a_plain_document(attending, long_bank, table, samples):
    batch = Renderer(long_bank, table)(samples, TextView(), "chained")
    answers = packed_answers(attending, batch)
    for i in range(N):
        ids = batch.input_ids[i][batch.segments[i] >= 0].tolist()
        reference = plain_logits(attending, ids)
        for q in range(3):
            at = np.flatnonzero(batch.answers[i] == q)
            torch.testing.assert_close(answers[i, q], reference[at - 1], atol=1e-4, rtol=0)


def test_pictures_equal_one_question_at_a_time(gpt2v, bank, table, samples):
    span = gpt2v.geometry.span(2, 2, 16)
    batch = Renderer(bank, table, PictureGeometry(48, 8))(samples, ImageView(span))
    reader = Reader.of(gpt2v)
    with torch.no_grad():
        logits, packed = reader(batch)
        pixels = normalise(batch.pixels, torch.device("cpu"))
        hidden = gpt2v.vision_tower(pixels, output_hidden_states=True).hidden_states[-2]
        vision = gpt2v.projector.each(
            hidden[:, 1:][:, span.patch], gpt2v.get_input_embeddings().weight
        )
    number = np.full(batch.input_ids.shape, -1)
    number[packed.read] = np.arange(len(logits))
    for i, q in np.ndindex(N, 3):
        lines = "<image>" * len(span) + "\n"
        said = helpers.answer(samples, i, q, bank.class_names)
        text = helpers.prefix(samples, i, bank.class_names, lines)
        ids = table.tokens(text + helpers.question(samples, i, q) + said)
        words = gpt2v.language_model.transformer.wte(torch.tensor([ids]))
        words[0, : len(span)] = vision[i]
        with torch.no_grad():
            reference = gpt2v.language_model(inputs_embeds=words).logits[0]
        at = np.flatnonzero(batch.answers[i] == q)
        expected = reference[-len(at) - 1 : -1]
        torch.testing.assert_close(logits[number[i, at - 1]], expected, atol=1e-4, rtol=0)


def test_the_loss_equals_the_sum_over_plain_sequences(lm, long_bank, table, samples):
    batch = Renderer(long_bank, table)(samples, TextView())
    with torch.no_grad():
        packed = pack(batch, torch.device("cpu"), NO_IMAGE)
        loss = float(answer_loss(lm, read_hidden(lm, packed), packed))
    expected = 0.0
    for i, q in np.ndindex(N, 3):
        ids, length = alone(samples, i, q, long_bank.class_names, table)
        logp = torch.log_softmax(plain_logits(lm, ids), -1)
        expected -= sum(float(logp[k - 1, ids[k]]) for k in range(len(ids) - length, len(ids)))
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_mask_is_additive_shared_if_possible_and_never_empty(bank, long_bank, table, samples):
    device = torch.device("cpu")
    same = attention_mask(Renderer(bank, table)(samples, TextView()), device, torch.float32)
    assert same.shape[0] == 1
    assert same.dtype == torch.float32
    rows = attention_mask(Renderer(long_bank, table)(samples, TextView()), device, torch.float32)
    assert rows.shape[0] == N
    for mask in (same, rows):
        assert set(mask.unique().tolist()) == {0.0, torch.finfo(torch.float32).min}
        assert (mask == 0).any(-1).all()  # a row without any would give NaN


def test_the_head_runs_at_answers_only(lm, bank, table, samples):
    batch = Renderer(bank, table)(samples, TextView())
    packed = pack(batch, torch.device("cpu"), NO_IMAGE)
    assert int(packed.read.sum()) == batch.n_supervised == N * 3 * 2
    assert len(lm.lm_head(read_hidden(lm, packed))) == N * 3 * 2


def test_a_span_of_the_wrong_grid_shows_up_in_the_logits(gpt2v, bank, table, samples):
    """A planted error: the same patches in another order must change the answers."""
    span = gpt2v.geometry.span(2, 2, 16)
    turned = dataclasses.replace(span, patch=span.patch[::-1].copy())
    reader, render = Reader.of(gpt2v), Renderer(bank, table, PictureGeometry(48, 8))
    with torch.no_grad():
        right, wrong = (reader(render(samples, ImageView(s)))[0] for s in (span, turned))
    assert float((right - wrong).abs().max()) > 1e-3


def full_answer_loss(lm, packed):
    """The loss from plain GPT-2, which runs every block at every position."""
    mask = packed.mask.expand(len(packed.input_ids), -1, -1, -1)
    hidden = lm.transformer(
        inputs_embeds=lm.transformer.wte(packed.input_ids),
        position_ids=packed.position_ids,
        attention_mask=mask,
    ).last_hidden_state
    return answer_loss(lm, hidden[packed.read], packed)


def read_answer_loss(lm, packed):
    return answer_loss(lm, read_hidden(lm, packed), packed)


def gradients(lm, loss):
    lm.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in lm.named_parameters()}


@pytest.mark.parametrize("onednn", [False, True])
def test_gradients_equal_those_of_a_pass_over_all_positions(
    attending, long_bank, table, samples, onednn
):
    lm = copy.deepcopy(attending)
    if onednn:
        use_onednn(lm)
    packed = pack(Renderer(long_bank, table)(samples, TextView()), torch.device("cpu"), NO_IMAGE)
    counts = packed.read.sum(1)
    assert counts.min() < counts.max()  # some samples read less than others
    expected = gradients(lm, full_answer_loss(lm, packed))
    for name, gradient in gradients(lm, read_answer_loss(lm, packed)).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_embeddings_have_dropout_in_training(lm, bank, table, samples):
    packed = pack(Renderer(bank, table)(samples, TextView()), torch.device("cpu"), NO_IMAGE)
    lm = copy.deepcopy(lm).train()
    for module in lm.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    undropped = float(read_answer_loss(lm, packed).detach())
    lm.transformer.drop.p = 0.5
    losses = []
    for loss in (read_answer_loss, full_answer_loss):
        torch.manual_seed(0)
        losses.append(float(loss(lm, packed).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert abs(losses[0] - undropped) > 1e-2


def test_the_last_block_runs_only_at_positions_that_are_read(lm, bank, table, samples):
    packed = pack(Renderer(bank, table)(samples, TextView()), torch.device("cpu"), NO_IMAGE)
    lm = copy.deepcopy(lm)
    shapes = []
    for block in lm.transformer.h:
        block.mlp.register_forward_hook(lambda mlp, given, out: shapes.append(out.shape[:2]))
    with torch.no_grad():
        read_hidden(lm, packed)
    assert shapes == [packed.input_ids.shape] * (len(shapes) - 1) + [(N, 3 * 2)]


def test_a_gpt2_that_scales_and_casts_its_attention_still_does_so(lm, bank, table, samples):
    """As in Mistral's GPT-2s: scores are divided by the layer's number, in fp32."""
    config = copy.deepcopy(lm.config)
    config.reorder_and_upcast_attn = config.scale_attn_by_inverse_layer_idx = True
    other = GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    other.load_state_dict(lm.state_dict())
    packed = pack(Renderer(bank, table)(samples, TextView()), torch.device("cpu"), NO_IMAGE)
    with torch.no_grad():
        loss, expected = read_answer_loss(other, packed), full_answer_loss(other, packed)
        plain = full_answer_loss(lm, packed)
    torch.testing.assert_close(loss, expected)
    assert abs(float(plain - expected)) > 1e-3  # scaling and casting do change the loss


def test_nothing_read_gives_nothing(lm, bank, table, samples):
    packed = pack(Renderer(bank, table)(samples, TextView()), torch.device("cpu"), NO_IMAGE)
    packed = dataclasses.replace(
        packed, reads=Reads.of(np.zeros_like(packed.read), torch.device("cpu"))
    )
    assert read_hidden(lm, packed).shape == (0, lm.config.n_embd)


def test_blocks_are_compiled_for_all_types_of_batches(
    monkeypatch, lm, bank, long_bank, table, samples
):
    """Different lengths, shared masks and a mask per sample, in training and in validation."""
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 8)
    torch._dynamo.reset()
    compile_here = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m: compile_here(m, backend="eager"))
    batches = [
        Renderer(names, table)(drawn, TextView())
        for names in (bank, long_bank)
        for drawn in (samples, draw_samples(GridConfig(), names, 0, "test", np.arange(2)))
    ]
    packs = [pack(batch, torch.device("cpu"), NO_IMAGE) for batch in batches]
    plain = [float(read_answer_loss(lm, packed).detach()) for packed in packs]
    compiled = copy.deepcopy(lm)
    compile_modules(tuple(compiled.transformer.h))
    for _ in range(2):
        for packed, expected in zip(packs, plain, strict=True):
            loss = read_answer_loss(compiled, packed)
            loss.backward()
            assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
            with torch.no_grad():
                assert float(read_answer_loss(compiled, packed)) == pytest.approx(expected, 1e-5)
                compiled.transformer(packed.input_ids)
        compiled.transformer(packed.input_ids)
    torch._dynamo.reset()
