"""The looks of all figures: colours that colour-blind readers can tell apart, sizes, fonts."""

import itertools

from matplotlib import style

RATE_COLOURS = "cividis"  # its lightness rises evenly, so it survives printing in grey too
FRAME = "#d55e00"  # around what a reader must not miss; vermilion of the same palette
MARKERS = "osDv^<>PXpd"  # 11 markers and 10 colours: pairs repeat only after 110 lines
SETTINGS = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "figure.titlesize": 10,
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 8,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, so that a PDF's text can be searched and edited
    "svg.fonttype": "path",
    "svg.hashsalt": "blindspots",  # else identifiers in an SVG are random
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
}


def house_style():
    """Return a context in which figures are made and saved, whatever the user's own settings."""
    return style.context(SETTINGS, after_reset=True)


def colours_and_markers(names):
    """Return a colour and a marker for each name.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    dict of str to (colour, marker)
    """
    import seaborn as sns

    colours, markers = itertools.cycle(sns.color_palette("colorblind")), itertools.cycle(MARKERS)
    return {name: (next(colours), next(markers)) for name in names}
