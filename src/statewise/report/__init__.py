"""The report of a run: `report.html`, `report.md` and the figures as files. Imports no torch.

    page      results -> one self-contained HTML file
    markdown  results -> Markdown beside its figures
    figures   results -> `Plate`s: what is drawn, its caption, the table behind it
    svg       Matplotlib -> themed, labelled SVG
    words     numbers as text
    assets/   template, style sheet, script

A new section is a function that returns a `Plate` (or a block of the template) and one line in
`figures.plates`.
"""

from statewise.report.page import write_report

__all__ = ["write_report"]
