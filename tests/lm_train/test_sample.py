"""Sampling: it follows its options; cache, other sequences and streaming do not change it.

Shapes: V words of the vocabulary.
"""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.modeling_outputs import CausalLMOutput

import helpers
from gpt2v.config.models import GPT2ModelConfig
from gpt2v.config.training import GenerateConfig
from gpt2v.data import rng
from gpt2v.data.text_pieces import END_OF_TEXT, IMAGE, PAD, SPECIAL_TOKENS, special_id
from gpt2v.errors import UserError
from gpt2v.lm_train.sample import generate, sample
from gpt2v.lm_train.train import new_gpt2
from gpt2v.model.load import load_model
from helpers import save_checkpoint

PROMPTS = ["| bird | frog |\n", "", "What object is in row 2, column 2? A:", "| cat"]


def texts(lm, tokenizer, prompts=PROMPTS, **settings):
    """(text, why it stopped) of every sequence."""
    return [tuple(c) for c in generate(lm, tokenizer, prompts, GenerateConfig(**settings))]


def never(tokenizer):
    return [special_id(tokenizer, IMAGE), special_id(tokenizer, PAD)]


def recomputed(lm, tokenizer, prompt, choose, new):
    """The expected sample: one sequence alone, computed anew for every token."""
    end = special_id(tokenizer, END_OF_TEXT)
    ids = [end, *tokenizer.encode(prompt).ids]
    start = len(ids)
    for _ in range(new):
        with torch.no_grad():
            logits = lm(torch.tensor([ids])).logits[:, -1].float()
        logits[:, never(tokenizer)] = -torch.inf
        token = choose(logits)
        if token == end:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:], skip_special_tokens=False).rstrip("\ufffd")


def scripted(lm, tokens):
    """A GPT-2 that says the given tokens, whatever it reads: logits of 9 there, 0 elsewhere."""
    script = copy.deepcopy(lm)
    script.script = list(tokens)

    def forward(input_ids=None, attention_mask=None, **_):
        logits = torch.zeros(len(input_ids), 1, script.config.vocab_size)
        logits[:, :, script.script.pop(0)] = 9.0
        return CausalLMOutput(logits=logits)

    script.forward = forward
    return script.eval()


def constant(lm, tokenizer, probabilities):
    """A GPT-2 that draws each of these strings, one token each, with its probability."""
    logits = torch.full((lm.config.vocab_size,), -30.0)
    for text, probability in probabilities.items():
        logits[tokenizer.token_to_id(text)] = float(np.log(probability))
    fixed = copy.deepcopy(lm)

    def forward(input_ids=None, attention_mask=None, **_):
        return CausalLMOutput(logits=logits.expand(len(input_ids), 1, -1))

    fixed.forward = forward
    return fixed.eval()


@pytest.fixture(scope="module")
def lm(tokenizer):
    """A random GPT-2 with matrices so large that its greedy texts do not run into a loop."""
    torch.manual_seed(0)
    config = GPT2ModelConfig(n_layer=2, n_head=2, n_embd=32, n_positions=512)
    return helpers.louder(new_gpt2(config, tokenizer), 16.0).eval()


@pytest.fixture
def short_lm(tokenizer):
    """A random GPT-2 with a context of 24 tokens."""
    torch.manual_seed(3)
    config = GPT2ModelConfig(n_layer=1, n_head=2, n_embd=16, n_positions=24)
    return helpers.louder(new_gpt2(config, tokenizer)).eval()


# ---- the cache, the other sequences -----------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_greedy_text_equals_full_recomputation(lm, tokenizer, attention):
    before = lm.config._attn_implementation
    lm.set_attn_implementation(attention)
    try:
        sampled = texts(lm, tokenizer, temperature=0, max_new_tokens=25)
        expected = [
            recomputed(lm, tokenizer, prompt, lambda logits: int(logits.argmax()), 25)
            for prompt in PROMPTS
        ]
    finally:
        lm.set_attn_implementation(before)
    assert [text for text, _ in sampled] == expected
    assert len(set(expected)) == len(PROMPTS)


