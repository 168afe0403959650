"""The report of a run: `report.html`, `report.md`, the figures as files, and a server. Imports no torch.

material    what of a run folder the page shows beside its results
sections    every figure, in the order of the page: a new one is a function and a line here
figures     plates of scores and claims; `curves` of what went on while training;
            `states`, `walks`, `signals` of what probes said (`probed` reads them)
plates      `Plate`: a picture, its caption, the table behind it
drawn       kinds of picture (grid, dots, curves), each by `svg` in the colours of `theme`
tables      what stands in the tables of page and Markdown; `table_csv`, `digits`
microscope  completions token by token; `visible`: marks without a shape get a name
item_rows   items with every arm's answer; `wins`: items won and lost between two arms
citations   BibTeX of the methods used
page        all of it -> one self-contained HTML file; `markdown` -> Markdown beside its figures
serve       whole runs and `live` ones on loopback
assets/     template, style sheets, scripts
"""

from statewise.report.page.html import write_report

__all__ = ["write_report"]
