"""Agreement in number: of a verb with its subject, of a noun with its determiner."""

from itertools import permutations
from typing import ClassVar

from gpt2v.eval.language.pairs.base import Item, Phenomenon, Slots
from gpt2v.eval.language.pairs.words import (
    ADJECTIVES,
    NAMES,
    NOUNS,
    PAST_VERBS,
    PLACES,
    PREDICATES,
    Noun,
    Person,
    Predicate,
)
from gpt2v.registry import PHENOMENA

_TWO_NOUNS = tuple(permutations(NOUNS, 2))


class _Agreement(Phenomenon):
    family = "agreement"


@PHENOMENA.register("agreement-simple")
class Simple(_Agreement):
    """The verb agrees with the subject before it. `The big dogs play/plays in the park.`"""

    slots: ClassVar[Slots] = {"adjective": ADJECTIVES, "noun": NOUNS, "predicate": PREDICATES}

    def item(self, adjective: str, noun: Noun, predicate: Predicate) -> Item:
        return _verbs(f"The {adjective} {noun.one}", f"The {adjective} {noun.many}", predicate)


@PHENOMENA.register("agreement-preposition")
class AcrossPreposition(_Agreement):
    """A noun of the other number is between. `The dogs near the cat play/plays in the park.`"""

    slots: ClassVar[Slots] = {
        "nouns": _TWO_NOUNS,
        "preposition": ("near", "behind", "next to", "in front of"),
        "predicate": PREDICATES,
    }

    def item(self, nouns: tuple[Noun, Noun], preposition: str, predicate: Predicate) -> Item:
        subject, other = nouns
        return _verbs(
            f"The {subject.one} {preposition} the {other.many}",
            f"The {subject.many} {preposition} the {other.one}",
            predicate,
        )


@PHENOMENA.register("agreement-relative")
class AcrossRelative(_Agreement):
    """A relative clause is between. `The dogs that saw the cat play/plays in the park.`"""

    slots: ClassVar[Slots] = {"nouns": _TWO_NOUNS, "verb": PAST_VERBS, "predicate": PREDICATES}

    def item(self, nouns: tuple[Noun, Noun], verb: str, predicate: Predicate) -> Item:
        subject, other = nouns
        return _verbs(
            f"The {subject.one} that {verb} the {other.many}",
            f"The {subject.many} that {verb} the {other.one}",
            predicate,
        )


@PHENOMENA.register("agreement-determiner")
class Determiner(_Agreement):
    """The noun agrees with its determiner. `Lily saw these dogs/dog in the park.`"""

    slots: ClassVar[Slots] = {
        "person": NAMES,
        "verb": PAST_VERBS,
        "determiners": (("this", "these"), ("that", "those")),
        "noun": NOUNS,
        "place": PLACES,
    }

    def item(
        self, person: Person, verb: str, determiners: tuple[str, str], noun: Noun, place: str
    ) -> Item:
        one, many = (f"{person} {verb} {determiner} _ {place}." for determiner in determiners)
        return Item((one, many), (noun.one, noun.many))


def _verbs(one: str, many: str, predicate: Predicate) -> Item:
    """The verb after a subject that is one, and after one that is many."""
    contexts = (f"{one} _ {predicate.rest}.", f"{many} _ {predicate.rest}.")
    return Item(contexts, (predicate.one, predicate.many))
