"""The HTML report of one or more runs: one page that needs no other file.

`read` reads the run's files, `analysis` counts in them, `verdict` puts the numbers into words,
`plots`, `maps` and `curves` draw the charts, `sections` has one class for each section of the page,
and `html` fills `page.html.j2`. None of them needs torch.
"""

from gpt2v.report.html import write_report

__all__ = ["write_report"]
