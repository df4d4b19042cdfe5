"""Make one table with intervals: CSV, Markdown, LaTeX and a web page."""

import pandas as pd

from blindspots.artifacts import write_sidecar, write_text
from blindspots.errors import UserError
from blindspots.steps.job import run
from blindspots.steps.transfer_table import read_answers, read_cells
from blindspots.summary.page import page
from blindspots.summary.tables import (
    caption,
    make_table,
    readable,
    to_latex,
    to_markdown,
    with_bounds,
    with_printed,
)


def main(job, options):
    spec = job.spec
    cells = read_cells(options.transfer, job.upstream("transfer"))
    answers = read_answers(options.answers, job.upstream("transfer"), cells)
    table = make_table(cells, spec, answers=answers)
    values = table.values
    if options.printed:
        values = with_printed(values, read_printed(options.printed[0]))
    printed = bool(options.printed)
    notes = caption(spec, printed)
    views = [(spec["table"], notes, table, values)]
    if spec["kind"] != "models":
        both = make_table(cells, spec, both_right=True, answers=answers)
        title = f"{spec['table']}, over the images that the victim, too, classifies correctly"
        views.append((title, "As above, another denominator.", both, both.values))
    markdown = "\n".join(to_markdown(*view, title, text) for title, text, *view in views)
    html = page([(title, text, readable(*view)) for title, text, *view in views])
    numbers = with_bounds(table, values)
    write_text(options.csv, numbers.to_csv(index=False, float_format="%.6g"))
    write_text(options.markdown, markdown)
    write_text(options.latex, to_latex(table, values, spec["table"], notes))
    write_text(options.html, html)
    outputs = [options.csv, options.markdown, options.latex, options.html]
    write_sidecar(outputs, job.provenance())


def read_printed(path):
    """Read a table of printed numbers."""
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {str(error).strip()}") from None


if __name__ == "__main__":
    run(
        main,
        {
            "transfer": "tidy transfer table",
            "answers": "answers to single images",
            "printed*": "printed numbers, if there are any",
            "csv": "CSV to write",
            "markdown": "Markdown to write",
            "latex": "LaTeX to write",
            "html": "HTML to write",
        },
    )
