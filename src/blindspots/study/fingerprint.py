"""Fingerprints of source code: what a step runs, without comments, docstrings and layout.

Snakemake does not follow the modules that a step imports. A fingerprint does, so that a real edit
reruns exactly the steps that use the edited module and a comment, a docstring or a fresh clone
reruns nothing.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from blindspots.user_modules import normalised

PACKAGE = "blindspots"
SOURCE_ROOT = Path(__file__).resolve().parents[2]


def fingerprint(module):
    """Fingerprint a module of this package and all that it imports inside the package.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"blindspots.steps.train_model"``.

    Returns
    -------
    str
        Hexadecimal SHA-256 over the normalised sources, in the order of the module names.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(module)):
        digest.update(f"{name}\n{normalised(_source_path(name))}\n".encode())
    return digest.hexdigest()


@cache
def _closure(module):
    """Return the names of ``module`` and of all package modules that it imports, transitively."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(_imports(name))
    return frozenset(seen)


@cache
def _imports(module):
    """Return the package modules that ``module`` imports by absolute name, anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse(_source_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{module} uses a relative import; the package uses absolute ones")
            candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in candidates:
            if name.split(".")[0] == PACKAGE and _source_path(name):
                found.add(name)
    return frozenset(found)


def _source_path(module):
    """Return the source file of a package module, or None if the name is no module."""
    base = SOURCE_ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
