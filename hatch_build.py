"""The package's page: its links are absolute, and it has URLs, if the build is given an address.

    GPT2V_REPOSITORY=https://HOST/OWNER/gpt2v python -m build

The source does not know where it is published. Links of the README are relative, which the page of
a package index does not follow.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"(!?)(\[[^\]]*\]\()(?!\w+:|#)")  # a link or a picture in Markdown


class PageHook(MetadataHookInterface):
    """Adds the README, and URLs if there is an address."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add `readme` and `urls` to the metadata of the project."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        address = os.environ.get("GPT2V_REPOSITORY", "").rstrip("/")
        if address:
            page, raw = f"{address}/blob/main/", f"{address}/raw/main/"
            text = _RELATIVE.sub(lambda link: link[0] + (raw if link[1] else page), text)
            metadata["urls"] = {
                "Repository": address,
                "Documentation": f"{page}docs/index.md",
                "Changelog": f"{page}CHANGELOG.md",
                "Issues": f"{address}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
