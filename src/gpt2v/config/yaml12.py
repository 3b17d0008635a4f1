"""YAML 1.2 with the core schema, as plain Python values, and back.

PyYAML reads YAML 1.1, where `010` is 8, `1:30` is 90 and `yes` is true. Here only its parser is
used; what a scalar means is decided by the core schema
(https://yaml.org/spec/1.2.2/#103-core-schema), and U+0085, U+2028 and U+2029 end no lines. Anchors,
aliases and merge keys (`<<`) work. What is read is a tree: every alias is a copy.
"""

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from gpt2v.errors import UserError
from gpt2v.messages import one_line, shown

_MOST_VALUES = 100_000  # of a document; an alias counts each time
_DEEPEST = 100  # lists and mappings inside each other
_LONGEST_NUMBER = 1000  # characters; Python refuses to print much longer ones
_STANDARD = "tag:yaml.org,2002:"
_PATTERNS = {
    "null": re.compile(r"null|Null|NULL|~|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
}
_FIRST = {"int": "-+0123456789", "float": "-+.0123456789"}  # characters that they can begin with
_SURROGATE = re.compile("[\ud800-\udfff]")
_OLD_BREAKS = "\x85\u2028\u2029"  # ends of lines in YAML 1.1; characters like others in YAML 1.2
_BLANK = re.compile("[ \t]*[#\r\n\0]")  # the rest of a line; NUL: the end of the text


class _Loader(yaml.SafeLoader):
    """Reads tabs between tokens, as in JSON with tabs; at the start of a line they are none."""

    def scan_to_next_token(self) -> None:
        """Skip spaces, tabs, comments and line breaks."""
        super().scan_to_next_token()
        while self.peek() == "\t" and self._may_be_tab():
            self.forward()
            super().scan_to_next_token()

    def _may_be_tab(self) -> bool:
        before = self.buffer[self.pointer - self.column : self.pointer]
        is_rest = _BLANK.match(self.buffer, self.pointer) is not None
        return bool(self.flow_level or before.strip() or is_rest)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around strings that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write what occurs twice twice."""
        return True


for _name, _first in _FIRST.items():
    _Dumper.add_implicit_resolver(
        _STANDARD + _name, re.compile(f"({_PATTERNS[_name].pattern})$"), list(_first)
    )


def dump_yaml(value: Any) -> str:
    """Plain values as YAML, which `read_yaml` and YAML 1.1 read as the same values."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def read_yaml(text: str, origin: str) -> Any:
    """The value of a YAML document: None, bool, int, float, str, or lists and mappings of these.

    Args:
        origin: name of the file or option, for messages.

    Raises:
        UserError: the text is not valid YAML, or uses what a configuration cannot hold; names
            `origin` and the line.
    """
    try:
        return _Document(text).value()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{error.character:04X} is not allowed"
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = error.problem or "not YAML"
        if "'\\t'" in problem:
            problem = "a tab; use spaces for the indentation"
    except (ValueError, OverflowError):  # of the parser: chr(), int()
        line, problem = 0, "an escape or a directive has a number that is out of range"
    where = f" line {line}:" if line else ""
    raise UserError(f"{origin}:{where} not valid YAML: {one_line(problem, 300)}")


def plain_scalar(text: str) -> Any:
    """The value of a scalar without quotes: None, bool, int, float or str.

    Raises:
        ValueError: a number is too long or too large.
    """
    for kind, pattern in _PATTERNS.items():
        if pattern.fullmatch(text):
            return _value_as(kind, text)
    return text


def _value_as(kind: str, text: str) -> Any:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} characters is too long")
    if kind == "int":
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if text.lower().endswith(("inf", "nan")):
        return float(text.replace(".", ""))
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {shown(text)} is too large; infinity is .inf")
    return number


