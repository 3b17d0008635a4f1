"""`gpt2v mm export RUN --to DIR`: save a GPT-2v as a stock LLaVA, and upload it on request.

Torch is imported when everything that can be refused without it has been checked.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from gpt2v.errors import UserError, first_line, within
from gpt2v.model.found import check_run_imports, find_checkpoint, read_config
from gpt2v.paths import expanded
from gpt2v.progress import waited
from gpt2v.runs import restored
from gpt2v.storage.files import reason
from gpt2v.storage.folders import whole_directory
from gpt2v.storage.manifest import MANIFEST, damaged, read_manifest, write_manifest
from gpt2v.storage.names import is_passing, resolved
from gpt2v.storage.ownership import owned
from gpt2v.storage.places import check_place
from gpt2v.storage.replacing import FolderKind

_ADVICE = "choose another folder, or use --overwrite"


def export_llava(run: str, to: Path, overwrite: bool = False) -> str:
    """Export the newest checkpoint of a run, or the checkpoint that `run` is.

    Returns:
        a remark for the user.

    Raises:
        UserError: the model cannot be a LLaVA, or `to` must not be replaced; nothing is written.
    """
    with within("--to: "):
        to = resolved(to)  # if it is a link: the folder that it points to
    with _owned_target(to):
        with within("--to: "):
            there = _check_target(to, overwrite)
        _check_run(run)
        from safetensors import SafetensorError

        from gpt2v.model.llava import check_llava, n_vision_tokens, save_llava
        from gpt2v.model.load import load_gpt2v

        loaded, model = load_gpt2v(run, "run", for_inference=False)
        with within(f"{run}: "):
            check_llava(model, loaded.tokenizer)
        try:
            with EXPORTS.replacing(to, there), whole_directory(to) as folder:
                save_llava(folder, model, loaded.tokenizer)
                if loaded.trained_on is not None:
                    loaded.trained_on.write(folder)
                write_manifest(folder)
        except (OSError, SafetensorError) as error:
            raise UserError(f"--to: {to}: cannot be saved: {reason(error)}") from None
    side = model.geometry.image_size
    return (
        f"{n_vision_tokens(model)} vision tokens for each picture; exact if a picture fills the "
        f"tower's {side}x{side} pixels or is scaled to do so (LLaVA reads every patch)"
    )


def check_export(run: str, to: Path, overwrite: bool) -> None:
    """Check what needs no torch, before it is imported.

    Raises:
        UserError: there is no such run, or `to` must not be replaced.
    """
    with within("--to: "):
        to = resolved(to)
    with _owned_target(to), within("--to: "):
        if _holds_something(to):
            EXPORTS.check_replaceable(to, overwrite, _ADVICE)
    _check_run(run)


@contextmanager
def _owned_target(to: Path) -> Iterator[None]:
    """Own the folder of an export; what a stopped process left of it is put in order."""
    with ExitStack() as stack:
        with within("--to: "):
            check_place(to, "an export")
            stack.enter_context(owned(to))
            EXPORTS.restore(to)
        yield


def _holds_something(to: Path) -> bool:
    return to.exists() and (not to.is_dir() or any(to.iterdir()))


def _check_run(run: str) -> None:
    if not restored(expanded(run)).exists():  # a hub id is never a GPT-2v of ours
        raise UserError(f"run: {run}: no such run or checkpoint")
    path = find_checkpoint(run, "run", whole=False)
    check_run_imports(path)
    read_config(path, "run")


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
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        address = str(api.create_repo(name, private=not public, exist_ok=True))
        # An existing repository stays as it is; it must be as private or public as was asked for.
        is_public = not api.repo_info(name).private
        if public == is_public:
            upload = partial(api.upload_folder, commit_message="GPT-2v as a stock LLaVA")
            waited(
                f"--push: uploading to {name}",
                lambda: upload(repo_id=name, folder_path=folder),
            )
            return address
    except Exception as error:  # errors of Hub, network and token have no common type
        raise UserError(
            f"--push: {name}: cannot be uploaded: {first_line(error)}; {folder} is written"
        ) from None
    advice = "public; confirm with --public" if is_public else "private; omit --public"
    raise UserError(f"--push: {name}: exists and is {advice}; {folder} is written")


def _check_target(to: Path, overwrite: bool) -> bool:
    """Raise UserError unless `to` is empty, missing, or an export that may be replaced.

    Returns:
        whether there is something to replace.
    """
    if not _holds_something(to):
        return False
    EXPORTS.check_replaceable(to, overwrite, _ADVICE)
    sums = read_manifest(to) or {}
    there = {name: value for name, value in sums.items() if (to / name).exists()}
    changed = damaged(to, there)
    if changed is not None:
        raise UserError(f"{to / changed}: was changed after the export; choose another --to")
    return True


class LlavaExports(FolderKind):
    """Folders with a LLaVA of a GPT-2 and a manifest, which only this export makes."""

    name, option = "export", "--to"

    def is_ours(self, path: Path) -> bool:
        """Whether it has a manifest, and the configuration of such a LLaVA."""
        try:
            config = json.loads((path / "config.json").read_text("utf-8"))
            kind = (config["model_type"], config["text_config"]["model_type"])
            return bool(read_manifest(path)) and kind == ("llava", "gpt2")
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def is_finished(self, path: Path) -> bool:
        """It is written whole or not at all."""
        return path.exists()

    has_value = is_finished

    def foreign(self, path: Path) -> Iterator[Path]:
        """What the manifest does not name."""
        names = {MANIFEST, *(read_manifest(path) or ())} if self.is_ours(path) else set()
        for file in path.rglob("*"):
            if file.relative_to(path).as_posix() not in names and not is_passing(file.name):
                yield file


EXPORTS = LlavaExports()
