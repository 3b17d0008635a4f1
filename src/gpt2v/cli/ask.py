"""`gpt2v ask`: ask a model about one grid, and show how probable each answer is."""

import argparse
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2v.cli.before_torch import check_model
from gpt2v.cli.overrides import Overrides, whole_number
from gpt2v.cli.running import hardware_options, no_fields, on_hardware
from gpt2v.errors import UserError
from gpt2v.hardware.memory import importing
from gpt2v.paths import expanded, expanded_text
from gpt2v.storage.files import reason

if TYPE_CHECKING:
    from gpt2v.ask.answers import Answer
    from gpt2v.ask.grids import Shown
    from gpt2v.ask.model import Model
    from gpt2v.data.render.examples import Example
    from gpt2v.data.tiles.image_files import Pixels

_LEAST = 0.005  # probability of a choice that has a line of its own
_OPTIONS = ("image", "text", "palette", "question")
_NAMES = 14  # width of the names of choices


def add_commands(commands: Any) -> None:
    """Add this command to argparse's group of commands."""
    ask = commands.add_parser("ask", help="ask a model about a picture or a table")
    ask.add_argument("model", type=expanded_text, help="a run, a checkpoint or a hub id")
    ask.add_argument("--image", type=expanded_text, metavar="FILE", help="picture of a grid")
    ask.add_argument(
        "--text",
        metavar="GRID",
        help="a grid in words, '| cat | dog |\\n| bird | cat |', or a file with it "
        "(without --image and --text: a random grid)",
    )
    ask.add_argument(
        "--question",
        help="such as 'What object is in row 0, column 1?' (default: all of a random grid)",
    )
    ask.add_argument(
        "--palette",
        metavar="NAME,NAME",
        help="objects that the prompt lists (default: those of --text, and others up to the "
        "trained number; with --image alone all objects of the model)",
    )
    ask.add_argument("--seed", type=whole_number, default=0, help="of a random grid (default 0)")
    ask.add_argument(
        "--free", action="store_true", help="take any --question, and let the model write"
    )
    ask.add_argument("--json", action="store_true", help="print JSON")
    hardware_options(ask)
    ask.set_defaults(command=_ask)


def _ask(args: argparse.Namespace, overrides: Overrides) -> None:
    no_fields(overrides, "ask")
    own = args.image is not None or args.text is not None
    if args.question is None and (own or args.free):
        raise UserError("--question: is missing; only a random grid has questions of its own")
    if args.palette is not None and not own:
        raise UserError("--palette: needs --image or --text; a random grid has its own")
    if args.seed < 0:
        raise UserError(f"--seed: {args.seed} must be at least 0")
    text = None if args.text is None else _text(args.text)
    with _named_as_options():
        image = None if args.image is None else _pixels(args.image)
        check_model(args.model, "model")
        with importing():
            from gpt2v.ask.model import load_model
        with on_hardware(args):
            model = load_model(args.model)
            answers, sample = _answers(model, args, image, text)
    if args.json:
        print(json.dumps(_content(args.model, sample, answers), ensure_ascii=False, indent=1))
        return
    _show_grid(model, image, text, sample)
    for number in range(len(next(iter(answers.values())))):
        print("\n".join(_table({name: each[number] for name, each in answers.items()})))


@contextmanager
def _named_as_options() -> Iterator[None]:
    """An argument that an error of this block names becomes the option, as it was typed."""
    try:
        yield
    except UserError as error:
        name = str(error).partition(":")[0]
        raise UserError(f"--{error}" if name in _OPTIONS else str(error)) from None


def _pixels(image: str) -> "Pixels":
    """A picture, read before torch is imported."""
    from gpt2v.ask.pictures import read_picture

    return read_picture(expanded(image))


def _answers(
    model: "Model", args: argparse.Namespace, image: "Pixels | None", text: str | None
) -> "tuple[dict[str, list[Answer]], Example | None]":
    """The answers by modality, and the random sample, if neither picture nor text is given."""
    shown: dict[str, Shown] = {}
    sample: Example | None = None
    if image is not None or text is not None:
        name = "text" if image is None else "image" if text is None else "text+image"
        palette = None if args.palette is None else [n.strip() for n in args.palette.split(",")]
        shown[name] = {"image": image, "text": text, "palette": palette}
    else:
        sample = model.random_sample(args.seed)
        shown["text"] = {"sample": sample, "modality": "text"}
        if model.gpt2v is not None:
            shown["image"] = {"sample": sample, "modality": "image"}
    answers = {name: model.ask(args.question, args.free, **one) for name, one in shown.items()}
    return answers, sample


def _text(text: str) -> str:
    """The grid itself, or what is in a file with this name."""
    if "|" in text or "\n" in text or not expanded(text).exists():
        return text
    try:
        return Path(expanded(text)).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--text: {text}: cannot be read: {reason(error)}") from None


def _content(
    model: str, sample: "Example | None", answers: "dict[str, list[Answer]]"
) -> dict[str, Any]:
    """What `--json` prints."""
    grid = {} if sample is None else {"grid": sample.classes, "palette": sample.palette}
    rows = [
        {
            "modality": modality,
            "question": answer.question,
            "instruction": answer.instruction,
            "answer": answer.text,
            "truth": answer.truth,
            "probabilities": answer.probabilities,
        }
        for modality, each in answers.items()
        for answer in each
    ]
    return {"model": model, **grid, "answers": rows}


def _show_grid(
    model: "Model", pixels: "Pixels | None", text: str | None, sample: "Example | None"
) -> None:
    from gpt2v.cli.terminal import picture_lines, shows_pictures
    from gpt2v.data.preview import montage

    if sample is not None:
        text = sample.table
        if model.gpt2v is not None:
            pixels = montage(sample.by_row(sample.pictures))
    if pixels is not None and shows_pictures():
        print("\n".join(picture_lines(pixels, shutil.get_terminal_size().columns)))
    elif pixels is not None:
        print(f"picture: {pixels.shape[1]}x{pixels.shape[0]} pixels")
    if text is not None:
        print(text.replace("\\n", "\n").rstrip("\n"))
    if sample is not None:
        print(f"objects: {', '.join(sample.palette)}")


def _table(answers: "dict[str, Answer]") -> list[str]:
    """The lines about one question: the probability of each choice, and the answer.

    Args:
        answers: by modality.
    """
    first = next(iter(answers.values()))
    by_modality = {name: answer.probabilities for name, answer in answers.items()}
    choices = [
        choice
        for choice in dict.fromkeys(c for each in by_modality.values() for c in each)
        if any(each[choice] >= _LEAST for each in by_modality.values())
    ]
    lines = ["", first.question.removesuffix(" A:"), _row("", list(answers))]
    for choice in choices:
        lines.append(_row(choice, [f"{each[choice]:.1%}" for each in by_modality.values()]))
    left = [1 - sum(each[choice] for choice in choices) for each in by_modality.values()]
    if len(choices) < len(first.logprobs):
        lines.append(_row("others", [f"{share:.1%}" for share in left]))
    right = "" if first.truth is None else f"   right: {first.truth}"
    lines.append(_row("answer", [answer.text for answer in answers.values()]) + right)
    return lines


def _row(name: str, values: list[str]) -> str:
    return f"  {name:{_NAMES}}" + "".join(f"  {value:>10}" for value in values)
