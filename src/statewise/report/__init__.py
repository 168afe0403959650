"""The report of a run: `report.html`, `report.md` and the figures as files. Imports no torch.

    page      results -> one self-contained HTML file
    markdown  results -> Markdown beside its figures
    figures   results -> `Plate`s: what is drawn, its caption, the table behind it
    curves    the plates of what went on while training
    plates    what they share
    tables    what stands in the tables of both
    svg       Matplotlib -> themed, labelled SVG
    assets/   template, style sheet, script

A new section is a function that returns a `Plate` (or a block of the template) and one line in
`figures.plates`.
"""

from statewise.report.page import write_report

__all__ = ["write_report"]
