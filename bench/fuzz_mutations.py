"""Seeded damage to files: to bytes, to text, to the values of YAML and JSON, and to folders."""

import copy
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 2.5, 1e-3, -0.5, math.inf, math.nan, 2**62, 2**63,
    -(10**40), "", " ", "x", "é☃", "no", "010", "1:30", "2024-02-30", "1e3", "null", "~nobody/x",
    "../x", "a\nb", "\x1b[31m", "x" * 5000, [], {}, [1], [[]], {"a": 1}, {"name": "x"}, [3, 2],
    ["x", "x"],
)  # fmt: skip
ODD_LINES = (
    "{{ rows }}", "x: {{ rows }}", "\tx: 1", "? [a, b]\n: 1", "x: &a [*a]", "x: *nothing", "---",
    "x: !!int abc", "x: !!python/object/apply:os.getcwd []", "x: 2024-02-30", "x: 'open", "...",
    "seed: 010", "seed: 1:30", "seed: 0x1F", "seed: 0o17", "seed: 1_000", "seed: yes", "seed: ~",
    "seed: 12e0", "%YAML 1.1", "x: |", "[" * 3000, "null: 1", "1: 2", "true: x", "<<: {seed: 3}",
    "\ufeff", "\x00", "\x85", "\u2028", "# é", "- 1", ":", "x: !!binary aGk=", "x: !mine 1",
    "a: &a [1, 1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
                             for a, b in zip("abcdefghi", "bcdefghij", strict=True)),
)  # fmt: skip
SUFFIXES = (".png", ".jpg", ".PNG", ".gif", ".tiff", ".txt", ".json", ".gz", ".bak", "", ".parquet")


def damage_bytes(content: bytes, draw: Random) -> bytes:
    """Flip, cut, insert, repeat or replace some bytes."""
    kind = draw.randrange(7)
    at = draw.randrange(len(content) + 1)
    if draw.random() < 0.5:  # headers are short, and more can go wrong there
        at = min(at, draw.randrange(200))
    length = draw.choice((1, 4, 50, 1000))
    piece = content[at : at + length]
    if kind == 0:
        flipped = bytes(b ^ (1 << draw.randrange(8)) for b in piece[:4])
        return content[:at] + flipped + content[at + len(flipped) :]
    if kind == 1:
        return content[:at]
    if kind == 2:
        return content[:at] + content[at + length :]
    if kind == 3:
        return content[:at] + draw.randbytes(length) + content[at:]
    if kind == 4:
        return content[:at] + piece + content[at:]
    if kind == 5:
        return content[:at] + bytes(len(piece)) + content[at + len(piece) :]
    return draw.choice((b"", b"\0", b"\xff\xfe", b"{}", b"[]", b"null", draw.randbytes(64)))


def damage_text(text: str, draw: Random) -> str:
    """Move, remove, repeat, indent or add lines, or change a character."""
    lines = text.split("\n")
    at = draw.randrange(len(lines))
    kind = draw.randrange(6)
    if kind == 0:
        lines.insert(at, " " * draw.choice((0, 0, 2, 4)) + draw.choice(ODD_LINES))
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines.insert(at, lines[draw.randrange(len(lines))])
    elif kind == 3:
        lines[at] = draw.choice((" ", "  ", "\t")) + lines[at]
    elif kind == 4 and lines[at]:
        where = draw.randrange(len(lines[at]))
        sign = draw.choice("{}[]:,&*!|>'\"%@`#?- \t~0é\r")
        lines[at] = lines[at][:where] + sign + lines[at][where + draw.randrange(2) :]
    else:
        lines[at] = lines[at] + draw.choice((" #2", " # é", ":", ",", "]", "\r"))
    return "\n".join(lines)


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values below a tree, outermost first."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from nodes(value, (*path, key))


