r"""The layout of tables in LaTeX: as wide as the text of an article, whatever they hold.

A table is set in the largest of two sizes in which its columns fit, or else cut into blocks of
columns, each with the first column again; what is too high for a page goes on in another float.
The widths are those of Computer Modern, rounded up. Every line of a cell is a line of the
``tabular``, so that nothing but booktabs is needed.
"""

import re

TEXT_WIDTH = 345.0  # points: \textwidth of article at 10 pt, on letter and on A4 paper alike
TEXT_HEIGHT = 520.0  # points; 550 on letter paper, less what surrounds a float
# Size of values and headings, points of its digits' em and of its lines, points between columns.
SIZES = ((r"\footnotesize", 8.5, 9.5, 6.0), (r"\scriptsize", 8.0, 8.0, 4.0))
SMALL, SMALL_EM = r"\scriptsize", 8.0  # of what stands below a value
HEADING, WORDS = 14, 16  # characters of a line
ROW_GAP, RULES = 2.0, 14.0  # points below a row; of the rules of a tabular
WAITING = 10  # floats that may wait for a place: LaTeX gives up at 18
CONTINUED = "Continued."
CAPTION_LINE, CAPTION_CHARACTERS = 12.0, 70
# Widths of characters in em. Others are taken for as wide as a capital W.
WIDTHS = (
    ("ijl'!.,;:[]", 0.285),
    ('It ()fs/-`r"', 0.41),
    ("0123456789ac*e", 0.505),
    ("bdghknopquvxyz^", 0.56),
    ("=+<>~#$_{}\\|ABCDEFGHJKLNOPQRSTUVXYZ&?", 0.79),
)
WIDEST = 1.06


class Column:
    """A column of a table, cut into lines.

    Parameters
    ----------
    heading : str
    cells : sequence of (str, str, str)
        Value, interval and printed number of each row; the last two may be empty.
    escape : callable
        From any text to what LaTeX shows as that text.
    number : bool
        Whether the values are numbers: set flush right, and not cut.
    """

    def __init__(self, heading, cells, escape, number):
        self.escape = escape
        self.heading = _wrapped(heading, HEADING)
        self.number = number
        self.cells = [self._lines(*cell) for cell in cells]

    def _lines(self, value, interval, printed):
        """Return (text, small) of each line of a cell."""
        lines = [value] if self.number else _wrapped(value, WORDS)
        if printed and interval:
            lines[-1] += f" ({printed})"
        below = interval or (f"({printed})" if printed else "")
        return [(line, False) for line in lines] + ([(below, True)] if below else [])

    def width(self, em):
        """Return the width in points where values are set with this em."""
        widths = [_ems(line) * em for line in self.heading]
        for lines in self.cells:
            widths += [_ems(line) * (SMALL_EM if small else em) for line, small in lines]
        return max(widths)

    def line(self, row, number):
        """Return one line of a row as LaTeX, empty below the last one."""
        if number >= len(self.cells[row]):
            return ""
        text, small = self.cells[row][number]
        return f"{{{SMALL} {self.escape(text)}}}" if small else self.escape(text)


def fitted(columns, caption, label):
    """Return the floats of a table, none of them wider than the text.

    Parameters
    ----------
    columns : list of Column
        The first one names the rows.
    caption, label : str
        As LaTeX.

    Returns
    -------
    str
    """
    (size, _, line_height, gap), blocks = _blocks(columns)
    room, floats = TEXT_HEIGHT - _caption_height(caption), [[]]
    for block in blocks:
        for rows in _pages(block, line_height):
            height = _height(block, rows, line_height)
            if floats[-1] and height > room:
                floats.append([])
                room = TEXT_HEIGHT - _caption_height(CONTINUED)
            room -= height
            floats[-1].append(_tabular(block, rows))
    texts = []
    for number, tabulars in enumerate(floats):
        again = "\\addtocounter{table}{-1}\n" if number else ""
        flush = "\\clearpage\n" if number % WAITING == WAITING - 1 else ""
        head = f"\\caption{{{caption}}}\n\\label{{{label}}}"
        if number:
            head = f"\\caption[]{{{CONTINUED}}}"
        body = "\n\\par\\medskip\n".join(tabulars)
        texts.append(
            f"{flush}\\begin{{table}}\n{again}\\centering\n{head}\n\\par\\medskip\n"
            f"{size}\\setlength{{\\tabcolsep}}{{{gap / 2:g}pt}}\n{body}\n\\end{{table}}\n"
        )
    return "\n".join(texts)


def _blocks(columns):
    """Return the size to set a table in, and its columns in as few blocks as fit."""
    cuts = [(size, _cut(columns, size)) for size in SIZES]
    return min(cuts, key=lambda cut: len(cut[1]))


def _cut(columns, size):
    """Return columns in blocks that fit, each with the first column."""
    first, *others = columns
    blocks = [[first]]
    for column in others:
        if len(blocks[-1]) > 1 and _width([*blocks[-1], column], size) > TEXT_WIDTH:
            blocks.append([first])
        blocks[-1].append(column)
    return blocks


def _width(columns, size):
    _, em, _, gap = size
    return sum(column.width(em) for column in columns) + gap * (len(columns) - 1)


def _pages(block, line_height):
    """Yield ranges of rows of a block that are no higher than a page."""
    start, rows = 0, len(block[0].cells)
    for row in range(rows):
        if row > start and _height(block, range(start, row + 1), line_height) > TEXT_HEIGHT - 100:
            yield range(start, row)
            start = row
    yield range(start, rows)


def _height(block, rows, line_height):
    lines = max(len(column.heading) for column in block) + sum(_depth(block, row) for row in rows)
    return lines * line_height + len(rows) * ROW_GAP + RULES


def _depth(block, row):
    return max(len(column.cells[row]) for column in block)


def _caption_height(caption):
    return (2 + len(caption) // CAPTION_CHARACTERS) * CAPTION_LINE


def _tabular(block, rows):
    alignment = "".join("r" if column.number else "l" for column in block)
    depth = max(len(column.heading) for column in block)
    # A heading stands on the rule, so that its last lines are in one row.
    headings = [[""] * (depth - len(c.heading)) + [c.escape(t) for t in c.heading] for c in block]
    lines = [f"\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", "\\toprule"]
    lines += [f"{' & '.join(line)} \\\\" for line in zip(*headings, strict=True)]
    lines.append("\\midrule")
    for row in rows:
        depth = _depth(block, row)
        for number in range(depth):
            texts = " & ".join(column.line(row, number) for column in block)
            end = f"\\\\[{ROW_GAP:g}pt]" if number == depth - 1 else "\\\\"
            lines.append(f"{texts} {end}")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def _wrapped(text, limit):
    """Return a text in lines of at most so many characters, cut at spaces and behind commas.

    Longer words are cut behind a hyphen or the like, or where they must be.
    """
    pieces = rf".{{1,{limit - 1}}}[-_/.]|.{{1,{limit}}}"
    lines = [""]
    for word in re.findall(r"[^\s,]*,|[^\s,]+|\s+", text):
        for part in [word] if len(word) <= limit else re.findall(pieces, word):
            if len((lines[-1] + part).strip()) > limit:
                lines.append("")
            lines[-1] += part
    return [line.strip() for line in lines]


def _ems(text):
    return sum(next((w for known, w in WIDTHS if c in known), WIDEST) for c in text)