def nucleus(logits, temperature, top_k, top_p):
    """The probabilities to draw from, (1, V), computed by hand."""
    p = torch.softmax(logits / temperature, -1)
    p = torch.where(p >= p.topk(top_k).values[..., -1:], p, 0.0)
    p = p / p.sum()
    order = p[0].argsort(descending=True)
    before = p[0, order].cumsum(0) - p[0, order]
    p[0, order[before >= top_p]] = 0.0
    return p / p.sum()


def test_sampled_text_equals_full_recomputation(lm, tokenizer):
    settings = GenerateConfig(seed=5, n=2, max_new_tokens=25, top_k=50, top_p=0.9)
    expected = []
    for i, prompt in enumerate(PROMPTS):
        for key in rng.keys(5, f"lm sample, prompt {i}", np.arange(2)):
            torch.manual_seed(int(key))

            def draw(logits):
                return int(torch.multinomial(nucleus(logits, 0.8, 50, 0.9), 1))

            expected.append(recomputed(lm, tokenizer, prompt, draw, 25))
    sampled = texts(lm, tokenizer, **settings.model_dump())
    assert [text for text, _ in sampled] == expected
    assert len(set(expected)) == 8


def test_greedy_text_equals_transformers(lm, tokenizer):
    end = special_id(tokenizer, END_OF_TEXT)
    for prompt, (text, _) in zip(
        PROMPTS, texts(lm, tokenizer, temperature=0, max_new_tokens=40), strict=True
    ):
        ids = torch.tensor([[end, *tokenizer.encode(prompt).ids]])
        whole = lm.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=40,
            suppress_tokens=never(tokenizer),
        )[0, ids.shape[1] :].tolist()
        whole = whole[: whole.index(end)] if end in whole else whole
        assert text == tokenizer.decode(whole, skip_special_tokens=False).rstrip("\ufffd")


def test_a_text_does_not_depend_on_the_others(lm, tokenizer):
    together = texts(lm, tokenizer, n=3, max_new_tokens=30)
    assert [t for i, t in enumerate(together) if i % 3 == 0] == texts(
        lm, tokenizer, n=1, max_new_tokens=30
    )
    longer = [PROMPTS[0], "| cat " * 60, "", PROMPTS[3]]
    others = texts(lm, tokenizer, longer, n=3, max_new_tokens=30)
    for i in (0, 3):
        assert others[3 * i : 3 * i + 3] == together[3 * i : 3 * i + 3]


# ---- what is drawn ----------------------------------------------------------------------------


def test_the_seed_alone_decides(lm, tokenizer):
    torch.manual_seed(1)
    first = texts(lm, tokenizer, n=2, max_new_tokens=20, seed=7)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert texts(lm, tokenizer, n=2, max_new_tokens=20, seed=7) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert texts(lm, tokenizer, n=2, max_new_tokens=20, seed=8) != first
    same_prompt = texts(lm, tokenizer, ["| cat"] * 2, n=2, max_new_tokens=20)
    assert len(set(same_prompt)) == 4


def test_one_token_to_choose_from_is_greedy(lm, tokenizer):
    greedy = texts(lm, tokenizer, temperature=0, max_new_tokens=20)
    assert texts(lm, tokenizer, top_k=1, max_new_tokens=20) == greedy
    assert texts(lm, tokenizer, top_p=1e-9, max_new_tokens=20) == greedy
    assert texts(lm, tokenizer, temperature=1e-320, max_new_tokens=20) == greedy
    assert texts(lm, tokenizer, temperature=0, seed=9, max_new_tokens=20) == greedy


