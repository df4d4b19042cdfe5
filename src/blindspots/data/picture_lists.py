"""Which pictures belong to a data set, and with which labels: class folders, or CSV files.

A base set is a folder with a folder of pictures for each class, or a CSV file with columns
``path``, relative to that file, and ``label`` or ``class_index``, whole numbers from 0; a column
``name`` may name the classes. The classes are all class folders, in the order of their names,
natural numbers before the others and by their value; or the labels up to the largest. A file of
names, or a number of classes, may be given instead: then class folders bear these names or numbers,
and a class may have no picture.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from blindspots.data.facts import BASES
from blindspots.data.names import UNWRITABLE, check_names, line
from blindspots.data.pictures import SUFFIXES
from blindspots.errors import UserError

LABELS = ("label", "class_index")
TAKE = "take it out, or give it a name that begins with a dot"


@dataclass(frozen=True)
class Listing:
    """The pictures of a data set, before any is read.

    Attributes
    ----------
    classes : list of str
        Names of the classes; the number of one that has none.
    places : dict of str to str
        Of each base set, the folder that the paths of its pictures begin in.
    pictures : dict of str to list of (str, int)
        Of each base set, path and label of every picture, in the order of the images: those of
        folders class by class, by their names; those of CSV files as they stand there.
    """

    classes: list
    places: dict
    pictures: dict

    def walk(self):
        """Yield base set, path below its place, label and full path of every picture."""
        for base in BASES:
            for name, label in self.pictures[base]:
                yield base, name, label, f"{self.places[base]}/{name}"


def listed(train, test, classes=None):
    """List the pictures of a data set.

    Parameters
    ----------
    train, test : str
        A folder or a CSV file; ``train`` is empty where there is a test set alone.
    classes : str or int, optional
        A file with the name of a class in each line, or how many classes there are.

    Returns
    -------
    Listing

    Raises
    ------
    UserError
        If something is not as the head of this module describes.
    """
    paths = {base: path for base, path in (("train", train), ("test", test)) if path}
    for path in paths.values():
        if not os.path.exists(path):
            raise UserError(f"{path} is missing; put the pictures there, or correct the path")
    tables = {b: _table(path) for b, path in paths.items() if not os.path.isdir(path)}
    folders = {b: _class_folders(path) for b, path in paths.items() if os.path.isdir(path)}
    if classes is None and len(folders) == len(BASES):
        _refuse_untrained(paths, folders)
    names, labels = _classes(classes, paths, tables, folders)
    pictures = {base: [] for base in BASES}
    for base, those in folders.items():
        for name in those:
            if name not in labels:
                raise UserError(
                    f"{_said(os.path.join(paths[base], name))} is no class by {_source(classes)}; "
                    "rename it, or correct `classes`"
                )
        for name in sorted(those, key=labels.get):
            files = _pictures_in(os.path.join(paths[base], name))
            pictures[base] += [(f"{name}/{file}", labels[name]) for file in files]
    for base, rows in tables.items():
        for row in rows:
            if row.label >= len(names):
                raise UserError(
                    f"{row.where} has the label {row.label}, but there are {len(names)} classes; "
                    "number them from 0, or correct `classes`"
                )
        pictures[base] = [(row.path, row.label) for row in rows]
    if classes is None:
        base = next(iter(paths))
        _refuse_gaps(paths[base], {label for _, label in pictures[base]}, len(names))
    places = {b: p if b in folders else os.path.dirname(p) for b, p in paths.items()}
    return Listing(names, places, pictures)


# Class folders -----------------------------------------------------------------------------------


def _entries(folder):
    """Return the entries of a folder but for hidden ones, by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry for entry in entries if not entry.name.startswith(".")),
                key=lambda entry: entry.name,
            )
    except OSError as error:
        raise UserError(f"{_said(folder)} cannot be read ({error.strerror})") from None


def _class_folders(folder):
    """Return the names of the class folders in a folder."""
    entries = _entries(folder)
    for entry in entries:
        if not entry.is_dir():
            raise UserError(
                f"{_said(entry.path)} is a file where a folder for each class is expected; {TAKE}"
            )
    if not entries:
        raise UserError(f"{folder} holds no folder; put the pictures of each class into one there")
    return [entry.name for entry in entries]


def _pictures_in(folder):
    """Return the names of the pictures in the folder of a class."""
    entries = _entries(folder)
    for entry in entries:
        if not entry.name.lower().endswith(SUFFIXES) or entry.is_dir():
            raise UserError(f"{_said(entry.path)} is no picture ({', '.join(SUFFIXES)}); {TAKE}")
        if UNWRITABLE.search(entry.name):
            raise UserError(f"{_said(entry.path)}: the name has control characters; rename it")
    if not entries:
        raise UserError(f"{folder} holds no picture; put the class's there, or remove the folder")
    return [entry.name for entry in entries]


