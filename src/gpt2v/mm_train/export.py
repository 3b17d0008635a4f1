"""`gpt2v mm export RUN --to DIR`: a GPT-2v as a stock LLaVA checkpoint; on request, on the Hub."""

import json
import re
from pathlib import Path

from huggingface_hub import HfApi
from safetensors import SafetensorError

from gpt2v.errors import UserError, first_line, within
from gpt2v.model.llava import check_llava, n_vision_tokens, save_llava
from gpt2v.model.load import load_gpt2v
from gpt2v.runs import remove_directory, whole_directory


def export_llava(source: str, to: Path, overwrite: bool = False) -> str:
    """Write the newest checkpoint of a run, or a checkpoint; returns what to know of it.

    Raises:
        UserError: it cannot be a LLaVA, or `to` holds what may not be replaced; nothing is written.
    """
    to = to.resolve()  # of a link, the folder itself
    _check_place(to, overwrite)
    if not Path(source).exists():  # never a name on the Hub: nothing there is a GPT-2v of ours
        raise UserError(f"run: {source}: no such run or checkpoint")
    loaded, model = load_gpt2v(source, "run", measured=False)
    with within(f"{source}: "):
        check_llava(model, loaded.tokenizer)
    try:
        with whole_directory(to) as folder:
            save_llava(folder, model, loaded.tokenizer)
            for file in folder.iterdir():
                file.chmod(0o644)  # safetensors makes its files private
            if overwrite and to.exists():
                remove_directory(to)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--to: {to}: cannot be saved: {reason}") from None
    side = model.geometry.image_size
    return (
        f"{n_vision_tokens(model)} vision tokens for each picture; exact where a picture fills the "
        f"tower's {side}x{side} pixels or picture.resize makes it (LLaVA reads every patch)"
    )


def check_push(name: str | None, public: bool) -> None:
    """Refuse a name that the Hub would not take, before anything is written."""
    if name is None:
        if public:
            raise UserError("--public: says how to --push, which was not asked for")
        return
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise UserError(f"--push: {name}: expected OWNER/NAME")


def push(folder: Path, name: str, public: bool) -> str:
    """Upload an export to the Hub; returns its address there.

    Raises:
        UserError: the Hub cannot be reached or refuses, or the repository is there and public,
            without `public`, or private, with it.
    """
    try:
        api = HfApi()
        address = str(api.create_repo(name, private=not public, exist_ok=True))
        # One that exists stays as it is, and an upload must be as private as was asked for.
        is_public = not api.repo_info(name).private
        if public == is_public:
            api.upload_folder(
                repo_id=name, folder_path=folder, commit_message="GPT-2v as a stock LLaVA"
            )
            return address
    except (
        Exception
    ) as error:  # the Hub's, the network's and the token's errors have no common type
        raise UserError(
            f"--push: {name}: cannot be uploaded: {first_line(error)}; {folder} is written"
        ) from None
    found = "public; --public says that this is meant" if is_public else "private; without --public"
    raise UserError(f"--push: {name}: exists and is {found}; {folder} is written")


def _check_place(to: Path, overwrite: bool) -> None:
    """Refuse a place that holds anything but an export to be overwritten."""
    if to.exists() and not to.is_dir():
        raise UserError(f"--to: {to}: is a file; an export needs a folder")
    try:
        if not to.is_dir() or not any(to.iterdir()):
            return
    except OSError as error:
        raise UserError(f"--to: {to}: cannot be read: {error.strerror}") from None
    if not _is_export(to):
        raise UserError(f"--to: {to}: is not empty and is no export; it will not be overwritten")
    if not overwrite:
        raise UserError(f"--to: {to}: already holds an export; choose another, or --overwrite it")


def _is_export(folder: Path) -> bool:
    """Whether it holds a LLaVA around a GPT-2, which nobody else makes."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return (config["model_type"], config["text_config"]["model_type"]) == ("llava", "gpt2")
    except (OSError, ValueError, KeyError, TypeError):
        return False
