"""Users' modules, each ``module:name``: where they are looked for, and what counts of each."""

import ast
import hashlib
import os
from functools import cache
from pathlib import Path

from blindspots.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]  # beside the Snakefile


def search_path():
    """Return the folders in which users' modules are looked for: where steps find them, in order.

    The working directory, the folder of the Snakefile, and those of PYTHONPATH.

    Returns
    -------
    list of str
    """
    elsewhere = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [os.getcwd(), str(PROJECT), *filter(None, elsewhere)]


def fingerprint_user_module(reference, search_path):
    """Fingerprint the file behind a user's ``module:name`` without importing it.

    Parameters
    ----------
    reference : str
        ``"package.module:name"``.
    search_path : sequence of str
        Folders in which the module is looked for, in order.

    Returns
    -------
    str
        Hexadecimal SHA-256 of the normalised source of that one file.

    Raises
    ------
    UserError
        If there is no such Python file, it cannot be read, or it is not valid Python.
    """
    module = reference.partition(":")[0]
    below = Path(*module.split("."))
    for folder in search_path:
        base = Path(folder) / below
        for path in (base / "__init__.py", base.with_suffix(".py")):  # as Python looks
            if path.is_file():
                return _fingerprint_file(path)
    raise UserError(
        f"no Python file {below.with_suffix('.py')} for {reference!r}: put it beside the Snakefile "
        "or its folder on PYTHONPATH"
    )


def _fingerprint_file(path):
    try:
        return hashlib.sha256(normalised(path).encode()).hexdigest()
    except (SyntaxError, ValueError) as error:  # of null bytes, which have no line
        line = getattr(error, "lineno", None)
        where = f"{path}, line {line}," if line else path
        raise UserError(f"{where} is not valid Python: {error.args[0]}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


@cache
def normalised(path):
    """Return the source of a file without comments, docstrings and layout.

    The unparsed source is hashed rather than a dump of the tree because it differs less between
    versions of Python.
    """
    tree = ast.parse(path.read_bytes())  # heeds a coding line
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                    node.body = rest or [ast.Pass()]
    return ast.unparse(tree)
