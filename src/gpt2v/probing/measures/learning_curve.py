"""Learning curves: how the accuracy of decoders grows with their training pictures."""

from gpt2v.config.probing import MAIN
from gpt2v.probing.probed import Outcomes, Probed, Row, gain

_HALVINGS = 4
_LITTLE = 0.01  # a gain of accuracy


class LearningCurve:
    """Every decoder at the projector's input, fitted on 1/16, 1/8, ... of the pictures, those of
    `val` included.

    A curve has levelled off if its last doubling gains no more than a point: the upper end of the
    paired interval of the gain says so.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        n_train, test = len(probed.splits["train"]), probed.splits["test"]
        cells, rows = probed.measured_cells, []
        fewest = max(2 * probed.n_classes, probed.fewest(cells))
        sizes = [n_train >> k for k in range(_HALVINGS, 0, -1) if n_train >> k >= fewest]
        for decoder in probed.config.decoders:
            before: Outcomes | None = None
            for n in (*sizes, n_train):
                if n == n_train:
                    now = probed.outcomes(decoder, MAIN, cells)
                else:
                    scores = [
                        probed.scores(probed.fit(decoder, MAIN, cell, n)[0], decoder, MAIN, cell)
                        for cell in cells
                    ]
                    now = Outcomes.of(scores, cells, test)
                numbers = {"n_train": n, "n_val": probed.share_of_val(n)}
                where = {**MAIN.fields, "cells": [probed.at(cell) for cell in cells]}
                row = {**where, "decoder": str(decoder), **numbers, **now.rates()}
                if before is not None:
                    row |= gain(now.palette_right, before.palette_right, now.shared, "gain")
                rows.append(row)
                before = now
            last = rows[-1]
            last["levelled"] = "gain_ci95" in last and last["gain_ci95"][1] <= _LITTLE
        return rows