LETTERS = dict(zip("abcdefgh", (0.31, 0.2, 0.14, 0.12, 0.1, 0.07, 0.04, 0.02), strict=True))


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_top_p_keeps_exactly_the_nucleus(lm, tokenizer, top_p, temperature):
    """The fewest letters that have this probability are drawn, all of them and no others."""
    fixed = constant(lm, tokenizer, LETTERS)
    options = {"n": 60, "max_new_tokens": 4, "temperature": temperature, "top_p": top_p}
    drawn = "".join(text for text, _ in texts(fixed, tokenizer, [""], **options))
    assert len(drawn) == 240
    p = np.array(list(LETTERS.values())) ** (1 / temperature)
    p = p / p.sum()
    size = len(p) if top_p == 1 else int((p.cumsum() - p < top_p).sum())
    assert set(drawn) <= set("abcdefgh"[:size])
    assert set(drawn) >= {c for c, x in zip("abcdefgh"[:size], p, strict=False) if x > 0.05}


def test_top_k_comes_before_top_p(lm, tokenizer):
    """Of the best three, two have 7/9 and reach 0.75; without top-k, it takes three."""
    fixed = constant(lm, tokenizer, dict(zip("abcd", (0.4, 0.3, 0.2, 0.1), strict=True)))
    options = {"n": 60, "max_new_tokens": 4, "temperature": 1.0}
    for more, expected in (
        ({"top_k": 3, "top_p": 0.75}, "ab"),
        ({"top_p": 0.75}, "abc"),
        ({"top_k": 9}, "abcd"),
    ):
        drawn = "".join(text for text, _ in texts(fixed, tokenizer, [""], **options, **more))
        assert set(drawn) == set(expected)


def test_draws_follow_the_probabilities(lm, tokenizer):
    """Many samples' tokens against temperature, top-k and top-p by hand (chi-squared)."""
    shares = dict(zip("abcdef", (0.3, 0.25, 0.2, 0.1, 0.1, 0.05), strict=True))
    fixed = constant(lm, tokenizer, shares)
    options = {"n": 100, "max_new_tokens": 20, "temperature": 0.5, "top_k": 5, "top_p": 0.95}
    drawn = "".join(text for text, _ in texts(fixed, tokenizer, [""], **options))
    assert len(drawn) == 2000
    # Squared, of the five best: 0.0900 0.0625 0.0400 0.0100 0.0100; four have 0.953 of that.
    assert set(drawn) in (set("abcd"), set("abce"))  # d and e are equal
    counts = np.array([drawn.count(letter) for letter in sorted(set(drawn))])
    expected = 2000 * np.array([0.09, 0.0625, 0.04, 0.01]) / 0.2025
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom, p = 0.001


def test_placeholders_and_rows_without_a_token_are_never_drawn(tokenizer):
    torch.manual_seed(4)
    lm = new_gpt2(GPT2ModelConfig(n_layer=1, n_head=2, n_embd=16, n_positions=64), tokenizer)
    lm.resize_token_embeddings(4 * tokenizer.get_vocab_size(), mean_resizing=False)
    with torch.no_grad():
        lm.lm_head.weight[never(tokenizer)] *= 50
    sampled = texts(lm.eval(), tokenizer, n=8, temperature=5.0, max_new_tokens=20)
    assert not any(IMAGE in text or PAD in text for text, _ in sampled)
    assert sum(stopped == "max_new_tokens" for _, stopped in sampled) > 16


# ---- where it begins and stops ----------------------------------------------------------------


def test_a_text_begins_with_end_of_text_once(lm, tokenizer):
    options = {"temperature": 0, "max_new_tokens": 10}
    expected = texts(lm, tokenizer, ["| cat", ""], **options)
    assert texts(lm, tokenizer, [END_OF_TEXT + "| cat", END_OF_TEXT], **options) == expected
    grids = texts(lm, tokenizer, ["| cat", ""], bos=False, **options)
    assert grids[0] != expected[0]
    assert grids[1] == expected[1]  # an empty prompt always begins with it


def test_each_sequence_stops_at_its_own_end_of_text(lm, tokenizer):
    a, b, end = (special_id(tokenizer, t) for t in ("a", "b", END_OF_TEXT))
    script = scripted(lm, [a, b, end] * 4)
    assert texts(script, tokenizer, temperature=0) == [("ab", "end of text")] * 4
    assert texts(scripted(lm, [end]), tokenizer, [""], temperature=0) == [("", "end of text")]
    sampled = texts(scripted(lm, [a] * 3), tokenizer, [""], temperature=0, max_new_tokens=3)
    assert sampled == [("aaa", "max_new_tokens")]


