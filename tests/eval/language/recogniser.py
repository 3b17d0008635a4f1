"""A recogniser of the sentences and short stories in minimal pairs, with a lexicon of its own.

It reads a text from the left to the right, sentence by sentence, and knows nothing of how pairs
are made. A sentence is a clause (subject, verb, rest) whose parts must agree; what it says changes
a little world, which later sentences must not contradict.
"""

import re
from dataclasses import dataclass, field


def words_of(text: str) -> set[str]:
    return set(text.split())


PLURALS = {
    "fox": "foxes", "mouse": "mice", "child": "children", "woman": "women", "man": "men",
    "princess": "princesses",
}  # fmt: skip
REGULAR = (
    "dog cat bird bear rabbit frog duck horse cow pig monkey lion boy girl king queen friend "
    "mother father sister brother prince grandma grandpa mom dad ball cake tree noise door lake "
    "grass hill window park garden house kitchen forest beach apple mirror water stick party "
    "question cup tea fire bed river home sun morning lunch time"
)
SINGULAR = words_of(REGULAR) | PLURALS.keys()
PLURAL = {PLURALS.get(noun, f"{noun}s") for noun in SINGULAR}
FEMALE = {"girl", "woman", "mother", "queen", "princess", "sister", "grandma", "mom"}
MALE = {"boy", "man", "father", "king", "prince", "brother", "grandpa", "dad"}
GENDER = {
    **dict.fromkeys(words_of("Lily Mia Sara Anna Lucy Emma Amy Jane"), "f"),
    **dict.fromkeys(words_of("Tom Ben Max Tim Jack Bob John Leo"), "m"),
    **{form: "f" for noun in FEMALE for form in (noun, PLURALS.get(noun, f"{noun}s"))},
    **{form: "m" for noun in MALE for form in (noun, PLURALS.get(noun, f"{noun}s"))},
    "she": "f",
    "he": "m",
}
ADJECTIVES = words_of("little big old young funny kind small clever red loud happy tired brave")
FOR_ONE = words_of("was is has plays runs likes wants sleeps jumps eats")
FOR_MANY = words_of("were are have play run like want sleep jump eat")
PAST = words_of(
    "saw liked helped found followed loved looked hurt washed told dressed asked made taught hid "
    "warmed talked went heard opened walked sat climbed wanted smiled said had ran felt"
)
DETERMINERS = {"this": 1, "that": 1, "these": 2, "those": 2, "a": 1, "an": 1, "the": 0}
REFLEXIVES = {"himself": (1, "m"), "herself": (1, "f"), "themselves": (2, None)}
PREPOSITIONS = {"near", "behind", "next to", "in front of"}
FUNCTION = words_of(
    "in at on to of by with under behind and out very fast up down not after for a "
    "lot fun hello be sing go home play swim laughed day bit"
)
GOOD_EVENTS = {
    "found a new friend", "got a big gift", "won the race", "ate a yummy cake",
    "found POSS lost kitten", "got a hug from mom", "played with POSS friends all day",
    "saw a pretty rainbow",
}  # fmt: skip
BAD_EVENTS = {
    "lost POSS best friend", "broke POSS new toy", "lost the race", "dropped POSS yummy cake",
    "could not find POSS kitten", "fell and hurt POSS knee", "had nobody to play with",
    "saw a scary monster",
}  # fmt: skip
FEELINGS = {
    **dict.fromkeys(("happy", "glad", "cheerful"), 1),
    **dict.fromkeys(("sad", "upset", "unhappy"), -1),
}
THINGS = words_of("ball doll book hat kite toy boat drum bike cookie flower puzzle")


class Rejected(Exception):
    """The text is not well formed, or contradicts itself."""


@dataclass
class World:
    """What the sentences before have said."""

    person: str | None = None  # who `he` or `she` is
    owner: dict[str, str] = field(default_factory=dict)
    wish: str | None = None
    mood: int = 0
    room: dict[str, str] = field(default_factory=dict)
    sought: str | None = None


def accepts(text: str) -> bool:
    """Whether a text is grammatical and coherent."""
    world = World()
    try:
        if not re.fullmatch(r"(?:[A-Z][^.A-Z]*(?:[A-Z][^.A-Z]*)*\.)(?: [A-Z][^.]*\.)*", text):
            return False
        for sentence in text[:-1].split(". "):
            _read(sentence, world)
    except Rejected:
        return False
    return True


def _read(sentence: str, world: World) -> None:
    for pattern, rule in RULES:
        found = re.fullmatch(pattern, sentence)
        if found:
            rule(world, *found.groups())
            return
    _clause(sentence, world)


def _same(one: object, other: object) -> None:
    if one != other:
        raise Rejected


def _resolve(word: str, world: World) -> str:
    """The person that a name or a pronoun means."""
    if word in ("He", "She"):
        if world.person is None:
            raise Rejected
        _same(GENDER[world.person], GENDER[word.lower()])
        return world.person
    if word not in GENDER:
        raise Rejected
    world.person = word
    return word


def _possessive(word: str, world: World) -> None:
    _same({"his": "m", "her": "f"}[word.lower()], GENDER[world.person or "he"])


# ---- stories -------------------------------------------------------------------------------------


def _had(world: World, who: str, thing: str) -> None:
    if thing not in THINGS:
        raise Rejected
    world.owner[thing] = _resolve(who, world)


