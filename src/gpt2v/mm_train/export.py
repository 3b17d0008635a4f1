"""`gpt2v mm export RUN --to DIR`: save a GPT-2v as a stock LLaVA, and upload it on request."""

import glob
import json
import re
from contextlib import ExitStack
from pathlib import Path

from huggingface_hub import HfApi
from safetensors import SafetensorError

from gpt2v.errors import UserError, first_line, within
from gpt2v.model.llava import check_llava, n_vision_tokens, save_llava
from gpt2v.model.load import load_gpt2v
from gpt2v.runs import restored
from gpt2v.storage.files import OF_SYSTEM, reason, writing
from gpt2v.storage.folders import settle, whole_directory
from gpt2v.storage.manifest import MANIFEST, damaged, read_manifest, write_manifest
from gpt2v.storage.ownership import check_free_inside, owned
from gpt2v.storage.places import check_place


def export_llava(run: str, to: Path, overwrite: bool = False) -> str:
    """Export the newest checkpoint of a run, or the checkpoint that `run` is.

    Returns:
        a remark for the user.

    Raises:
        UserError: the model cannot be a LLaVA, or `to` must not be replaced; nothing is written.
    """
    to = to.resolve()  # if it is a link: the folder that it points to
    with ExitStack() as stack:
        with within("--to: "):
            stack.enter_context(owned(to))
            settle(to.parent, glob.escape(to.name))
            _check_target(to, overwrite)
        if not restored(Path(run)).exists():  # a hub id is never a GPT-2v of ours
            raise UserError(f"run: {run}: no such run or checkpoint")
        loaded, model = load_gpt2v(run, "run", for_inference=False)
        with within(f"{run}: "):
            check_llava(model, loaded.tokenizer)
        try:
            with whole_directory(to) as folder:
                save_llava(folder, model, loaded.tokenizer)
                for file in folder.iterdir():
                    file.chmod(0o644)  # safetensors makes files that only the owner can read
                write_manifest(folder)
        except (OSError, SafetensorError) as error:
            raise UserError(f"--to: {to}: cannot be saved: {reason(error)}") from None
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
        raise UserError(f"{to}: is a file; an export needs a folder")
    with writing(to, "read"):
        if not to.is_dir() or not any(to.iterdir()):
            return
    names = _exported(to)
    if names is None:
        raise UserError(f"{to}: is not empty and is not an export; it will not be overwritten")
    if not overwrite:
        raise UserError(f"{to}: already holds an export; choose another folder, or use --overwrite")
    check_place(to, "an export")
    check_free_inside(to)
    for path in to.rglob("*"):
        if path.name not in OF_SYSTEM and path.relative_to(to).as_posix() not in names:
            raise UserError(f"{path}: is no file of the export; move it, or choose another --to")
    changed = damaged(
        to, {name: value for name, value in names.items() if value and (to / name).exists()}
    )
    if changed is not None:
        raise UserError(f"{to / changed}: was changed after the export; choose another --to")


def _exported(folder: Path) -> dict[str, str] | None:
    """The checksums of a LLaVA with a GPT-2, which only this export makes; None: it is none."""
    try:
        config = json.loads((folder / "config.json").read_text())
        kind = (config["model_type"], config["text_config"]["model_type"])
        names = read_manifest(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {**names, MANIFEST: ""} if names and kind == ("llava", "gpt2") else None
