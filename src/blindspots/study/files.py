"""Files and folders of a study before its configuration is read: names, paths, repeated keys."""

import json
import os
import re

import yaml

from blindspots.errors import UserError
from blindspots.study.sentences import dotted, shown


def refuse_repeated_keys(path, text):
    """Raise UserError if a file gives a key twice: of its two values one would be lost.

    Parameters
    ----------
    path : path-like
    text : str
        What stands in the file, which Snakemake reads as JSON or, if it is none, as YAML, whatever
        its name.
    """
    try:
        repeated = _repeated_in_json(json.loads(text, object_pairs_hook=_Pairs))
    except ValueError:
        repeated = _repeated_in_yaml(yaml.compose(text))
    for where in repeated:
        raise UserError(f"{path}{where} is given a second time; rename or remove one of the two")


def refuse_odd_path(path):
    """Raise UserError if steps could not be started from a folder, for what its path holds."""
    text = str(path)
    for characters, what in {
        "{}": "braces, which Snakemake takes for wildcards",
        os.pathsep: "a colon, at which PATH and PYTHONPATH are cut",
    }.items():
        if set(characters) & set(text):
            raise UserError(f"{text} holds {what}; rename it")
    try:
        text.encode()
    except UnicodeEncodeError:  # which the message could not show either
        raise UserError(f"{text!r} holds bytes that are not UTF-8; rename it") from None


def refuse_other_name(path, name):
    """Raise UserError unless a file of ``studies/`` gives its study the name that the file has.

    By the file's name `make` asks for a study and knows the folder of its results.

    Parameters
    ----------
    path : pathlib.Path
    name : object
        The value of ``study`` in the file, or None.
    """
    if name is None:
        raise UserError(
            f"{path} does not name its study, which would overwrite another one; "
            f"write `study: {path.stem}` in it"
        )
    if name != path.stem:
        raise UserError(
            f"{path} names its study {shown(name)}; write `study: {path.stem}` in it, or give the "
            "file that name"
        )


def data_root(config):
    """Return the folder of the data sets: BLINDSPOTS_DATA if it is set, else ``data_root``.

    Of either, ``~`` is the home folder, and what is relative lies below the working directory.

    Raises
    ------
    UserError
        If it is no path on this machine.
    """
    variable = os.environ.get("BLINDSPOTS_DATA")
    name, given = ("BLINDSPOTS_DATA", variable) if variable else ("data_root", config["data_root"])
    root = os.path.expanduser(given)
    if root.startswith("~"):
        user = root.partition("/")[0]
        raise UserError(
            f"{name}: {user} is nobody's home folder here; write ./{user} for a folder of that name"
        )
    try:
        root.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name}: {given!r} is not UTF-8; rename the folder") from None
    if re.search(r"[\x00-\x1f\x7f]", root):
        raise UserError(f"{name}: {given!r} must be one line, without control characters")
    return f"./{root}" if root.startswith("-") else root  # which would be taken for an option


class _Pairs(list):
    """The entries of a JSON object, among which a key may stand twice."""


def _repeated_in_json(document):
    """Yield where a JSON document gives a key for the second time."""
    todo = [((), document)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, _Pairs):
            names = set()
            for name, item in value:
                if name in names:
                    yield f": {dotted((*place, name))}"
                names.add(name)
                todo.append(((*place, name), item))
        elif isinstance(value, list):
            todo += [((*place, number), item) for number, item in enumerate(value)]


def _repeated_in_yaml(document):
    """Yield where a YAML document, a node or None, gives a key for the second time."""
    todo, seen = [((), document)] if document else [], set()
    while todo:
        place, node = todo.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if node.id == "sequence":
            todo += [((*place, number), item) for number, item in enumerate(node.value)]
        elif node.id == "mapping":
            names = set()
            for key, value in node.value:
                name = str(key.value)
                if name in names:
                    yield f", line {key.start_mark.line + 1}: {dotted((*place, name))}"
                names.add(name)
                todo.append(((*place, name), value))
