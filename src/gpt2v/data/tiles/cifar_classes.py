"""The class names of a data set in several files, which may number the classes differently."""

from collections.abc import Sequence

import numpy as np

from gpt2v.data.rng import Ints
from gpt2v.errors import UserError

Names = tuple[str, ...]  # the name of each label; empty: none are given


def agreed_names(named: Sequence[tuple[str, Names]], fallback: Names = ()) -> Names:
    """The class names of all files, in the order of the first one.

    Args:
        named: each file, for error messages, and its class names.
        fallback: the names of a file that has none.

    Raises:
        UserError: a file names one class twice or other classes than the first, or has no names
            while those of another file are not the fallback.
    """
    first, names = named[0][0], named[0][1] or fallback
    nameless = next((where for where, own in named if not own), None)
    for where, own in named:
        twice = [name for i, name in enumerate(own) if name in own[:i]]
        if twice:
            raise UserError(f"tiles.path: {where}: names the class '{twice[0]}' twice")
        if nameless is not None and own not in ((), fallback):
            raise UserError(
                f"tiles.path: {nameless}: its metadata name no classes, but those of {where} do; "
                "which classes its labels stand for is not known"
            )
        if set(own or fallback) != set(names):
            only = sorted(set(own) ^ set(names))[0]
            has, lacks = (where, first) if only in own else (first, where)
            raise UserError(
                f"tiles.path: {has}: has the class '{only}', which {lacks} has not; all files must "
                "name the same classes"
            )
    return names


def relabelled(labels: Ints, own: Names, names: Names) -> Ints:
    """Labels (n,) that number the classes `own`, as numbers of the same classes in `names`.

    Labels out of range stay as they are.
    """
    if own == names:
        return labels
    number = np.array([names.index(name) for name in own], np.int64)
    known = (labels >= 0) & (labels < len(own))
    return np.where(known, number[np.where(known, labels, 0)], labels)


def names_of_lines(lines: Sequence[str], where: str) -> Names:
    """Class names from the lines of a text file; the number of a line is the label.

    Raises:
        UserError: a line between the names is empty, or a name is there twice.
    """
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise UserError(
            f"tiles.path: {where}: line {names.index('') + 1} is empty; each line must name the "
            "class of its label"
        )
    return agreed_names([(where, tuple(names))])
