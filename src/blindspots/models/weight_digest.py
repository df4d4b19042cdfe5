"""What is known of a file of weights before it is read; imports nothing heavy."""

import os
from pathlib import Path

from blindspots.artifacts import file_digest
from blindspots.errors import UserError

FORMATS = {".safetensors": "safetensors", ".pt": "torch", ".pth": "torch"}


def describe(path):
    """Tell a file of weights apart from any other, for planning.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict
        ``format``: ``safetensors`` or ``torch``, by the ending; ``content``: hexadecimal SHA-256 of
        the bytes. Neither name nor date count.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, or has another ending.
    """
    form = FORMATS.get(Path(path).suffix.lower())
    if form is None:
        raise UserError(
            f"{path} is of no known format; give weights as .safetensors, or a state dict that "
            "torch.save has written as .pt or .pth"
        )
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is not a file; give the file of the weights itself")
    try:
        return {"format": form, "content": file_digest(path)}
    except FileNotFoundError:
        raise UserError(f"{path} is missing; put the weights there or correct the path") from None
    except (OSError, ValueError) as error:  # the last of a path that no file can have
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason})") from None
