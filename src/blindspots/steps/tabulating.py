"""A tidy table, and the same as text and as a page: what steps that tabulate share."""

from blindspots.artifacts import write_sidecar, write_text
from blindspots.summary.markdown import to_markdown
from blindspots.summary.page import page


def save_table(table, sections, files, job):
    """Write a table as CSV, its sections as Markdown and HTML, and whence they are.

    Parameters
    ----------
    table : pandas.DataFrame
    sections : list
        As `blindspots.summary.page.page` takes them.
    files : types.SimpleNamespace
        ``csv``, ``md`` and ``html``: where to.
    job : blindspots.steps.job.Job
    """
    write_text(files.csv, table.to_csv(index=False, float_format="%.6g"))
    write_text(files.md, to_markdown(sections))
    write_text(files.html, page(sections))
    write_sidecar([files.csv, files.md, files.html], job.provenance())
