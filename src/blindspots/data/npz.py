"""A user's images and labels in a NumPy archive: arrays as `blindspots.data.arrays` wants them.

Planning needs the facts, so they come from the headers of the arrays, and the pixels stay packed.
"""

import hashlib
import lzma
import math
import os
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from blindspots.data.arrays import ARRAYS, CLASSES, channels_first, checked
from blindspots.data.facts import BASES
from blindspots.data.names import line
from blindspots.errors import UserError

# What zipfile, zlib and numpy raise of bytes that are not an archive's.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError)


def facts(path):
    """Check an archive and return what is known of it, without reading the pixels.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    blindspots.data.facts.Facts
        The title is the file's name without its ending, the content the hexadecimal SHA-256 of the
        file.

    Raises
    ------
    UserError
        If it cannot be read, or its arrays are not what they should be.
    """
    with _archive(path) as (archive, content):
        missing = [name for name in ARRAYS if f"{name}.npy" not in archive.namelist()]
        if missing:
            raise UserError(
                f"{path} holds no array {' or '.join(missing)}; save {', '.join(ARRAYS)} under "
                "these names, by numpy.savez_compressed"
            )
        names = [*ARRAYS, *([CLASSES] if f"{CLASSES}.npy" in archive.namelist() else [])]
        header, read = partial(_header, path, archive), partial(_read, archive)
        return replace(checked(path, Path(path).stem, names, header, read), content=content)


def load(path, expected_content):
    """Read the images and labels of an archive that `facts` has checked.

    Parameters
    ----------
    path : path-like
    expected_content : str
        Content of the facts of the archive that was planned for.

    Returns
    -------
    images : dict of str to numpy.ndarray of uint8, shape (N, C, H, W)
        For the base sets ``train`` and ``test``; contiguous.
    labels : dict of str to numpy.ndarray of int64, shape (N,)

    Raises
    ------
    UserError
        If the file cannot be read, is damaged, or is not the one that was planned for.
    """
    import numpy as np

    images, labels = {}, {}
    with _archive(path) as (archive, content):
        if content != expected_content:
            raise UserError(
                f"{path} is another file than snakemake saw when it planned this job; leave it "
                "alone and run again"
            )
        for base in BASES:
            images[base] = channels_first(_read(archive, f"{base}_images"))
            labels[base] = _read(archive, f"{base}_labels").astype(np.int64)
    return images, labels


@contextmanager
def _archive(path):
    """Open an archive with the digest of its bytes; of what damage raises inside, make a sentence.

    Digest and arrays come from one open file, which a rename over it does not exchange.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is not a file; give the .npz file itself")
    try:
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
            with zipfile.ZipFile(stream) as archive:
                yield archive, content
    except FileNotFoundError:
        raise UserError(f"{path} is missing; put the .npz file there or correct the path") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except DAMAGE as error:
        raise UserError(
            f"{path} is truncated, damaged or no .npz file ({line(str(error)).rstrip('.')}); "
            "save it again by numpy.savez_compressed"
        ) from None


def _header(path, archive, name, wanted):
    """Return the shape and type of an array; what is wrong with it is named beside the wanted."""
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with archive.open(f"{name}.npy") as member:
        version = npy.read_magic(member)
        if version not in readers:
            raise ValueError(f"{name} is of version {version} of the format, which is not read")
        shape, _, dtype = readers[version](member)
        start = member.tell()
    if dtype.hasobject:
        raise UserError(
            f"{path}: {name} is a pickle of Python objects, which may run code; save it as an "
            f"array of {wanted}"
        )
    held = archive.getinfo(f"{name}.npy").file_size - start
    if held != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {held} bytes, which are not those of shape {shape}")
    return shape, dtype


def _read(archive, name):
    from numpy.lib import format as npy

    with archive.open(f"{name}.npy") as member:
        return npy.read_array(member, allow_pickle=False)
