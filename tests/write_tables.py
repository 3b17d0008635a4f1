"""Write the tables of docs/extending.md from the registries."""

import re
from pathlib import Path

from gpt2v.config.describe import registry_table
from gpt2v.registry import REGISTRIES

if __name__ == "__main__":
    page = Path(__file__).parents[1] / "docs" / "extending.md"
    text = page.read_text()
    for registry in REGISTRIES:
        table = "\n".join(registry_table(registry))
        begin, end = f"<!-- table: {registry.title} -->\n", "\n<!-- end -->"
        text = re.sub(
            rf"{re.escape(begin)}.*?<!-- end -->",
            lambda _, new=begin + table + end: new,
            text,
            flags=re.S,
        )
    page.write_text(text)