def _gave(world: World, who: str, thing: str, to: str) -> None:
    _same(world.owner.get(thing), who)
    if to not in GENDER or to == who:
        raise Rejected
    world.owner[thing] = to


def _has(world: World, who: str, thing: str) -> None:
    _same(world.owner.get(thing), who)


def _is_of(world: World, thing: str, who: str) -> None:
    _same(world.owner.get(thing), who)


def _wished(world: World, who: str, thing: str) -> None:
    if thing not in THINGS or thing in world.owner:
        raise Rejected
    _resolve(who, world)
    world.wish = thing


def _came_true(world: World, possessive: str) -> None:
    _possessive(possessive, world)
    if world.wish is None:
        raise Rejected


def _got(world: World, who: str, thing: str) -> None:
    _resolve(who, world)
    _same(world.wish, thing)


def _new(world: World, who: str, possessive: str, thing: str) -> None:
    _possessive(possessive, world)
    _got(world, who, thing)


def _in_room(world: World, thing: str, possessive: str) -> None:
    _possessive(possessive, world)
    _same(world.wish, thing)


def _event(world: World, who: str, words: str) -> None:
    _resolve(who, world)
    for possessive in re.findall(r"\b(?:his|her)\b", words):
        _possessive(possessive, world)
    general = re.sub(r"\b(?:his|her)\b", "POSS", words)
    world.mood = 1 if general in GOOD_EVENTS else -1


def _feels(world: World, who: str, feeling: str) -> None:
    _resolve(who, world)
    if world.mood:
        _same(FEELINGS[feeling], world.mood)


def _where(world: World, one: str, room: str, other: str, other_room: str) -> None:
    if one == other or room == other_room:
        raise Rejected
    world.room |= {one: room, other: other_room}


def _seeks(world: World, who: str, sought: str) -> None:
    _resolve(who, world)
    world.sought = sought


def _goes(world: World, who: str, room: str) -> None:
    _resolve(who, world)
    _same(world.room[world.sought or ""], room)


EVENT = "|".join(event.replace("POSS", "(?:his|her)") for event in GOOD_EVENTS | BAD_EVENTS)
RULES = (
    (rf"(\w+) had a ({'|'.join(THINGS)})", _had),
    (r"(\w+) gave the (\w+) to (\w+)", _gave),
    (r"Now (\w+) has the (\w+)", _has),
    (r"Now the (\w+) belongs to (\w+)", _is_of),
    (r"After that, the (\w+) was with (\w+)", _is_of),
    (r"(\w+) wished for a (\w+)", _wished),
    (r"(\w+) wish came true", _came_true),
    (rf"(\w+) got a ({'|'.join(THINGS)})", _got),
    (r"(\w+) was happy with (\w+) new (\w+)", _new),
    (r"Now there was a new (\w+) in (\w+) room", _in_room),
    (rf"(\w+) ({EVENT})", _event),
    (rf"(He|She) (?:was very|felt) ({'|'.join(FEELINGS)})", _feels),
    (r"The (\w+) was in the (\w+) and the (\w+) was in the (\w+)", _where),
    (r"(\w+) wanted to see the (\w+)", _seeks),
    (r"(\w+) went to the (kitchen|barn|forest|bedroom|yard|garden)", _goes),
)


# ---- clauses -------------------------------------------------------------------------------------


def _clause(sentence: str, world: World) -> None:
    """[Time,] subject verb rest."""
    words = re.sub(r"^(?:One day|In the morning|After lunch), ", "", sentence).split()
    if words[0] in GENDER or words[0] in ("He", "She"):
        person = _resolve(words[0], world)
        number, gender, rest = 1, GENDER[person], words[1:]
    else:
        number, noun, rest = _noun_phrase([words[0].lower(), *words[1:]])
        gender = GENDER.get(noun)
        world.person = noun if gender and number == 1 else None
        rest = _modifier(rest)
    if not rest:
        raise Rejected
    verb, *rest = rest
    if not (verb in PAST or verb in (FOR_ONE if number == 1 else FOR_MANY)):
        raise Rejected
    while rest:
        if rest[0] in REFLEXIVES:
            _same(REFLEXIVES[rest[0]][0], number)
            _same(REFLEXIVES[rest[0]][1] or gender, gender)
            rest = rest[1:]
        elif rest[0] in DETERMINERS and not (rest[0] == "a" and rest[1] in ("lot", "little")):
            *_, rest = _noun_phrase(rest)
        elif rest[0] in FUNCTION | ADJECTIVES | SINGULAR:
            rest = rest[1:]
        else:
            raise Rejected


def _noun_phrase(words: list[str]) -> tuple[int, str, list[str]]:
    """Number and noun of the phrase that the words begin with, and the words after it."""
    determiner, *rest = words
    if determiner not in DETERMINERS:
        raise Rejected
    while rest and rest[0] in ADJECTIVES:
        rest = rest[1:]
    if not rest or rest[0] not in SINGULAR | PLURAL:
        raise Rejected
    number = 1 if rest[0] in SINGULAR else 2
    _same(DETERMINERS[determiner] or number, number)
    return number, rest[0], rest[1:]


def _modifier(words: list[str]) -> list[str]:
    """The words after a prepositional phrase or a relative clause, if they begin with one."""
    for size in (3, 2, 1):
        if " ".join(words[:size]) in PREPOSITIONS:
            return _noun_phrase(words[size:])[2]
    if words[:1] == ["that"]:
        if words[1] not in PAST:
            raise Rejected
        return _noun_phrase(words[2:])[2]
    return words
