"""Where files that a configuration names are looked for."""

import os
from pathlib import Path


def below(root, path):
    """Return the path of a file: in the working directory or, if it is not there, in a data root.

    Parameters
    ----------
    root : path-like
    path : str
        As the configuration gives it; ``~`` is the home folder.

    Returns
    -------
    str
    """
    path = os.path.expanduser(path)
    elsewhere = Path(root) / path
    path = str(elsewhere) if not Path(path).exists() and elsewhere.exists() else path
    return f"./{path}" if path.startswith("-") else path  # which would be taken for an option
