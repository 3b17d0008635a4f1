"""What the tasks of lmms-eval show, and how they score an answer.

Every lmms-eval export has a copy of this file. Its functions are called by lmms-eval.
"""

from typing import Any

_MARK = "<image>\n"

Row = dict[str, Any]


def pictures(row: Row) -> list[Any]:
    """The picture of the grid, or those of its cells in raster order."""
    images = row["images"] if "images" in row else [row["image"]]
    return [image.convert("RGB") for image in images]


def no_pictures(row: Row) -> list[Any]:
    """None: the grid is shown in words."""
    return []


def words_of_prompt_mm(row: Row) -> str:
    """The words after the one picture, without its mark."""
    return str(row["prompt_mm"].removeprefix(_MARK))


def words_of_prompt_both(row: Row) -> str:
    """The words after the one picture, with the grid in words."""
    return str(row["prompt_both"].removeprefix(_MARK))


def score(row: Row, results: list[str]) -> dict[str, Row]:
    """Whether the first line of what the model writes is the right answer."""
    said = results[0].strip().partition("\n")[0].rstrip()
    return {"exact_match": {"score": float(said == row["answer"]), "image_id": row["image_id"]}}


def mean(scores: list[Row]) -> float:
    """The share of right answers."""
    return float(sum(one["score"] for one in scores)) / len(scores)
