"""`gpt2v mm export RUN --to DIR`: save a GPT-2v as a stock LLaVA, and upload it on request."""

import json
import re
from pathlib import Path

from huggingface_hub import HfApi
from safetensors import SafetensorError

from gpt2v.errors import UserError, first_line, within
from gpt2v.model.llava import check_llava, n_vision_tokens, save_llava
from gpt2v.model.load import load_gpt2v
from gpt2v.runs import remove_directory, whole_directory


def export_llava(run: str, to: Path, overwrite: bool = False) -> str:
    """Export the newest checkpoint of a run, or the checkpoint that `run` is.

    Returns:
        a remark for the user.

    Raises:
        UserError: the model cannot be a LLaVA, or `to` must not be replaced; nothing is written.
    """
    to = to.resolve()  # if it is a link: the folder that it points to
    _check_target(to, overwrite)
    if not Path(run).exists():  # a hub id is never a GPT-2v of ours
        raise UserError(f"run: {run}: no such run or checkpoint")
    loaded, model = load_gpt2v(run, "run", for_inference=False)
    with within(f"{run}: "):
        check_llava(model, loaded.tokenizer)
    try:
        with whole_directory(to) as folder:
            save_llava(folder, model, loaded.tokenizer)
            for file in folder.iterdir():
                file.chmod(0o644)  # safetensors makes files that only the owner can read
            if overwrite and to.exists():
                remove_directory(to)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--to: {to}: cannot be saved: {reason}") from None
    side = model.geometry.image_size
    return (
        f"{n_vision_tokens(model)} vision tokens for each picture; exact if a picture fills the "
        f"tower's {side}x{side} pixels or is scaled to do so (LLaVA reads every patch)"
    )


def check_push(name: str | None, public: bool) -> None:
    """Check the options `--push NAME` and `--public`, before anything is written.

    Raises:
        UserError: the name is not OWNER/NAME, or `--public` is given without `--push`.
    """
    if name is None:
        if public:
            raise UserError("--public: needs --push")
        return
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise UserError(f"--push: {name}: expected OWNER/NAME")


def push(folder: Path, name: str, public: bool) -> str:
    """Upload an export to the Hub; returns its address there.

    Raises:
        UserError: the upload fails, or the repository exists and is public without `public`, or
            private with it.
    """
    try:
        api = HfApi()
        address = str(api.create_repo(name, private=not public, exist_ok=True))
        # An existing repository stays as it is; it must be as private or public as was asked for.
        is_public = not api.repo_info(name).private
        if public == is_public:
            api.upload_folder(
                repo_id=name, folder_path=folder, commit_message="GPT-2v as a stock LLaVA"
            )
            return address
    except Exception as error:  # errors of Hub, network and token have no common type
        raise UserError(
            f"--push: {name}: cannot be uploaded: {first_line(error)}; {folder} is written"
        ) from None
    advice = "public; confirm with --public" if is_public else "private; omit --public"
    raise UserError(f"--push: {name}: exists and is {advice}; {folder} is written")


def _check_target(to: Path, overwrite: bool) -> None:
    """Raise UserError unless `to` is empty, missing, or an export that may be overwritten."""
    if to.exists() and not to.is_dir():
        raise UserError(f"--to: {to}: is a file; an export needs a folder")
    try:
        if not to.is_dir() or not any(to.iterdir()):
            return
    except OSError as error:
        raise UserError(f"--to: {to}: cannot be read: {error.strerror}") from None
    if not _is_export(to):
        raise UserError(
            f"--to: {to}: is not empty and is not an export; it will not be overwritten"
        )
    if not overwrite:
        raise UserError(
            f"--to: {to}: already holds an export; choose another folder, or use --overwrite"
        )


def _is_export(folder: Path) -> bool:
    """Whether the folder holds a LLaVA with a GPT-2, which only this export makes."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return (config["model_type"], config["text_config"]["model_type"]) == ("llava", "gpt2")
    except (OSError, ValueError, KeyError, TypeError):
        return False
