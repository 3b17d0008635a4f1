"""Kept attention: that of plain transformers, one question at a time; counts by place by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2v.cli.main import main
from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.config.pictures import PictureConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.tiles.resizing import resize
from gpt2v.errors import UserError
from gpt2v.eval.attention import shown, write_attention
from gpt2v.eval.series import Part, ScoredModel, Series
from gpt2v.model.load import LoadedModel
from gpt2v.report import attention
from gpt2v.report.attention import about_one_cell, around, by_place, frame_of, heat_map, heat_of
from gpt2v.report.read import ATTENTION_COLUMNS
from helpers import refusal
from llava_cases import CASES, build

GRIDS = {
    "full": {"rows": 3, "cols": 3, "questions": 3},
    "smaller": {"rows": 2, "cols": 1},
    "multi": {"rows": 1, "cols": 2, "picture": PictureConfig(layout="multi")},
    "counts": {"rows": 2, "cols": 2, "questions": 2, "instructions": {"count": 1, "lookup": 1}},
    "several sizes": {"rows": [1, 2], "cols": [1, 3], "palette": 3, "questions": 1},
}


def kept(loaded, bank, path, modality="image", mode="independent", **grid):
    """The rows that are written for two grids, and the data set and the scorer."""
    data = GridDataset(HeldOutGridConfig(**grid), bank, 3, "test", 5, "grid.")
    scorer = loaded.scorer(bank)
    model = ScoredModel("gpt2v", scorer, [modality])
    one = Series(model, Part(data, "a part", [modality], mode), modality)
    write_attention(path, shown([one]), 2)
    return pq.read_table(path / "attention.parquet"), data, scorer


def plain_attention(gpt2v, scorer, data, sample, modality, mode, slot):
    """(n_layers, T) from the end of one question, and which tokens are of the picture.

    A plain causal sequence of the grid and this question (and the earlier ones with answers, if
    chained), read by a GPT-2 of transformers without packing or a mask.
    """
    batch = scorer.render(data.samples(np.array([sample])), scorer.view(data.spec, modality), mode)
    _, embeds = scorer.reader.embedded(batch)
    segment = batch.segments[0]
    seen = batch.sees[segment[batch.ends[0, slot]]][segment] & (segment >= 0)
    seen[batch.ends[0, slot] + 1 :] = False
    plain = GPT2LMHeadModel(gpt2v.language_model.config)
    plain.load_state_dict(gpt2v.language_model.state_dict())
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        maps = plain.eval()(
            inputs_embeds=embeds[:, torch.from_numpy(seen)], output_attentions=True
        ).attentions
    image = batch.images
    is_image = batch.input_ids[0, seen] == scorer.render.table.image_id
    return torch.stack([layer[0, :, -1].mean(0) for layer in maps]).numpy(), is_image, image


@pytest.mark.parametrize("mode", ["independent", "chained"])
@pytest.mark.parametrize("modality", ["image", "text+image"])
@pytest.mark.parametrize("name", GRIDS)
def test_it_is_that_of_plain_transformers(loaded, gpt2v, bank, tmp_path, name, modality, mode):
    before = gpt2v.language_model.config._attn_implementation
    table, data, scorer = kept(loaded, bank, tmp_path, modality, mode, **GRIDS[name])
    assert gpt2v.language_model.config._attn_implementation == before
    rows = table.to_pylist()
    asked = {(row["sample"], row["slot"]) for row in rows}
    assert {sample for sample, _ in asked} == {0, 1}
    assert len(rows) == len(asked) * gpt2v.language_model.config.n_layer
    spread = []
    for row in rows:
        where = (row["sample"], modality, mode, row["slot"])
        expected, is_image, image = plain_attention(gpt2v, scorer, data, *where)
        weights = expected[row["layer"]]
        assert row["words"] == pytest.approx(weights[~is_image].sum(), abs=1e-5)
        on_cells = np.bincount(image.cell, weights[is_image], minlength=row["rows"] * row["cols"])
        np.testing.assert_allclose(row["cells"], on_cells, atol=1e-5)
        np.testing.assert_allclose(sorted(row["patches"]), sorted(weights[is_image]), atol=1e-5)
        assert sum(row["cells"]) + row["words"] == pytest.approx(1, abs=1e-5)
        spread.append(np.std(row["patches"]))
    assert max(spread) > 1e-4


def test_patches_are_in_the_order_of_the_picture(loaded, bank, tmp_path):
    for name in ("full", "multi"):
        folder = tmp_path / name
        folder.mkdir()
        table, _, _ = kept(loaded, bank, folder, **GRIDS[name])
        for row in table.to_pylist():
            patches = np.array(row["patches"]).reshape(-1, row["patches_across"])
            shape = row["rows"], 2, row["cols"], 2  # cells of 16 pixels, patches of 8
            np.testing.assert_allclose(
                patches.reshape(shape).sum((1, 3)).ravel(), row["cells"], rtol=1e-5
            )


PICTURES = {  # side of the tower's picture: 48 pixels, of a patch: 8
    "filled": {"rows": 3, "cols": 3},
    "no multiple of the patch": {"rows": 2, "cols": 1, "picture": PictureConfig(border=5, gap=2)},
    "patches that reach over it": {"rows": 1, "cols": 2, "picture": PictureConfig(border=3)},
    "scaled": {"rows": 1, "cols": 1, "picture": PictureConfig(border=4, resize=True)},
    "scaled, not square": {"rows": 1, "cols": 2, "picture": PictureConfig(gap=16, resize=True)},
    "multi": {"rows": 2, "cols": 2, "picture": PictureConfig(layout="multi", border=2)},
    "multi, scaled": {
        "rows": 1,
        "cols": 2,
        "picture": PictureConfig(layout="multi", border=4, resize=True),
    },
}


@pytest.mark.parametrize("name", PICTURES)
def test_heat_and_frame_are_where_the_tower_sees_them(
    loaded, gpt2v, bank, tmp_path, monkeypatch, name
):
    table, data, scorer = kept(loaded, bank, tmp_path, **PICTURES[name])
    picture, figures = data.spec.picture, []
    monkeypatch.setattr(attention, "to_svg", lambda figure, *_, **__: figures.append(figure))
    for row in table.filter(table["layer"].to_numpy() == 1).to_pylist():
        where = (row["sample"], "image", "independent", row["slot"])
        expected, is_image, image = plain_attention(gpt2v, scorer, data, *where)
        samples = data.samples(np.array([row["sample"]]))
        pixels = scorer.render(samples, scorer.view(data.spec, "image")).pixels
        natural = data.examples(np.array([row["sample"]]))[0].pictures[0].shape[:2]
        scale = 48 / max(natural) if picture.resize else 1
        height, width = (round(side * scale) for side in natural)
        canvases = np.zeros((len(pixels), 48, 48))
        for patch, of, weight in zip(
            image.patch, image.picture, expected[1][is_image], strict=True
        ):
            y, x = 8 * (patch // 6), 8 * (patch % 6)
            canvases[of, y : y + 8, x : x + 8] = weight

        across = row["cols"] if picture.layout == "multi" else 1
        heat, seen = (
            np.concatenate(
                [
                    np.concatenate(every[i : i + across, :height, :width], axis=1)
                    for i in range(0, len(every), across)
                ]
            )
            for every in (canvases, pixels)
        )
        np.testing.assert_allclose(heat_of(row), heat, atol=1e-5)

        left, top, right, bottom = frame_of(row)
        own = seen[round(top) : round(bottom), round(left) : round(right)].astype(int)
        tile = bank.take(samples.tiles[:, row["row"], row["col"]])
        inner = np.s_[4:-4, 4:-4] if picture.resize else np.s_[:]
        off = np.abs(own - resize(tile, *own.shape[:2])[0])[inner]
        assert off.max() <= (8 if picture.resize else 0)

        heat_map("map", row, data.examples(np.array([row["sample"]]))[0].pngs, heat.max())
        (axes,) = figures.pop().axes
        under, over = axes.get_images()
        assert under.get_extent() == over.get_extent() == [0, heat.shape[1], heat.shape[0], 0]
        np.testing.assert_allclose(over.get_array()[..., 3], 0.75 * heat / heat.max(), atol=1e-4)
        assert axes.patches[0].get_bbox().extents.tolist() == [left, top, right, bottom]


def test_a_class_token_is_no_word_and_no_cell(lm, table, tokenizer, bank, tmp_path):
    gpt2v = build(CASES["clip-class-token"], lm, table)
    loaded = LoadedModel(gpt2v.language_model, gpt2v, tokenizer, "")
    rows, _, _ = kept(loaded, bank, tmp_path, rows=1, cols=2)
    rest = [1 - sum(row["cells"]) - row["words"] for row in rows.to_pylist()]
    assert min(rest) > 1e-4
    places = by_place(rows)
    for layer in range(2):
        own = [r for r, row in zip(rest, rows["layer"].to_pylist(), strict=True) if row == layer]
        assert places["class token"][layer] == pytest.approx(np.mean(own), abs=1e-6)


def planted(cells, row, col, layer=0, words=0.0, **more):
    """A row of the file for a grid with this attention on its cells."""
    cells = np.array(cells, float)
    return {
        "modality": "image",
        "sample": 0,
        "slot": 0,
        "question": "?",
        "other_row": None,
        "rows": cells.shape[0],
        "cols": cells.shape[1],
        "row": row,
        "col": col,
        "layer": layer,
        "cells": cells.ravel(),
        "words": words,
        **more,
    }


def test_a_reader_that_looks_at_the_cell_is_told_from_one_that_looks_elsewhere():
    right = [planted(0.8 * np.eye(3)[[r]].T @ np.eye(3)[[c]], r, c, words=0.2)
             for r in range(3) for c in range(3)]  # fmt: skip
    one_off = [planted([[0.1, 0.2, 0.3], [0, 0.05, 0], [0.1, 0, 0.05]], 0, 1, 1, 0.2)] * 9
    table = pa.Table.from_pylist([*right, *one_off])
    places = by_place(table)
    assert {name: np.round(shares, 6).tolist() for name, shares in places.items()} == {
        "the cell": [0.8, 0.2],
        "its row": [0, 0.4],
        "its column": [0, 0.05],
        "other cells": [0, 0.15],
        "words": [0.2, 0.2],
        "class token": [0, 0],
    }
    found = around(table, 0)
    assert found.shape == (5, 5)
    assert found[2, 2] == pytest.approx(0.8)
    assert np.nansum(np.delete(found.ravel(), 12)) == 0
    shifted = around(table, 1)
    assert shifted[2, 1:4].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert np.isnan(shifted[:2]).all()


def test_only_questions_about_one_cell_of_one_modality_are_counted():
    rows = [
        planted(np.full((2, 2), 0.25), 0, 0),
        planted(np.full((2, 2), 0.25), None, None),
        planted(np.full((2, 2), 0.25), 0, 0, other_row=1),
        planted(np.full((2, 2), 0.25), 0, 0, modality="text+image"),
    ]
    assert len(about_one_cell(pa.Table.from_pylist(rows), "image")) == 1


def test_the_command_keeps_it_and_the_report_shows_it(mm_run, tmp_path):
    out = tmp_path / "out"
    argv = ["eval", mm_run, "--out", out, "--n_images", 6, "--attention", 3, "--examples", 2]
    assert main([*map(str, argv)]) == 0
    table = pq.read_table(out / "attention.parquet")
    assert set(ATTENTION_COLUMNS) <= set(table.column_names)
    assert set(table["sample"].to_pylist()) == {0, 1, 2}
    assert main(["report", str(out)]) == 0
    page = (out / "report/index.html").read_text()
    section = page[page.index('<section id="attention"') :]
    section = section[: section.index("</section>")]
    assert section.count("What object is in row") >= 2
    assert section.count("<svg ") == 2 + 2
    assert "6 questions about 3 grids" in section
    argv = ["eval", mm_run, "--out", out, "--n_images", 6, "--overwrite"]
    assert main([*map(str, argv)]) == 0
    assert not (out / "attention.parquet").exists()


def test_what_has_no_attention_is_refused(lm_run, mm_run, tmp_path, capsys, lm, tokenizer, bank):
    where = ("--out", tmp_path / "out", "--attention", 2)
    line = refusal(capsys, "eval", mm_run, *where, "--modalities", "text")
    assert "attention: 2, but modalities: [text] shows no pictures" in line
    line = refusal(capsys, "eval", lm_run, *where)
    assert "is a GPT-2 without vision tower; use --modalities text" in line
    line = refusal(capsys, "eval", f"hf:{mm_run}", *where)
    assert f"attention: 2 has no effect: hf:{mm_run} is measured as any Hugging Face model" in line
    assert not (tmp_path / "out").exists()
    alone = LoadedModel(lm, None, tokenizer, "")
    data = GridDataset(HeldOutGridConfig(rows=1, cols=2), bank, 3, "test", 5, "grid.")
    model = ScoredModel("lm", alone.scorer(bank), ["text"])
    with pytest.raises(UserError, match="attention: nothing is shown as a picture"):
        shown([Series(model, Part(data), "text")])
    with pytest.raises(UserError, match="attention: this model was trained without pictures"):
        shown([Series(model, Part(data), "image")])