def _natural(name):
    """Return what names are sorted by: natural numbers first, by their value."""
    number = name.isascii() and name.isdigit()
    return (0, int(name), name) if number else (1, 0, name)


def _refuse_untrained(paths, folders):
    """Raise UserError if a class has a folder of test pictures and none of training pictures."""
    for name in folders["test"]:
        if name not in folders["train"]:
            raise UserError(
                f"{_said(os.path.join(paths['test'], name))} is a class that has no folder in "
                f"{paths['train']}; give it training pictures there, or take it out"
            )


# CSV files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    path: str
    label: int
    name: str
    where: str


def _table(path):
    """Return the rows of a CSV file."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or []
            column = _column(path, columns)
            rows = [_row(path, reader.line_num, values, column) for values in reader]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is no CSV file in UTF-8 ({line(str(error))}); save it as one"
        ) from None
    if not rows:
        raise UserError(f"{path} lists no pictures; write one in each line, with its label")
    seen = {}
    for row in rows:
        other = seen.setdefault(row.path, row)
        if other is not row:
            raise UserError(f"{row.where} lists {row.path} for the second time; take one out")
    return rows


def _column(path, columns):
    """Return which column of a CSV file holds the labels."""
    if "path" not in columns:
        raise UserError(
            f"{path} has no column path; name the columns in the first line: path, label"
        )
    found = [column for column in LABELS if column in columns]
    if len(found) != 1:
        raise UserError(
            f"{path} has {'both columns' if found else 'no column'} {' and '.join(LABELS)}; "
            "give one, with whole numbers from 0"
        )
    return found[0]


def _row(path, number, values, column):
    where = f"{path}, line {number},"
    name, label = values["path"] or "", (values[column] or "").strip()
    if not name.strip() or UNWRITABLE.search(name) or os.path.isabs(name):
        raise UserError(
            f"{where} has the path {line(name)!r}; write where the picture lies, as seen from there"
        )
    if not (label.isascii() and label.isdigit()) or len(label) > 9:
        raise UserError(
            f"{where} has the {column} {line(label)!r}; give a whole number from 0 for each class"
        )
    return _Row(name, int(label), (values.get("name") or "").strip(), where)


def _named(tables):
    """Return what CSV files name classes, by the label."""
    names = {}
    for rows in tables.values():
        for row in rows:
            if row.name and names.setdefault(row.label, row.name) != row.name:
                raise UserError(
                    f"{row.where} names class {row.label} {line(row.name)!r}, which was "
                    f"{line(names[row.label])!r} before; give each class one name"
                )
    return names


# Classes -----------------------------------------------------------------------------------------


def _classes(classes, paths, tables, folders):
    """Return the names of all classes, and the label of each class folder by its name."""
    where = f"of a folder below {' or '.join(paths.values())}"
    if isinstance(classes, str):
        names, where = _lines(classes), "in its lines"
    elif classes is None and folders:
        names = sorted({name for those in folders.values() for name in those}, key=_natural)
    else:
        labels, named = {row.label for rows in tables.values() for row in rows}, _named(tables)
        if classes is None:
            classes = max(labels) + 1
            _refuse_gaps(" and ".join(paths.values()), labels, classes)
        names = [named.get(label, str(label)) for label in range(classes)]
        where = "in the column name"
    path = classes if isinstance(classes, str) else next(iter(paths.values()))
    check_names(path, where, names)
    if len(names) < 2:
        raise UserError(f"{path} has a single class; a classifier needs two at least")
    # Where their number is given, so are the names of folders.
    own = [str(label) for label in range(len(names))] if isinstance(classes, int) else names
    return names, {name: label for label, name in enumerate(own)}


def _lines(path):
    """Return the names of the classes that stand in a file."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; put the names of the classes there, one a line"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8; write the name of one class a line") from None
    return [name.strip() for name in text.rstrip().split("\n")]


def _source(classes):
    return classes if isinstance(classes, str) else f"the numbers from 0 to {classes - 1}"


def _refuse_gaps(where, present, count):
    """Raise UserError if a class has no picture where the classes are known from."""
    for label in range(count):
        if label not in present:
            raise UserError(
                f"{where}: class {label} of {count} has no picture; number the classes from 0 "
                "without gaps, or say by `classes` how many there are"
            )


def _said(path):
    return line(str(path))
