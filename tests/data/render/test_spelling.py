"""A tokenizer that would give a model other tokens than the text has is refused for grids."""

import dataclasses
import re

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as splits
from tokenizers.processors import TemplateProcessing

from gpt2v.config.grids import AugmentConfig, GridConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.spelling import check_spelling
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import SPECIAL_TOKENS, PieceTable
from gpt2v.data.tokenizer import grid_texts, train_tokenizer
from gpt2v.errors import UserError

FORMS = ("markdown", "csv", "latex", "coordinates", "plain", "patch-tiled")
EVERYTHING = GridConfig(
    rows=[2, 4],
    cols=[1, 12],
    palette=[2, 5],
    instructions=dict.fromkeys(NAMES, 1.0),
    augment=AugmentConfig(paraphrase=True, delimiters=["|", ",", ";"], index_bases=[0, 1]),
)


def check(tokenizer, bank, spec=None, layout="text"):
    """The check of a data set, as every command makes it."""
    spec = spec or GridConfig(rows=2, cols=2)
    render = Renderer(bank, PieceTable(tokenizer, "tokenizer.source: x"), PictureGeometry(64, 16))
    GridDataset(spec, bank).check(layout, render, 10_000)


def bpe(texts, split, **options):
    """A byte-level BPE with pre-tokens of another kind."""
    tokenizer = Tokenizer(models.BPE())
    to_bytes = splits.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = splits.Sequence(
        [splits.Split(Regex(split), behavior="isolated"), to_bytes]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=splits.ByteLevel.alphabet(),
        show_progress=False,
        **options,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wordpiece(texts):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = splits.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[UNK]", *SPECIAL_TOKENS]
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def unigram(texts, scheme):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = splits.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        special_tokens=["<unk>", *SPECIAL_TOKENS],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def changed(**parts):
    """A tokenizer with other parts around its model."""

    def change(tokenizer):
        for name, part in parts.items():
            setattr(tokenizer, name, part)

    return change


def adding(*tokens):
    return lambda tokenizer: tokenizer.add_tokens(list(tokens))


PUNCTUATION_WITH_LINES = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"

CHANGED = {
    "prefix space": (
        changed(pre_tokenizer=splits.ByteLevel(add_prefix_space=True)),
        r"becomes ' \|",
    ),
    "lower case": (changed(normalizer=normalizers.Lowercase()), r"'.*The grid.*' becomes '.*the"),
    "strip": (changed(normalizer=normalizers.Strip()), "becomes"),
    "prepend": (changed(normalizer=normalizers.Prepend("_")), "becomes '_"),
    "replace": (changed(normalizer=normalizers.Replace("\n", " ")), r"\\n.*becomes"),
    "no decoder": (changed(decoder=None), "becomes"),
    "added across pieces": (adding("A: cat"), r"reads '.*A: cat' as .*'A: cat'"),
    "added in the palette": (adding("', 'horse"), r"""reads "', 'horse" as "', 'horse","""),
    "added, takes spaces": (adding(AddedToken("cat", lstrip=True)), "'a cat.' becomes 'acat.'"),
    "added, special": (
        lambda t: t.add_special_tokens(["horse"]),
        "class name 'horse' is not kept: 'a horse.' becomes 'a .'",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_tokenizer_that_changes_or_joins_text_is_refused(tokenizer, bank, name):
    change, match = CHANGED[name]
    other = Tokenizer.from_str(tokenizer.to_str())
    change(other)
    with pytest.raises(UserError, match=match) as caught:
        check(other, bank)
    assert str(caught.value).startswith("tokenizer.source: x: ")
    assert "\n" not in str(caught.value)
    assert "choose another tokenizer" in str(caught.value)


TRAINED = {
    "punctuation with line breaks": lambda texts: bpe(texts, PUNCTUATION_WITH_LINES),
    "whole lines": lambda texts: bpe(texts, r"[^\n]+\n?"),
    "WordPiece": wordpiece,
    "SentencePiece": lambda texts: unigram(texts, "always"),
    "SentencePiece without a first space": lambda texts: unigram(texts, "never"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_other_kinds_of_tokenizers_are_refused_if_they_join_or_change(bank, name):
    other = TRAINED[name](list(grid_texts(bank)))
    with pytest.raises(UserError, match=r"reads|becomes"):
        check(other, bank)


def test_the_message_shows_both_readings(bank):
    other = bpe(list(grid_texts(bank)), PUNCTUATION_WITH_LINES)
    match = re.escape(r"reads ' |\n' as ' |\n', but grids are written as ' |' '\n'; choose another")
    with pytest.raises(UserError, match=match):
        check(other, bank)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["text", "image", "text+image", "spliced"])
@pytest.mark.parametrize("which", ["table", "gpt2_table"])
def test_good_tokenizers_pass(request, bank, which, form, layout):
    spec = EVERYTHING.model_copy(update={"form": form, "rows": [2, 3], "cols": 2})
    check(request.getfixturevalue(which).tokenizer, bank, spec, layout)


def test_a_post_processor_does_not_matter(tokenizer, bank):
    adds = Tokenizer.from_str(tokenizer.to_str())
    end = adds.token_to_id("<|endoftext|>")
    adds.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", end)]
    )
    check(adds, bank)


@pytest.mark.parametrize(
    ("token", "match"),
    [
        (AddedToken("<image>", rstrip=True), r"image>\\nThe grid.* becomes '.*image>The grid"),
        (AddedToken("<image>", lstrip=True), r"image>\\n<image.* becomes '.*image><image"),
    ],
)
def test_an_image_token_that_takes_spaces_is_refused(tokenizer, bank, token, match):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_special_tokens([token])
    if token.lstrip:  # takes the line break before it
        spec = GridConfig(rows=2, cols=2, picture={"layout": "multi"})
    else:
        spec = GridConfig(rows=2, cols=2)
    with pytest.raises(UserError, match=match):
        check(other, bank, spec, "image")


def test_an_image_token_that_is_split_is_refused(bank, tokenizer):
    table = PieceTable(Tokenizer.from_str(tokenizer.to_str()))
    table.tokenizer.encode_special_tokens = True
    with pytest.raises(UserError, match=r"does not read .* as one token"):
        check_spelling(GridConfig(), TextView(), Renderer(bank, table))


@pytest.mark.parametrize(
    ("spec", "joined"),
    [
        ({"instructions": {"majority": 1.0}}, " tie\n"),
        ({"instructions": {"exists": 1.0}}, ": yes"),
        ({"instructions": {"locate": 1.0, "lookup": 1000.0}}, " none\n"),
        ({"augment": {"paraphrase": True}}, " by 2. Every"),
        ({"augment": {"paraphrase": True, "held_out": True}}, " rows and 2"),
        ({"form": "coordinates"}, "(1, 1): truck"),
        ({"form": "latex"}, " truck \\\\"),
        ({"rows": 12, "cols": 1}, " 11,"),
        ({"augment": {"delimiters": ["|", "&"]}}, " & deer"),
        ({"rows": 4, "cols": 4, "instructions": {"count": 1.0}}, " 16\n"),
    ],
)
def test_rare_neighbours_are_checked_too(tokenizer, bank, spec, joined):
    """A token that crosses one border between pieces, which few documents have."""
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_tokens([joined])
    whole = GridConfig.model_validate({"rows": 2, "cols": 2, **spec})
    with pytest.raises(UserError, match="reads"):
        check(other, bank, whole)
    check(tokenizer, bank, whole)


def test_every_class_is_checked(bank):
    """The last of many classes, in every place in which a grid can name it."""
    names = tuple(f"thing {a}{b}" for a in "abcdefghijkl" for b in "abcdefghijkl")
    many = dataclasses.replace(
        bank,
        class_names=names,
        splits={
            split: dataclasses.replace(own, counts=own.counts.repeat(15)[: len(names)])
            for split, own in bank.splits.items()
        },
    )
    good = train_tokenizer(grid_texts(many), 400)
    check(good, many)
    for joined in ("', 'thing ll", "thing ll'", "thing ll |", "thing ll\n"):
        other = Tokenizer.from_str(good.to_str())
        other.add_tokens([joined])
        with pytest.raises(UserError, match=r"thing ll.* rename the class, or choose another"):
            check(other, many)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("3D cat", None),
        ("rock'n'roll", None),
        ("猫 と 犬", None),
        ("Ñandú", None),
        ("St. Bernard", None),
        ("cafe\u0301", None),
        ("cat!", "reads \"cat!', '\" as"),
        ("🐸", "reads \"🐸', '\" as"),
        ("<pad>", "class name '<pad>' is not kept: 'a <pad>.' becomes 'a .'"),
        ("an <image>", "class name 'an <image>' is not kept"),
        ("<|endoftext|>", "is not kept"),
    ],
)
def test_class_names_pass_or_are_refused_with_the_reason(bank, name, fault):
    named = dataclasses.replace(bank, class_names=(*bank.class_names[:-1], name))
    trained = train_tokenizer(grid_texts(named), 1024)
    if fault is None:
        check(trained, named)
        return
    with pytest.raises(UserError, match=f"{fault}.*; rename the class"):
        check(trained, named)


@pytest.mark.parametrize(
    ("normalizer", "name"),
    [
        (normalizers.NFC(), "cafe\u0301 bar"),
        (normalizers.NFKC(), "ﬁsh"),
        (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "café"),
    ],
)
def test_names_that_a_normalizer_changes_are_refused(tokenizer, bank, normalizer, name):
    named = dataclasses.replace(bank, class_names=(*bank.class_names[:-1], name))
    other = Tokenizer.from_str(tokenizer.to_str())
    other.normalizer = normalizer
    check(other, bank)
    with pytest.raises(UserError, match=r"class name .* is not kept: .* becomes"):
        check(other, named)
