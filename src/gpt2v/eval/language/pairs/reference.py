"""Reference: pronouns have the gender and the number of whom they mean."""

from typing import ClassVar

from gpt2v.eval.language.pairs.base import Item, Phenomenon, Slots
from gpt2v.eval.language.pairs.words import (
    MEN,
    NAME_COUPLES,
    NOUN_COUPLES,
    WOMEN,
    Noun,
    Person,
    first_upper,
)
from gpt2v.registry import PHENOMENA

Couple = tuple[Person, Person]

_TIMES = ("", "one day, ", "in the morning, ", "after lunch, ")
_REFLEXIVE = (
    "saw _ in the mirror",
    "looked at _ in the water",
    "hurt _ with a stick",
    "washed _ in the river",
    "told _ to be brave",
    "dressed _ for the party",
    "asked _ a question",
    "made _ a cup of tea",
    "taught _ to swim",
    "hid _ behind a tree",
    "warmed _ by the fire",
    "talked to _ in bed",
)
_EVENTS = (
    "went to the park",
    "found a red ball",
    "saw a big tree",
    "made a cake",
    "heard a loud noise",
    "opened the door",
    "walked to the lake",
    "sat on the grass",
    "climbed the hill",
    "looked out of the window",
)
_AFTERWARDS = (
    "was very happy",
    "wanted to play",
    "smiled and laughed",
    "said hello to a bird",
    "had a lot of fun",
    "ran home",
    "felt a little tired",
    "liked the sun",
)


class _Reference(Phenomenon):
    family = "reference"


@PHENOMENA.register("reference-reflexive-gender")
class ReflexiveGender(_Reference):
    """A reflexive has the gender of its subject. `The girl saw herself/himself in the mirror.`"""

    slots: ClassVar[Slots] = {
        "couple": NOUN_COUPLES + NAME_COUPLES,
        "phrase": _REFLEXIVE,
        "time": _TIMES,
    }

    def item(self, couple: Couple, phrase: str, time: str) -> Item:
        one, other = (first_upper(f"{time}{person} {phrase}.") for person in couple)
        return Item((one, other), (couple[0].himself, couple[1].himself))


@PHENOMENA.register("reference-reflexive-number")
class ReflexiveNumber(_Reference):
    """A reflexive has the number of its subject. `The girls saw themselves/herself in bed.`"""

    slots: ClassVar[Slots] = {
        "noun": WOMEN + MEN,
        "phrase": _REFLEXIVE,
        "time": _TIMES,
    }

    def item(self, noun: Noun, phrase: str, time: str) -> Item:
        one, many = (first_upper(f"{time}the {form} {phrase}.") for form in (noun.one, noun.many))
        return Item((one, many), (noun.itself, "themselves"))


class _Pronoun(_Reference):
    def item(self, couple: Couple, event: str, afterwards: str) -> Item:
        one, other = (first_upper(f"{person} {event}. _ {afterwards}.") for person in couple)
        return Item((one, other), (first_upper(couple[0].he), first_upper(couple[1].he)))


@PHENOMENA.register("reference-pronoun-name")
class PronounOfName(_Pronoun):
    """A pronoun has the gender of a name. `Lily went to the park. She/He was very happy.`"""

    slots: ClassVar[Slots] = {"couple": NAME_COUPLES, "event": _EVENTS, "afterwards": _AFTERWARDS}


@PHENOMENA.register("reference-pronoun-noun")
class PronounOfNoun(_Pronoun):
    """A pronoun has the gender of a noun. `The queen went to the park. She/He was very happy.`"""

    slots: ClassVar[Slots] = {"couple": NOUN_COUPLES, "event": _EVENTS, "afterwards": _AFTERWARDS}
