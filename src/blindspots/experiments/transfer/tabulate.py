"""Make one table with intervals: CSV, Markdown, LaTeX and a web page."""

import pandas as pd

from blindspots.artifacts import write_sidecar, write_text
from blindspots.errors import UserError
from blindspots.experiments.transfer.tables import (
    caption,
    make_table,
    readable,
    to_latex,
    to_markdown,
    with_bounds,
    with_printed,
)
from blindspots.experiments.transfer.transfer_table import read_answers, read_cells
from blindspots.steps.job import run
from blindspots.summary.page import page


def main(job, files):
    spec = job.spec
    cells = read_cells(files.transfer, job.upstream("transfer"))
    answers = read_answers(files.answers, job.upstream("transfer"), cells)
    table = make_table(cells, spec, answers=answers)
    values = table.values
    if files.printed:
        values = with_printed(values, read_printed(files.printed[0]))
    printed = bool(files.printed)
    notes = caption(spec, printed)
    views = [(spec["table"], notes, table, values)]
    if spec["kind"] != "models":
        both = make_table(cells, spec, both_right=True, answers=answers)
        title = f"{spec['table']}, over the images that the victim, too, classifies correctly"
        views.append((title, "As above, another denominator.", both, both.values))
    markdown = "\n".join(to_markdown(*view, title, text) for title, text, *view in views)
    html = page([(title, text, readable(*view)) for title, text, *view in views])
    numbers = with_bounds(table, values)
    write_text(files.csv, numbers.to_csv(index=False, float_format="%.6g"))
    write_text(files.md, markdown)
    write_text(files.tex, to_latex(table, values, spec["table"], notes))
    write_text(files.html, html)
    outputs = [files.csv, files.md, files.tex, files.html]
    write_sidecar(outputs, job.provenance())


def read_printed(path):
    """Read a table of printed numbers."""
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {str(error).strip()}") from None


if __name__ == "__main__":
    run(main, reads="transfer answers provenance printed*", writes="csv md tex html provenance")
