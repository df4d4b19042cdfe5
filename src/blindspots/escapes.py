"""Users' texts in other languages: as written, whatever they hold, and nothing more than text.

Labels, descriptions, titles and captions are one line without control characters (the schema sees
to it) and else arbitrary. What makes them safe is a matter of the place, not of the text:

=================================  ==================================================
reStructuredText, Markdown, LaTeX  the functions below
terminal, log                      `printable`, for what others' code says
HTML                               ``html.escape``, in `blindspots.summary.page`
script of the report, shell        `blindspots.artifacts.canonical_json`; ``:q`` in rules
SVG, PDF, PNG                      ``text.parse_math`` in `blindspots.summary.style`
CSV                                quotes, by the ``csv`` module and pandas; nothing else is changed
=================================  ==================================================
"""

import re

PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")  # all of ASCII's
MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$]")
# A list, a heading: what is markup at the beginning of a paragraph alone.
MARKDOWN_BLOCK = re.compile(r"\A(\d*)([-+#.)])(?=\s|#|\Z)")
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "%_&#${}"}
    | {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        '"': r"\texttt{\char34}",
        "[": "{[}",  # which after a row of a table would be the row's options
        "*": "{*}",
    }
)
LATEX_LIGATURE = re.compile(r"(?<=([-',]))(?=\1)")


def escape_rst(text):
    """Return a text for a paragraph of reStructuredText, also within emphasis.

    The escaped space before it vanishes; it keeps a bullet that begins the text from being one.
    """
    return "\\ " + PUNCTUATION.sub(r"\\\g<0>", text.strip())


def escape_markdown(text):
    """Return a text for a paragraph, a heading or a cell of a table in Markdown."""
    return MARKDOWN_BLOCK.sub(r"\1\\\2", MARKDOWN.sub(r"\\\g<0>", text.strip()))


def escape_latex(text):
    """Return a text for LaTeX in text mode, without ligatures of punctuation."""
    return LATEX_LIGATURE.sub("{}", text.translate(LATEX))


def printable(text):
    """Return a text as one line that no terminal obeys; what is not seen is as Python writes it."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
