"""What is said in place of a right answer is what transformers generates for one question."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.views import TextView
from gpt2v.errors import UserError
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import score


def model(table, seed, n_positions=512, scale=4.0):
    """An untrained model that says different words in different places, and ends some lines."""
    torch.manual_seed(seed)
    size = table.tokenizer.get_vocab_size()
    config = GPT2Config(vocab_size=size, n_layer=3, n_head=2, n_embd=32, n_positions=n_positions)
    lm = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if name.endswith("weight") and weight.ndim == 2:
                weight.mul_(scale)
        lm.lm_head.weight[table.tokens("\n")[0]] *= 1.5
    return lm


def generated(lm, table, text, most):
    ids = torch.tensor([table.tokens(text)])
    most = min(most, lm.config.n_positions - ids.shape[1])
    end = [table.tokens("\n")[0], table.tokenizer.token_to_id("<|endoftext|>")]
    out = lm.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=most,
        eos_token_id=end, pad_token_id=end[1],
    )[0, ids.shape[1] :].tolist()  # fmt: skip
    said = table.tokenizer.decode(out, skip_special_tokens=False)
    line, newline, _ = said.partition("\n")
    return line.lstrip() + ("" if newline or out[-1] == end[1] else "…")


def texts(samples, names, mode):
    """The text up to each question's answer, and the answer."""
    for i in range(len(samples.index)):
        start = helpers.prefix(samples, i, names, helpers.markdown(samples, i, names))
        before = ""
        for q in range(samples.row.shape[1]):
            question = helpers.question(samples, i, q)
            said = helpers.answer(samples, i, q, names)
            yield start + before + question, said
            before += question + said if mode == "chained" else ""


@given(
    seed=st.integers(0, 99),
    mode=st.sampled_from(["independent", "chained"]),
    attention=st.sampled_from(["sdpa", "eager"]),
    side=st.integers(1, 3),
)
def test_it_is_what_transformers_generates(long_bank, table, seed, mode, attention, side):
    spec = GridConfig(rows=2, cols=side, palette=3, questions=2)
    samples = draw_samples(spec, long_bank, seed, "test", np.arange(3))
    render, lm = Renderer(long_bank, table), model(table, seed)
    lm.set_attn_implementation(attention)
    batch = render(samples, TextView(), mode, with_choices=True)
    records = score(Reader(lm, table.image_id), batch, render)
    pairs = list(texts(samples, long_bank.class_names, mode))
    for k, (text, said) in enumerate(pairs):
        expected = generated(lm, table, text, 2 * len(table.tokens(said)) + 4)
        assert records["generated"][k] == expected
        assert records["exact"][k] == (expected == records["truth"][k])


def test_some_are_ended_and_some_are_cut(long_bank, table):
    """What the test above compares is not always the same kind."""
    spec = GridConfig(rows=2, cols=2, palette=3)
    said = []
    for seed in range(6):
        samples = draw_samples(spec, long_bank, seed, "test", np.arange(3))
        render = Renderer(long_bank, table)
        batch = render(samples, TextView(), "independent", with_choices=True)
        said += score(Reader(model(table, seed), table.image_id), batch, render)["generated"]
    cut = [words.endswith("…") for words in said]
    assert 0 < sum(cut) < len(cut)
    assert len(set(said)) > 10


def test_it_is_cut_where_the_positions_end(bank, table):
    spec = GridConfig(rows=2, cols=2, palette=3, questions=1)
    samples = draw_samples(spec, bank, 0, "test", np.arange(4))
    render = Renderer(bank, table)
    batch = render(samples, TextView(), "independent", with_choices=True)
    needed = int(batch.position_ids.max()) + 1
    lm = model(table, 3, needed)
    records = score(Reader(lm, table.image_id), batch, render)
    pairs = texts(samples, bank.class_names, "independent")
    assert records["generated"] == [generated(lm, table, text, 8) for text, _ in pairs]


@pytest.mark.parametrize("mode", ["independent", "chained"])
def test_batches_of_any_size_say_the_same(bank, table, mode):
    """All instructions, different numbers of questions; log-probabilities are equal, too."""
    instructions = dict.fromkeys(NAMES, 1.0)
    spec = GridConfig(rows=[1, 3], cols=[2, 4], palette=[2, 4], instructions=instructions)
    parts = (np.arange(14), *np.arange(14)[:, None], np.arange(7), np.arange(7, 14))
    samples = [draw_samples(spec, bank, 5, "test", part) for part in parts]
    render, reader = Renderer(bank, table), Reader(model(table, 1), table.image_id)

    def records(parts):
        found = [score(reader, render(part, TextView(), mode, True), render) for part in parts]
        return {key: [value for one in found for value in one[key]] for key in found[0]}

    whole = records(samples[:1])
    assert len(set(whole["instruction"])) == len(NAMES)
    for parts in (samples[1:15], samples[15:]):
        other = records(parts)
        for key in whole.keys() - {"logprobs"}:
            assert whole[key] == other[key], key
        for one, same in zip(whole["logprobs"], other["logprobs"], strict=True):
            np.testing.assert_allclose(one, same, atol=1e-4)


def test_without_generating_only_right_answers_are_known(lm, bank, table):
    spec = GridConfig(rows=1, cols=2, palette=4)
    samples = draw_samples(spec, bank, 0, "test", np.arange(20))
    render = Renderer(bank, table)
    batch = render(samples, TextView(), "independent", with_choices=True)
    reader = Reader(lm, table.image_id)
    with_it, without = (score(reader, batch, render, generate) for generate in (True, False))
    assert without["exact"] == with_it["exact"]
    assert None not in with_it["generated"]
    for said, exact, truth in zip(
        *(without[k] for k in ("generated", "exact", "truth")), strict=True
    ):
        assert said == (truth if exact else None)


def test_logits_that_become_infinite_while_it_speaks_are_refused(bank, table):
    """Planted: the position after the last that the packed pass needs is not finite."""
    spec = GridConfig(rows=2, cols=2, palette=3, questions=1)
    samples = draw_samples(spec, bank, 0, "test", np.arange(4) + 10)
    render = Renderer(bank, table)
    batch = render(samples, TextView(), "independent", with_choices=True)
    lm = model(table, 3)
    with torch.no_grad():
        lm.transformer.wpe.weight[int(batch.position_ids.max()) + 1 :] = torch.nan
    with pytest.raises(UserError, match=r"^model: its logits for sample 1\d are NaN or infinite"):
        score(Reader(lm, table.image_id), batch, render)
