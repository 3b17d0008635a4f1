"""The files of a tokenizer in a folder: tokenizer.json, or GPT-2's vocab.json and merges.txt.

Files beside them can add tokens, or say that text is changed. A GPT-2 that was trained so has
embeddings for these tokens, so what they say must be done, or the tokenizer is refused.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gpt2v.data.data_files import check_here
from gpt2v.errors import UserError, first_line
from gpt2v.messages import one_line, shown

_ADDED, _SETTINGS = "added_tokens.json", "tokenizer_config.json"
_FIELDS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")  # of a token
# The classes of transformers that read vocab.json and merges.txt as GPT-2's does.
_LIKE_GPT2 = ("GPT2", "Roberta", "Bart", "CodeGen")


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder, with all tokens that its files name.

    Raises:
        UserError: files are missing, cannot be read, or ask for what this project does not do; the
            message lacks the name of the folder.
    """
    settings = _mapping(folder / _SETTINGS)
    if settings.get("add_prefix_space"):  # transformers does this even if tokenizer.json does not
        raise UserError(
            f"{_SETTINGS}: add_prefix_space puts a space before every text, which grids and "
            "documents do not have; choose another tokenizer"
        )
    try:
        if (folder / "tokenizer.json").is_file():
            check_here(folder / "tokenizer.json")
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            tokenizer = _like_gpt2(folder, settings)
        elif folder.is_file():
            raise UserError(f"is a file; give the folder with {folder.name}")
        else:
            raise UserError("expected tokenizer.json, or vocab.json and merges.txt")
    except UserError:
        raise
    except Exception as error:  # the library raises bare Exception for every failure
        raise UserError(f"cannot be loaded: {first_line(error)}") from None
    _add_tokens(tokenizer, folder, settings)
    return tokenizer


def _like_gpt2(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    """A tokenizer of GPT-2's vocab.json and merges.txt, which other families use differently."""
    kind = str(settings.get("tokenizer_class") or "GPT2Tokenizer")
    if kind.removesuffix("Fast").removesuffix("Tokenizer") not in _LIKE_GPT2:
        raise UserError(
            f"{_SETTINGS}: tokenizer_class: {one_line(kind, 60)} does not read vocab.json and "
            "merges.txt as GPT-2 does; save it with a tokenizer.json"
        )
    model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    if model.token_to_id("t</w>") is not None:
        raise UserError(
            "vocab.json: marks the ends of words by </w>, as CLIP's does and GPT-2's does not; "
            "choose another tokenizer"
        )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _add_tokens(tokenizer: Tokenizer, folder: Path, settings: dict[str, Any]) -> None:
    """Add the tokens that are named beside a tokenizer; each must have the id that is named."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for number, token, file in sorted(_named_tokens(folder, settings), key=lambda one: one[0]):
        if token.content not in known:
            tokenizer.add_tokens([token])
            known.add(token.content)
        found = tokenizer.token_to_id(token.content)
        if found != number:
            raise UserError(
                f"{file}: {shown(token.content)} is token {number} there, but {found} in the "
                "tokenizer; they do not belong together"
            )


def _named_tokens(folder: Path, settings: dict[str, Any]) -> list[tuple[int, AddedToken, str]]:
    """Id, token and file of each token that is named beside a tokenizer."""
    named, file = [], _SETTINGS
    try:
        for number, token in (settings.get("added_tokens_decoder") or {}).items():
            fields = {name: value for name, value in token.items() if name in _FIELDS}
            named.append((int(number), AddedToken(**fields), file))
        file = _ADDED
        for content, number in _mapping(folder / file).items():
            named.append((int(number), AddedToken(content, normalized=False), file))
    except (TypeError, ValueError, AttributeError):
        raise UserError(f"{file}: names added tokens in an unknown way") from None
    return named


def _mapping(file: Path) -> dict[str, Any]:
    """The content of a JSON file; empty: there is no such file."""
    try:
        values = json.loads(file.read_text("utf-8")) if file.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file.name}: cannot be read: {first_line(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file.name}: expected a mapping, not {shown(values)}")
    return values
