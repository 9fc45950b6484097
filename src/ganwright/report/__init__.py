"""The report of a run: one self-contained HTML file, made from the run folder alone.

`build` puts it together, `story` says it in words, `curves` chooses the charts, `charts` is the one chart
component and `pictures` fits images into the file. Nothing here trains, samples or measures.
"""

from ganwright.report.build import write_report

__all__ = ["write_report"]
