"""Minimal pairs are grammatical, balanced, different and drawn as told."""

from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recogniser import accepts

from gpt2v.config.language import families
from gpt2v.errors import UserError
from gpt2v.eval.language.pairs.agreement import Simple
from gpt2v.eval.language.pairs.base import Item, Pair, Phenomenon, Slots, draw, pairs_of
from gpt2v.eval.language.pairs.story import Giving
from gpt2v.registry import PHENOMENA

names = pytest.mark.parametrize("name", list(PHENOMENA))


def phenomenon(name: str) -> Phenomenon:
    return PHENOMENA[name].load()()


def faults(pairs) -> list[Pair]:
    """The pairs whose good sentence is refused, or whose bad one is accepted."""
    return [pair for pair in pairs if not accepts(pair.good) or accepts(pair.bad)]


# ---- grammatical by construction -----------------------------------------------------------------


@names
@given(data=st.data())
def test_an_independent_recogniser_tells_good_from_bad(name, data):
    """It parses the sentences from scratch, with a lexicon of its own."""
    one = phenomenon(name)
    numbers = data.draw(st.lists(st.integers(0, one.n_items - 1), min_size=1, max_size=30))
    for number in numbers:
        assert faults(pairs_of(name, one, number)) == []


@names
def test_the_pairs_that_are_measured_are_grammatical(name):
    assert faults(draw(name, seed=1, n_pairs=200)) == []


class SwappedVerbs(Simple):
    """Has the verb forms of one predicate the wrong way round."""

    def item(self, adjective, noun, predicate):
        item = super().item(adjective, noun, predicate)
        swapped = predicate.many == "play"
        return Item(item.contexts, item.words[::-1] if swapped else item.words)


class WrongPlural(Simple):
    """Writes the plural of mouse as mouses."""

    def item(self, adjective, noun, predicate):
        item = super().item(adjective, noun, predicate)
        one, many = item.contexts
        return Item((one, many.replace("mice", "mouses")), item.words)


class GivesBack(Giving):
    """Lets the giver keep the thing in every story about a kite."""

    def item(self, people, thing, ending):
        item = super().item(people, thing, ending)
        return Item(item.contexts, item.words[::-1] if thing == "kite" else item.words)


@pytest.mark.parametrize(
    ("planted", "where"), [(SwappedVerbs, "play"), (WrongPlural, "mouses"), (GivesBack, "kite")]
)
def test_planted_faults_are_found(planted, where):
    one = planted()
    every = (p for number in range(one.n_items) for p in pairs_of("planted", one, number))
    found = faults(every)
    assert found
    assert all(where in pair.good + pair.bad for pair in found)


@pytest.mark.parametrize(
    "text",
    [
        "The dogs plays in the park.",
        "The dog that saw the cats were happy.",
        "Lily saw these dog in the park.",
        "The girl saw himself in the mirror.",
        "The girls saw herself in the mirror.",
        "Lily went to the park. He was very happy.",
        "Tom lost her best friend. He felt sad.",
        "Tom won the race. He was very upset.",
        "Tom had a hat. Tom gave the ball to Lily. Now Lily has the ball.",
        "the dog plays in the park.",
        "The dog quibbles in the park.",
        "The dog the plays.",
        "",
    ],
)
def test_the_recogniser_refuses(text):
    assert not accepts(text)


# ---- balance -------------------------------------------------------------------------------------


@names
def test_good_and_bad_differ_in_one_word(name):
    for pair in draw(name, 1, 100):
        good, bad = pair.good.rstrip(".").split(), pair.bad.rstrip(".").split()
        assert len(good) == len(bad)
        assert sum(a.strip(".") != b.strip(".") for a, b in zip(good, bad, strict=True)) == 1


@names
@given(seed=st.integers(0, 10**6), half=st.integers(1, 30))
def test_each_word_is_right_as_often_as_wrong(name, seed, half):
    """So whoever knows only how frequent words are is right in exactly half of the pairs."""
    pairs = list(draw(name, seed, 2 * half))
    good = Counter(word for pair in pairs for word in pair.good.replace(".", " .").split())
    bad = Counter(word for pair in pairs for word in pair.bad.replace(".", " .").split())
    assert good == bad
    value = {word: np.random.default_rng([seed, i]).random() for i, word in enumerate(sorted(good))}

    def likely(text: str) -> float:
        return sum(value[word] for word in sorted(text.replace(".", " .").split()))

    right = sum(likely(pair.good) > likely(pair.bad) for pair in pairs)
    assert 2 * right == len(pairs)


# ---- drawn ---------------------------------------------------------------------------------------


@names
def test_no_pair_comes_twice(name):
    one = phenomenon(name)
    every = [p for number in range(one.n_items) for p in pairs_of(name, one, number)]
    assert len({(pair.good, pair.bad) for pair in every}) == len(every) == 2 * one.n_items
    assert len({pair.good for pair in every}) == len(every)
    assert len({pair.item for pair in draw(name, 3, 300)}) == 150


@given(seed=st.integers(0, 99), few=st.integers(1, 20), more=st.integers(0, 20))
def test_a_pair_is_a_function_of_seed_phenomenon_and_number(seed, few, more):
    first = list(draw("story-wish", seed, 2 * few))
    assert list(draw("story-wish", seed, 2 * (few + more)))[: 2 * few] == first
    assert all(pair.phenomenon == "story-wish" and pair.family == "story" for pair in first)


def test_seeds_and_phenomena_have_orders_of_their_own():
    one, other = ([p.item for p in draw("agreement-simple", s, 200)] for s in (1, 2))
    assert one != other
    pronouns = [[p.item for p in draw(f"reference-pronoun-{n}", 1, 200)] for n in ("name", "noun")]
    assert pronouns[0] != pronouns[1]


def test_more_pairs_than_there_are_is_one_line():
    with pytest.raises(UserError, match="agreement-simple has only 3,840 different pairs, not 4"):
        list(draw("agreement-simple", 1, 4000))


def test_the_families_are_those_of_the_names():
    assert families() == ["agreement", "reference", "story"]
    assert all(name.startswith(f"{phenomenon(name).family}-") for name in PHENOMENA)


def test_a_context_has_one_gap():
    class NoGap(Phenomenon):
        family = "own"
        slots: ClassVar[Slots] = {"word": ("a", "b")}

        def item(self, word):
            return Item((f"{word} _.", f"{word}."), ("x", "y"))

    with pytest.raises(UserError, match=r"pairs: own: 'a\.' must have one gap, _"):
        list(pairs_of("own", NoGap(), 0))
