"""The self-contained HTML report of one run or of several.

`read` opens the run's files, `analysis` counts in them, `verdict` says in words what the numbers
say, `plots` draws, `sections` has one class for each part of the page, and `html` puts them into
`page.html.j2`. Nothing here needs torch.
"""

from gpt2v.report.html import write_report

__all__ = ["write_report"]