def test_sequences_that_end_early_leave_the_others_alone(lm, tokenizer):
    """With a likely <|endoftext|> some stop early and some late; alone they are the same."""
    likely = constant(lm, tokenizer, {END_OF_TEXT: 0.13, "a": 0.5, "b": 0.37})
    together = texts(likely, tokenizer, n=4, temperature=1.0, max_new_tokens=30)
    assert len({len(text) for text, _ in together}) > 5
    assert {stopped for _, stopped in together} >= {"end of text"}
    alone = [
        texts(likely, tokenizer, [*[""] * i, prompt], n=4, temperature=1.0, max_new_tokens=30)[-4:]
        for i, prompt in enumerate(PROMPTS)
    ]
    assert [text for four in alone for text in four] == together


def test_the_context_is_filled_and_no_more(short_lm, tokenizer):
    endless = constant(short_lm, tokenizer, {"a": 1.0})  # so that nothing stops it earlier
    prompts = ["| cat | cat", "a", "| cat" * 9]
    sampled = texts(endless, tokenizer, prompts, temperature=0, bos=False, max_new_tokens=100)
    assert [stopped for _, stopped in sampled] == ["context full"] * 3
    for prompt, (text, _) in zip(prompts, sampled, strict=True):
        assert len(text) == 24 - len(tokenizer.encode(prompt).ids)
    alone = texts(endless, tokenizer, prompts[:1], temperature=0, bos=False, max_new_tokens=100)
    assert alone == sampled[:1]


def test_a_prompt_that_leaves_no_room_is_refused_at_once(short_lm, tokenizer):
    fits = "a" * 22
    assert len(tokenizer.encode(fits).ids) == 22
    assert len(texts(short_lm, tokenizer, [fits], temperature=0)) == 1
    with pytest.raises(UserError, match="prompt 1: 24 tokens are too long for a context of 24"):
        generate(short_lm, tokenizer, [fits, fits + "a"], GenerateConfig())


def test_prompts_that_are_no_text_are_refused(lm, tokenizer):
    with pytest.raises(UserError, match="prompt 1: <image> stands for a picture"):
        generate(lm, tokenizer, ["a", f"{IMAGE}\nWhat is it?"], GenerateConfig())
    with pytest.raises(UserError, match="prompt 0: not valid UTF-8"):
        generate(lm, tokenizer, ["caf\udce9"], GenerateConfig())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_diverged_model_is_refused(lm, tokenizer, temperature):
    diverged = constant(lm, tokenizer, {"a": float("nan")})
    with pytest.raises(UserError, match="not finite"):
        texts(diverged, tokenizer, [""], temperature=temperature)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"n": 0},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"topk": 3},
    ],
)
def test_options_out_of_bounds(bad):
    with pytest.raises(ValidationError):
        GenerateConfig(**bad)


