"""Endings of short stories: one follows from the story, the other one contradicts it."""

from itertools import combinations, permutations
from typing import ClassVar

from gpt2v.eval.language.pairs.base import Item, Phenomenon, Slots
from gpt2v.eval.language.pairs.words import NAMES, Person, first_upper
from gpt2v.registry import PHENOMENA

_THINGS = (
    "ball", "doll", "book", "hat", "kite", "toy", "boat", "drum", "bike", "cookie", "flower",
    "puzzle",
)  # fmt: skip
_ANIMALS = ("cat", "dog", "bird", "rabbit", "frog", "duck", "horse", "pig")
_ROOMS = ("kitchen", "garden", "barn", "forest", "bedroom", "yard")
_EVENTS = (  # something good, and something bad
    ("found a new friend", "lost {his} best friend"),
    ("got a big gift", "broke {his} new toy"),
    ("won the race", "lost the race"),
    ("ate a yummy cake", "dropped {his} yummy cake"),
    ("found {his} lost kitten", "could not find {his} kitten"),
    ("got a hug from mom", "fell and hurt {his} knee"),
    ("played with {his} friends all day", "had nobody to play with"),
    ("saw a pretty rainbow", "saw a scary monster"),
)
_EMOTIONS = (("happy", "sad"), ("glad", "upset"), ("cheerful", "unhappy"))


class _Story(Phenomenon):
    family = "story"


@PHENOMENA.register("story-giving")
class Giving(_Story):
    """Who is given something has it. `Tom gave the ball to Lily. Now Lily/Tom has the ball.`"""

    slots: ClassVar[Slots] = {
        "people": tuple(combinations(NAMES, 2)),
        "thing": _THINGS,
        "ending": (
            "Now _ has the {}.",
            "Now the {} belongs to _.",
            "After that, the {} was with _.",
        ),
    }

    def item(self, people: tuple[Person, Person], thing: str, ending: str) -> Item:
        first, second = (
            f"{giver} had a {thing}. {giver} gave the {thing} to {taker}. {ending.format(thing)}"
            for giver, taker in (people, people[::-1])
        )
        return Item((first, second), (str(people[1]), str(people[0])))


@PHENOMENA.register("story-wish")
class Wish(_Story):
    """A wish comes true. `Lily had a hat. She wished for a book. ... She got a book/hat.`"""

    slots: ClassVar[Slots] = {
        "person": NAMES,
        "things": tuple(combinations(_THINGS, 2)),
        "ending": (
            "{He} got a _.",
            "{He} was happy with {his} new _.",
            "Now there was a new _ in {his} room.",
        ),
    }

    def item(self, person: Person, things: tuple[str, str], ending: str) -> Item:
        he, his = first_upper(person.he), person.his
        first, second = (
            f"{person} had a {owned}. {he} wished for a {wanted}. {first_upper(his)} wish came "
            f"true. {ending.format(He=he, his=his)}"
            for wanted, owned in (things, things[::-1])
        )
        return Item((first, second), things)


@PHENOMENA.register("story-emotion")
class Emotion(_Story):
    """Good things make happy, bad ones sad. `Tom won the race. He was very happy/sad.`"""

    slots: ClassVar[Slots] = {
        "person": NAMES,
        "events": _EVENTS,
        "emotions": _EMOTIONS,
        "ending": ("{} was very _.", "{} felt _."),
    }

    def item(
        self, person: Person, events: tuple[str, str], emotions: tuple[str, str], ending: str
    ) -> Item:
        end = ending.format(first_upper(person.he))
        good, bad = (f"{person} {event.format(his=person.his)}. {end}" for event in events)
        return Item((good, bad), emotions)


@PHENOMENA.register("story-place")
class Place(_Story):
    """Who is looked for is where it was. `The cat was in the barn and the dog was in the yard. Lily
    wanted to see the cat. She went to the barn/yard.`
    """

    slots: ClassVar[Slots] = {
        "person": NAMES,
        "animals": tuple(combinations(_ANIMALS, 2)),
        "rooms": tuple(permutations(_ROOMS, 2)),
    }

    def item(self, person: Person, animals: tuple[str, str], rooms: tuple[str, str]) -> Item:
        places = " and ".join(
            f"the {animal} was in the {room}" for animal, room in zip(animals, rooms, strict=True)
        )
        first, second = (
            f"{first_upper(places)}. {person} wanted to see the {animal}. "
            f"{first_upper(person.he)} went to the _."
            for animal in animals
        )
        return Item((first, second), rooms)
