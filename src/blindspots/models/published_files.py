"""Files that others publish under a name that ends in the first digits of their SHA-256."""

import re
from pathlib import Path

from blindspots.artifacts import file_digest
from blindspots.errors import UserError


def fetched(url, folder, download):
    """Return the path of a published file, after a download if need be, checked.

    Parameters
    ----------
    url : str
        Ends in ``name-<digits>.ending``.
    folder : path-like
        Where the file is looked for, and put.
    download : bool
        Whether it may be fetched.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    UserError
        If it is not there and may not or cannot be fetched, or if it is damaged.
    """
    name = url.rpartition("/")[2]
    path = Path(folder) / name
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", name)[1]
    if not path.is_file():
        if not download:
            raise UserError(
                f"{path} is missing, and download is false; put there what lies at {url}"
            )
        _fetch(url, path, digits)
    if not file_digest(path).startswith(digits):
        raise UserError(f"{path} is damaged: its name is not that of its content; delete it")
    return path


def _fetch(url, path, digits):
    from torch.hub import download_url_to_file

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        download_url_to_file(url, path, hash_prefix=digits, progress=False)
    except (OSError, RuntimeError) as error:  # the last of another content than published
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UserError(
            f"{url} cannot be fetched ({reason}); put the file at {path} and run again"
        ) from None