# ---- streaming --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def byte_tokenizer():
    """One token per byte, so that every character beyond ASCII is spelled by several."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {t: i for i, t in enumerate([*SPECIAL_TOKENS, *sorted(alphabet)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def streamed(lm, tokenizer, tokens):
    """The text, in the parts in which it is streamed."""
    parts = []
    settings = GenerateConfig(temperature=0, max_new_tokens=len(tokens))
    (continued,) = generate(scripted(lm, tokens), tokenizer, [""], settings, say=parts.append)
    assert "".join(parts) == continued.text
    return parts


def test_characters_are_never_cut(lm, byte_tokenizer):
    text = "naïve 日本語 🙂🏽, é — Ñandú"
    tokens = byte_tokenizer.encode(text).ids
    assert len(tokens) == len(text.encode())
    parts = streamed(lm, byte_tokenizer, tokens)
    assert not any("\ufffd" in part for part in parts)
    assert sum(map(bool, parts)) > len(text) // 2  # during sampling, not at the end
    assert "".join(parts) == text


def test_a_character_that_is_unfinished_at_the_end_is_left_out(lm, byte_tokenizer):
    tokens = byte_tokenizer.encode("a🙂").ids
    for cut in (2, 3, 4):
        assert "".join(streamed(lm, byte_tokenizer, tokens[:cut])) == "a"


def test_bytes_that_are_no_text_are_shown_as_the_tokenizer_shows_them(lm, byte_tokenizer):
    generator = np.random.default_rng(0)
    for _ in range(20):
        tokens = generator.integers(3, 259, 40)
        tokens = tokens[tokens != byte_tokenizer.token_to_id("Ċ")].tolist()  # of the line break
        whole = byte_tokenizer.decode(tokens, skip_special_tokens=False)
        assert "".join(streamed(lm, byte_tokenizer, tokens)) == whole.rstrip("\ufffd")


def test_text_is_streamed_while_the_model_is_running(lm, tokenizer):
    script = scripted(lm, [special_id(tokenizer, "a")] * 5)
    left = []
    settings = GenerateConfig(temperature=0, max_new_tokens=5)
    sampled = generate(
        script, tokenizer, [""], settings, say=lambda text: left.append(text and len(script.script))
    )
    next(sampled)
    assert left[:5] == [4, 3, 2, 1, 0]
    assert torch.is_grad_enabled()


def test_text_is_streamed_in_order(lm, tokenizer):
    begun, said = [], []
    settings = GenerateConfig(n=2, max_new_tokens=10)
    sampled = list(
        generate(
            lm,
            tokenizer,
            PROMPTS,
            settings,
            begin=lambda *numbers: begun.append(numbers) or said.append(""),
            say=lambda text: said.append(said.pop() + text),
        )
    )
    assert begun == [(prompt, again) for prompt in range(4) for again in range(2)]
    assert said == [text for text, _ in sampled]


# ---- the command ------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(short_lm, tokenizer, tmp_path):
    save_checkpoint(tmp_path, 1, short_lm, tokenizer)
    return tmp_path


def test_one_sequence_is_its_prompt_and_text(checkpoint, short_lm, tokenizer, capsys):
    settings = GenerateConfig(temperature=0, max_new_tokens=5)
    sample(str(checkpoint), ["| cat"], settings)
    ((text, _),) = texts(short_lm, tokenizer, ["| cat"], temperature=0, max_new_tokens=5)
    assert capsys.readouterr() == (f"| cat{text}\n", "")
    sample(str(checkpoint), [], settings)
    ((text, _),) = texts(short_lm, tokenizer, [""], temperature=0, max_new_tokens=5)
    assert capsys.readouterr() == (f"{text}\n", "")


def test_several_sequences_have_headers_and_a_full_context_is_reported(
    checkpoint, short_lm, tokenizer, capsys
):
    sample(str(checkpoint), ["a", "b"], GenerateConfig(n=2))
    sampled = texts(short_lm, tokenizer, ["a", "b"], n=2)
    expected = "".join(
        f"--- prompt {i // 2}, sample {i % 2}\n{'ab'[i // 2]}{text}\n"
        for i, (text, _) in enumerate(sampled)
    )
    out, err = capsys.readouterr()
    assert out == expected
    full = sum(stopped == "context full" for _, stopped in sampled)
    assert full > 0
    line = f"gpt2v: {full} of 4 samples stopped because the context of 24 tokens was full\n"
    assert err == line


def test_of_a_gpt2v_the_language_model_writes(mm_run, capsys):
    """A run that was trained on grids only, so without <|endoftext|> before the prompt."""
    settings = GenerateConfig(max_new_tokens=4, temperature=0)
    sample(str(mm_run), ["| cat |"], settings)
    loaded = load_model(str(mm_run))
    assert loaded.gpt2v is not None
    bare = settings.model_copy(update={"bos": False})
    (expected,) = generate(loaded.lm, loaded.tokenizer, ["| cat |"], bare)
    assert capsys.readouterr().out == f"| cat |{expected.text}\n"


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"model: .*no such run or checkpoint"):
        sample(str(tmp_path / "none"), ["a"], GenerateConfig())
