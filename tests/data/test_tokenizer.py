"""The tokens that are joined from pieces equal those of the whole string."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

import helpers
from gpt2v.config.grids import AugmentConfig, GridConfig
from gpt2v.config.models import TokenizerConfig
from gpt2v.config.pictures import PictureConfig
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.render.spans import PictureGeometry, cell_span
from gpt2v.data.render.views import ImageView, TextView
from gpt2v.data.text_pieces import IMAGE, SPECIAL_TOKENS, PieceTable, n_ids, special_id
from gpt2v.data.tokenizer import build_tokenizer, grid_texts, load_tokenizer, train_tokenizer
from gpt2v.errors import UserError
from gpt2v.model.files import wrap_tokenizer

FORMS = ("markdown", "csv", "latex", "coordinates", "plain", "patch-tiled")
GEOMETRY = PictureGeometry(16, 8)
written = st.builds(TextView, st.sampled_from(FORMS), st.integers(1, 3))


def multi_span(rows, cols):
    """A picture of four patches for each cell."""
    return GEOMETRY.span(rows, cols, 16, PictureConfig(layout="multi"))


views = st.one_of(
    written,
    st.builds(lambda n: ImageView(cell_span(n), with_pixels=False), st.integers(1, 40)),
    st.builds(lambda text: ImageView(multi_span, with_pixels=False, words=text), written),
)


def sizes(low, high):
    """A fixed size or a range of sizes."""
    one = st.integers(low, high)
    return st.one_of(one, st.tuples(one, one).map(sorted).map(list))


specs = st.builds(
    GridConfig,
    rows=sizes(2, 12),
    cols=sizes(1, 12),
    palette=sizes(1, 10),
    instructions=st.sets(st.sampled_from(NAMES), min_size=1).map(
        lambda names: dict.fromkeys(sorted(names), 1.0)
    ),
    augment=st.builds(
        lambda paraphrase, held_out, bases: AugmentConfig(
            paraphrase=paraphrase, held_out=paraphrase and held_out, index_bases=bases
        ),
        st.booleans(),
        st.booleans(),
        st.sampled_from([[0], [1], [0, 1]]),
    ),
)


@given(specs, views, st.integers(0, 9), st.booleans())
def test_trained_tokens_of_pieces_are_tokens_of_the_string(
    table, bank, long_bank, spec, view, seed, long
):
    names = (long_bank if long else bank).class_names
    helpers.check_tokens(table, bank, names, spec, view, seed)


@given(specs, views, st.integers(0, 9), st.booleans())
def test_gpt2_tokens_of_pieces_are_tokens_of_the_string(
    gpt2_table, bank, long_bank, spec, view, seed, long
):
    names = (long_bank if long else bank).class_names
    helpers.check_tokens(gpt2_table, bank, names, spec, view, seed)


def test_a_wrong_border_between_pieces_is_noticed(table, bank):
    """The comparison above can fail: a space at the end of a piece belongs to the next word."""
    assert table.tokens("row ") + table.tokens("cat") != table.tokens("row cat")


def test_names_digits_and_bars_are_one_token(table, bank):
    words = [f" {n}" for n in bank.class_names] + list(bank.class_names)
    digits = [f" {d}" for d in range(10)] + [str(d) for d in range(10)]
    for string in [*words, *digits, "|", " |", "\n", *SPECIAL_TOKENS]:
        assert len(table.tokens(string)) == 1, string


def test_decoding_returns_the_text(tokenizer, gpt2_table):
    text = "| Ñandú |\nWhat object is in row 12, column 3? A: sea-otter\n 東京"
    for one in (tokenizer, gpt2_table.tokenizer):
        assert one.decode(one.encode(text).ids) == text


def test_training_twice_gives_the_same_tokenizer(bank, tokenizer):
    assert build_tokenizer(TokenizerConfig(), grid_texts(bank)).to_str() == tokenizer.to_str()


def test_the_vocabulary_has_at_most_the_asked_size(bank):
    texts = [" ".join(bank.class_names) + " some words to merge"] * 3
    trained = train_tokenizer(texts, 270)
    assert trained.get_vocab_size() <= 270
    assert trained.token_to_id(IMAGE) is not None


def test_gpt2_has_its_own_ids_and_gets_the_missing_special_tokens(gpt2_table):
    assert gpt2_table.tokens("Hello world<|endoftext|>") == [15496, 995, 50256]
    assert gpt2_table.image_id >= 50257
    assert gpt2_table.pad_id >= 50257


def test_a_saved_tokenizer_is_read_back(tokenizer, tmp_path):
    wrap_tokenizer(tokenizer).save_pretrained(tmp_path)
    text = "| cat | dog |\n<image><image>\nWhat object? A: ship<|endoftext|>"
    assert load_tokenizer(str(tmp_path)).encode(text).ids == tokenizer.encode(text).ids


def test_folders_that_hold_no_tokenizer_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.source: .*expected tokenizer\.json"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.source: .*cannot be loaded"):
        load_tokenizer(str(tmp_path))


def saved(tokenizer, folder, change):
    """A folder with a tokenizer.json that was changed."""
    parts = json.loads(tokenizer.to_str())
    change(parts)
    (folder / "tokenizer.json").write_text(json.dumps(parts))
    return str(folder)


def test_saved_truncation_and_padding_do_not_matter(tokenizer, tmp_path):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.enable_truncation(3)
    other.enable_padding(length=20)
    other.save(str(tmp_path / "tokenizer.json"))
    text = "| cat | dog |\nWhat object is in row 0, column 1? A:"
    loaded = PieceTable(load_tokenizer(str(tmp_path)))
    assert loaded.tokens(text) == tokenizer.encode(text).ids
    assert loaded.tokens("\n") == tokenizer.encode("\n").ids


def test_tokens_by_chance_are_refused(tokenizer, tmp_path):
    folder = saved(tokenizer, tmp_path, lambda parts: parts["model"].update(dropout=0.1))
    with pytest.raises(UserError, match=r"lm: .* has dropout 0\.1, .*; set dropout to null"):
        load_tokenizer(folder, "lm")


def word_level(vocabulary):
    return Tokenizer(models.WordLevel(vocabulary, unk_token="a"))


def test_ids_with_gaps_need_more_rows_than_there_are_tokens(tokenizer, tmp_path):
    word_level({"a": 0, "b": 1, "<|endoftext|>": 7, "<image>": 8, "<pad>": 30}).save(
        str(tmp_path / "tokenizer.json")
    )
    gaps = load_tokenizer(str(tmp_path))
    assert (gaps.get_vocab_size(), n_ids(gaps)) == (5, 31)
    assert n_ids(tokenizer) == tokenizer.get_vocab_size()


def test_two_tokens_with_one_id_are_refused(tmp_path):
    """The library numbers new tokens from the size of the vocabulary, even if this id is in use."""
    word_level({"a": 0, "b": 1, "c": 3}).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(
        UserError, match=r"'<\|endoftext\|>' and 'c' have the same id 3; its tokens"
    ):
        load_tokenizer(str(tmp_path))


def test_properties_of_special_tokens_are_ours(tokenizer, tmp_path):
    """Another tool has saved an <image> that takes the spaces around it."""

    def change(parts):
        for token in parts["added_tokens"]:
            token.update(lstrip=True, rstrip=True, single_word=True, normalized=True)

    table = PieceTable(load_tokenizer(saved(tokenizer, tmp_path, change)))
    text = "<image><image>\n<image> a<image>b<|endoftext|>\n"
    assert table.tokens(text) == tokenizer.encode(text).ids
    assert table.tokens(text).count(special_id(tokenizer, IMAGE)) == 4


@pytest.mark.parametrize("text", ["A" * 40_000, " " * 40_000, "-" * 40_000, "東" * 20_000])
def test_pieces_of_text_without_spaces_are_bounded(text):
    """Training is quadratic in their length; merges would reach 40,000 characters."""
    trained = train_tokenizer([text], 500)
    longest = max(len(trained.decode([number])) for number in trained.get_vocab().values())
    assert longest <= 512
    assert trained.decode(trained.encode(text[:1000]).ids) == text[:1000]


def test_only_the_training_cuts_long_pieces(tokenizer):
    """A token may be longer than a piece of the text that it is read from."""
    kinds = [
        part["type"] for part in json.loads(tokenizer.pre_tokenizer.__getstate__())["pretokenizers"]
    ]
    assert kinds == ["Split", "ByteLevel"]
