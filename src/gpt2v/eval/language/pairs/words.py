"""The words that minimal pairs are made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A noun that can be counted, and the reflexive of one."""

    one: str
    many: str
    itself: str

    def __str__(self) -> str:
        return self.one


@dataclass(frozen=True)
class Predicate:
    """A verb in the form for one and for many, and what follows it."""

    one: str
    many: str
    rest: str

    def __str__(self) -> str:
        return f"{self.many} {self.rest}"


@dataclass(frozen=True)
class Person:
    """Somebody, as a sentence begins with them, and the pronouns."""

    name: str
    he: str
    his: str
    himself: str

    def __str__(self) -> str:
        return self.name


def _female(name: str) -> Person:
    return Person(name, "she", "her", "herself")


def _male(name: str) -> Person:
    return Person(name, "he", "his", "himself")


def _nouns(words: str, itself: str = "itself") -> tuple[Noun, ...]:
    """Nouns from `mouse/mice`; a plural that is not given ends with s."""
    parts = (word.partition("/") for word in words.split())
    return tuple(Noun(one, many or f"{one}s", itself) for one, _, many in parts)


NOUNS = _nouns(
    "dog cat bird bear rabbit fox/foxes frog duck horse mouse/mice cow pig monkey lion boy girl "
    "king queen child/children friend"
)
ADJECTIVES = ("little", "big", "old", "young", "funny", "kind", "small", "clever")
PREDICATES = (
    Predicate("was", "were", "happy"),
    Predicate("was", "were", "in the garden"),
    Predicate("is", "are", "tired"),
    Predicate("is", "are", "in the house"),
    Predicate("has", "have", "a red ball"),
    Predicate("plays", "play", "in the park"),
    Predicate("runs", "run", "very fast"),
    Predicate("likes", "like", "to sing"),
    Predicate("wants", "want", "to go home"),
    Predicate("sleeps", "sleep", "under a tree"),
    Predicate("jumps", "jump", "up and down"),
    Predicate("eats", "eat", "an apple"),
)
PAST_VERBS = ("saw", "liked", "helped", "found", "followed", "loved")
PLACES = ("in the park", "in the garden", "at the beach", "in the forest", "on the hill")

GIRLS = tuple(map(_female, ("Lily", "Mia", "Sara", "Anna", "Lucy", "Emma", "Amy", "Jane")))
BOYS = tuple(map(_male, ("Tom", "Ben", "Max", "Tim", "Jack", "Bob", "John", "Leo")))
NAMES = GIRLS + BOYS
NAME_COUPLES = tuple(zip(GIRLS, BOYS, strict=True))

WOMEN = _nouns("girl woman/women mother queen princess/princesses sister grandma mom", "herself")
MEN = _nouns("boy man/men father king prince brother grandpa dad", "himself")
NOUN_COUPLES = tuple(
    (_female(f"the {woman}"), _male(f"the {man}")) for woman, man in zip(WOMEN, MEN, strict=True)
)


def first_upper(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[0].upper() + text[1:]
