"""The self-contained HTML report of a run.

`read` opens the run's files, `measure` counts in them, `verdict` says in words what the numbers
say, `plots` draws, and `html` puts it all into `template.html.j2`. Nothing here needs torch.
"""

from gpt2v.report.html import write_report

__all__ = ["write_report"]
