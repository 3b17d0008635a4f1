"""Names of models and data sets: a local path, or a Hugging Face hub's `owner/name`."""

from pathlib import Path


def looks_local(name: str) -> bool:
    """Whether the name of something missing looks like a path, not like a hub's `owner/name`."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return True
    return "/" in name and Path(name).parent.is_dir()
