"""Texts no wider than the place they have in a figure."""

import re
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from blindspots.summary.style import SETTINGS

ELLIPSIS = "…"


@lru_cache(maxsize=4096)
def text_width(text, size):
    """Return the width in points of a line in the font of all figures at a size in points."""
    font = FontProperties(family=SETTINGS["font.family"], size=size)
    return TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]


def fitted(text, width, size, lines=1):
    """Return a text in lines that are no wider than a place; what is too much ends in an ellipsis.

    It is broken at spaces and behind hyphens and the like; longer words where they must be.

    Parameters
    ----------
    text : str
    width, size : float
        Of the place and of the font, in points.
    lines : int
        The most lines.

    Returns
    -------
    str
    """
    done, rest = [], text.strip()
    while rest and len(done) < lines - 1:
        line = _beginning(rest, width, size)
        done.append(line.strip())
        rest = rest[len(line) :].strip()
    if rest:
        done.append(rest if text_width(rest, size) <= width else _cut(rest, width, size))
    return "\n".join(done)


def _beginning(text, width, size):
    """Return the longest beginning of a text that fits and ends where it may; all, if it fits."""
    if text_width(text, size) <= width:
        return text
    ends = [match.end() for match in re.finditer(r"[\s\-_/.,]", text)]
    fitting = [end for end in ends if text_width(text[:end].strip(), size) <= width]
    return text[: fitting[-1]] if fitting else _longest(text, width, size)


def _cut(text, width, size):
    return _longest(text, width - text_width(ELLIPSIS, size), size).rstrip() + ELLIPSIS


def _longest(text, width, size):
    """Return as many characters as fit, one at least."""
    count = 1
    while count < len(text) and text_width(text[: count + 1], size) <= width:
        count += 1
    return text[:count]
