"""Transfer: a decoder that is trained at one cell, and tested at another one."""

from gpt2v.probing.probed import Outcomes, Probed, Row, gain


class Transfer:
    """Ridge decoders of each measured cell, tested at the patches of each measured cell.

    The difference is to the decoder that was trained there. If it is small, an object looks the
    same wherever it is; cells with other numbers of patches are left out.
    """

    def __call__(self, probed: Probed) -> list[Row]:
        ridge, test = probed.config.ridge, probed.splits["test"]
        rows = []
        for site in probed.measured_sites:
            at = {cell: probed.x("test", site, cell) for cell in probed.measured_cells}
            for trained in at:
                fitted = probed.fitted(ridge, site, trained)
                for tested, x in at.items():
                    if x.shape[1] != at[trained].shape[1]:
                        continue
                    moved = Outcomes.of([fitted.scores(x)], [tested], test)
                    own = probed.outcomes(ridge, site, [tested])
                    rows.append(
                        {
                            **site.fields,
                            "trained": probed.at(trained),
                            "tested": probed.at(tested),
                            **moved.rates(),
                            **gain(moved.right, own.right, own.shared),
                        }
                    )
        return rows
