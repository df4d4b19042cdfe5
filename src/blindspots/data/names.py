"""Names of classes, as users give them, and titles: one line each."""

import re

from blindspots.errors import UserError

# Control characters, line ends, changes of direction, and what is no character.
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def line(text):
    """Return a text as one line; what cannot be written is a question mark."""
    return UNWRITABLE.sub("?", " ".join(text.split()))


def check_names(path, where, names):
    """Raise UserError unless every class has a name of its own, on one line.

    Parameters
    ----------
    path : path-like
        The file or folder that sentences begin with.
    where : str
        Where in it they stand, such as ``"in classes"``.
    names : list of str
    """
    known = set()
    for number, name in enumerate(names):
        if not name.strip():
            raise UserError(f"{path}: the name of class {number} {where} is empty; give it one")
        if UNWRITABLE.search(name):
            raise UserError(
                f"{path}: the name {name!r} {where} has control characters; write it "
                "on one line, without them"
            )
        if name in known:
            raise UserError(f"{path}: the name {name!r} is twice {where}; give each class one")
        known.add(name)


def unless_numbers(names):
    """Return names, or None where they are the numbers of the classes."""
    return None if names == [str(number) for number in range(len(names))] else names
