"""Tables as Markdown."""

from blindspots.escapes import escape_markdown


def to_markdown(sections):
    """Return sections, as `blindspots.summary.page.page` takes them, as Markdown."""
    texts = []
    for heading, notes, table in sections:
        shown = table.map(lambda cell: " ".join(map(escape_markdown, cell)))
        shown.columns = shown.columns.map(escape_markdown)
        body = shown.to_markdown(index=False, disable_numparse=True)
        parts = [f"### {escape_markdown(heading)}", escape_markdown(notes), body]
        texts.append("\n\n".join(filter(None, parts)) + "\n")
    return "\n".join(texts)