def damage_tree(tree: Any, draw: Random, keep: frozenset[str] = frozenset()) -> Any:
    """Replace, remove, rename, add, swap or copy values.

    Args:
        keep: keys that stay in the tree, because a default would make the work long.
    """
    tree = copy.deepcopy(tree)
    paths = list(nodes(tree))
    if not paths:
        return draw.choice(ODD_VALUES)
    path = draw.choice(paths)
    parent = _at(tree, path[:-1])
    kind = draw.randrange(8)
    if kind < 4:
        parent[path[-1]] = draw.choice(ODD_VALUES)
    elif kind == 4 and not keep & {str(k) for p in paths if p[: len(path)] == path for k in p}:
        del parent[path[-1]]
    elif kind == 5 and isinstance(parent, dict):
        parent[draw.choice(("x", "", "Seed", f"{path[-1]}s", f" {path[-1]}"))] = draw.choice(
            (1, parent[path[-1]])
        )
    elif kind == 6:
        other = draw.choice(paths)
        parent[path[-1]] = copy.deepcopy(_at(tree, other))
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(parent[path[-1]]))
    elif isinstance(parent[path[-1]], int | float):
        parent[path[-1]] *= draw.choice((-1, 2, 0.5, 1.5))
    return tree


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def damage_yaml(content: bytes, draw: Random, keep: frozenset[str]) -> bytes:
    """Damage the values, the text or the bytes of a YAML file."""
    how = draw.random()
    if how < 0.6:
        tree = damage_tree(yaml.safe_load(content), draw, keep)
        text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)
        return text.encode("utf-8", "surrogatepass")
    if how < 0.9:
        return damage_text(content.decode(), draw).encode()
    return damage_bytes(content, draw)


def damage_json(content: bytes, draw: Random, keep: frozenset[str]) -> bytes:
    """Damage the values or the bytes of a JSON file."""
    try:
        tree = json.loads(content)
    except ValueError:
        return damage_bytes(content, draw)
    if draw.random() < 0.7 and isinstance(tree, dict | list):
        return json.dumps(damage_tree(tree, draw, keep)).encode()
    return damage_bytes(content, draw)


def damage_file(path: Path, draw: Random, keep: frozenset[str] = frozenset()) -> str:
    """Damage the content of a file, by what its suffix says it is; returns what was done."""
    content = path.read_bytes()
    kinds: dict[str, Callable[..., bytes]] = {".yaml": damage_yaml, ".json": damage_json}
    if path.suffix in kinds:
        after = kinds[path.suffix](content, draw, keep)
    elif path.suffix in (".jsonl", ".txt") and draw.random() < 0.6:
        after = damage_text(content.decode(), draw).encode()
    else:
        after = damage_bytes(content, draw)
    path.write_bytes(after)
    return f"content of {path.name}"


def damage_folder(folder: Path, draw: Random) -> str:
    """Add, remove, rename, copy or replace an entry below a folder; returns what was done."""
    entries = sorted(folder.rglob("*"))
    entry = draw.choice(entries)
    kind = draw.randrange(9)
    name = str(entry.relative_to(folder))
    if kind == 0:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        return f"removed {name}"
    if kind == 1:
        new = entry.with_name(entry.stem + draw.choice(SUFFIXES))
        if not new.exists():
            entry.rename(new)
        return f"{name} renamed to {new.name!r}"
    if kind == 2:
        new = draw.choice([p for p in [folder, *entries] if p.is_dir()]) / draw.choice(
            ("copy.png", ".hidden", "a b", "é", "e\u0301", "x'y", "a|b", "README.md", "Thumbs.db")
        )
        if not (new.exists() or new.is_relative_to(entry)):
            (shutil.copytree if entry.is_dir() else shutil.copyfile)(entry, new)
        return f"{name} copied to {new.name!r}"
    if kind == 3:
        (folder / draw.choice(("link", "link.png", "link.txt"))).symlink_to(
            draw.choice(("nowhere", ".", name, "/dev/null"))
        )
        return "a link"
    if kind == 4:
        place = entry if entry.is_dir() else entry.parent
        (place / draw.choice((".DS_Store", "notes.txt", "x.png", "x.gif"))).write_bytes(
            draw.choice((b"", b"hello", draw.randbytes(100)))
        )
        return f"a file more in {place.name}"
    if kind == 5:
        name = draw.choice(("empty", ".empty", "__MACOSX", "train", "test"))
        (folder / name).mkdir(exist_ok=True)
        return "an empty folder"
    if kind == 6 and entry.is_file():
        entry.unlink()
        entry.mkdir()
        return f"{name} is a folder"
    if kind == 7 and entry.is_file():
        other = draw.choice([p for p in entries if p.is_file()])
        if other != entry:
            shutil.copyfile(other, entry)
        return f"{name} is now {other.relative_to(folder)}"
    bad = os.fsencode(entry.parent) + b"/\xff" + os.fsencode(entry.suffix)
    if not os.path.exists(bad):
        os.rename(entry, bad)
    return f"{name} has no UTF-8 name"