class _Document:
    """The events of PyYAML's parser, made into values."""

    def __init__(self, text: str) -> None:
        stand_ins = _stand_ins(text)
        self._meant = {stand_in: break_ for break_, stand_in in stand_ins.items()}
        self._events: Iterator[Any] = yaml.parse(text.translate(stand_ins), _Loader)
        self._anchors: dict[str, list[Any]] = {}  # name -> [value]; []: its value is not complete
        self._count = 0

    def value(self) -> Any:
        next(self._events)  # the stream starts
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            return None
        if start.version not in (None, (1, 2)):
            _refuse(start, "only YAML 1.2 is read; remove the line with %YAML")
        value = self._value(next(self._events), 0)
        next(self._events)  # the document ends
        end = next(self._events)
        if not isinstance(end, yaml.StreamEndEvent):
            _refuse(end, "a second document begins here; one is expected")
        return value

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._copy(self._anchored(event), event, depth)
        self._add(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = []
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            event.value = event.value.translate(self._meant)
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            _check_tag(event, "seq")
            value = [self._value(inner, depth + 1) for inner in self._until(yaml.SequenceEndEvent)]
        else:
            _check_tag(event, "map")
            value = self._mapping(depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = [value]
        return value

    def _mapping(self, depth: int) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: list[dict[Any, Any]] | None = None
        for event in self._until(yaml.MappingEndEvent):
            if isinstance(event, yaml.CollectionStartEvent):
                is_list = isinstance(event, yaml.SequenceStartEvent)
                what = "a list" if is_list else "a mapping (a template that was not filled in?)"
                _refuse(event, f"a key must be a single value, not {what}")
            is_merge = isinstance(event, yaml.ScalarEvent) and _is_merge(event)
            key = "<<" if is_merge else self._value(event, depth)
            if isinstance(key, list | dict):  # an alias
                _refuse(event, "a key must be a single value, not a list or a mapping")
            if (merged is not None) if is_merge else (key in own):
                _refuse(event, f"{one_line(str(key), 100)} is given twice")
            value = self._value(next(self._events), depth)
            if not is_merge:
                own[key] = value
                continue
            merged = value if isinstance(value, list) else [value]
            if not all(isinstance(one, dict) for one in merged):
                _refuse(event, "<< needs a mapping, or a list of mappings")
        result: dict[Any, Any] = {}
        for one in reversed(merged or []):  # the first has precedence
            result |= one
        return result | own

    def _until(self, end: type[Any]) -> Iterator[Any]:
        """The events that begin the parts of a list or mapping."""
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _anchored(self, event: Any) -> Any:
        found = self._anchors.get(event.anchor)
        if found is None:
            _refuse(
                event, f"*{event.anchor} is an alias of nothing; put it in quotes if it is text"
            )
        if not found:
            _refuse(event, f"*{event.anchor} is an alias of something that it is a part of")
        return found[0]

    def _copy(self, value: Any, event: Any, depth: int) -> Any:
        self._add(event, depth)
        if isinstance(value, dict):
            return {key: self._copy(inner, event, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._copy(inner, event, depth + 1) for inner in value]
        return value

    def _add(self, event: Any, depth: int) -> None:
        """Count one more value: a small text with aliases of aliases can have billions."""
        self._count += 1
        if self._count > _MOST_VALUES:
            _refuse(event, f"more than {_MOST_VALUES:,} values (an alias counts each time)")
        if depth > _DEEPEST:
            _refuse(event, f"lists and mappings inside each other, more than {_DEEPEST} deep")


def _stand_ins(text: str) -> dict[int, int]:
    """Characters that PyYAML takes for ends of lines -> others that the text does not have."""
    if not any(break_ in text for break_ in _OLD_BREAKS):
        return {}
    private = range(0x10FFFD, 0x100000, -1)  # neither as they are nor as an escape
    free = (n for n in private if chr(n) not in text and f"{n:08x}" not in text.lower())
    return dict(zip(map(ord, _OLD_BREAKS), free, strict=False))


def _scalar(event: Any) -> Any:
    tag, text = _short_tag(event), event.value
    kind = tag.removeprefix("!!")
    try:
        if tag == "" and event.implicit[0]:  # without quotes
            return plain_scalar(text)
        if kind in _PATTERNS:
            if not _PATTERNS[kind].fullmatch(text):
                raise ValueError(f"{shown(text)} is no {tag}")
            return _value_as(kind, text)
    except ValueError as error:
        _refuse(event, str(error))
    _check_tag(event, "str")
    if _SURROGATE.search(text):  # two together are one character, as in JSON
        try:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            _refuse(event, "an escape of half a character (\\ud800 to \\udfff)")
    return text


def _is_merge(event: Any) -> bool:
    tag = _short_tag(event)
    return event.value == "<<" and ((tag == "" and event.implicit[0]) or tag == "!!merge")


def _short_tag(event: Any) -> str:
    """The tag, as it is written with `!!`; empty: there is none."""
    tag = str(event.tag or "")
    return tag.replace(_STANDARD, "!!", 1) if tag.startswith(_STANDARD) else tag


def _check_tag(event: Any, kind: str) -> None:
    tag = _short_tag(event)
    if tag not in ("", "!", f"!!{kind}"):
        _refuse(event, f"the tag {one_line(tag, 60)} has no meaning here; remove it")


def _refuse(event: Any, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
