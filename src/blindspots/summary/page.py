"""Tables as a web page in one file, without scripts: what the report shows."""

from html import escape

STYLE = """
body { font: 13px/1.45 sans-serif; margin: 1.2rem; color: #222; background: white; }
h1 { font-size: 1.1rem; }
p { max-width: 60rem; }
table { border-collapse: collapse; margin-bottom: 2rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #888; vertical-align: bottom; }
td { border-bottom: 1px solid #ddd; }
small { display: block; color: #555; white-space: nowrap; }
"""


def page(sections):
    """Return an HTML page.

    Parameters
    ----------
    sections : sequence of (str, str, pandas.DataFrame)
        Heading, notes and table; each cell is a list of texts, of which all but the first are
        shown small, on lines of their own.
    """
    body = "\n".join(_section(*section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{escape(sections[0][0])}</title>\n<style>{STYLE}</style>\n{body}\n</html>\n"
    )


def _section(heading, notes, table):
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{_cell(*texts)}</td>" for texts in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return (
        f"<h1>{escape(heading)}</h1>\n<p>{escape(notes)}</p>\n"
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    )


def _cell(text, *beside):
    return escape(text) + "".join(f"<small>{escape(more)}</small>" for more in beside)
