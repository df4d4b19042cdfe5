"""Files of MNIST's family: found, read, checked, and told apart by what they hold.

Planning needs this, too, so it imports nothing heavy.
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

from blindspots.data.catalogue import CATALOGUE, IDX_FILES
from blindspots.errors import UserError

MAGIC = {"images": 2051, "labels": 2049}
PUBLISHED = "as published"


def raw_folder(name, root):
    """Return the folder of a data set's files below a data root."""
    return Path(root) / CATALOGUE[name].folder / "raw"


def find(folder, file):
    """Return the path of an IDX file, uncompressed or as .gz, or None."""
    for candidate in (folder / file, folder / f"{file}.gz"):
        if candidate.is_file():
            return candidate
    return None


def shape_of(name, base, kind):
    """Return the shape of the array in a file: (N, H, W) for images, (N,) for labels."""
    entry = CATALOGUE[name]
    size = entry.sizes[base]
    return (size, entry.side, entry.side) if kind == "images" else (size,)


def read_idx(name, root, base, kind):
    """Read a file that is there and check its size, its header and a digest that is on record.

    Parameters
    ----------
    name : str
        A key of `blindspots.data.catalogue.CATALOGUE` whose files lie in a folder.
    root : path-like
        Data root.
    base, kind : str
        A key of `blindspots.data.catalogue.IDX_FILES`.

    Returns
    -------
    content : bytes
        Uncompressed.
    start : int
        Where the values begin, behind the header.

    Raises
    ------
    UserError
        If the file cannot be read or is not the one that is expected.
    """
    file, shape = IDX_FILES[base, kind], shape_of(name, base, kind)
    path = find(raw_folder(name, root), file)
    header = struct.pack(f">{1 + len(shape)}I", MAGIC[kind], *shape)
    length = len(header) + math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            content = stream.read(length + 1)  # no more: a small archive may hold terabytes
    except (OSError, EOFError, zlib.error) as error:
        raise unusable(name, path, f"cannot be read ({error})", file) from None
    if len(content) != length:
        held = f"more than {length}" if len(content) > length else f"{len(content)}"
        raise unusable(name, path, f"holds {held} bytes", f"{length}")
    if not content.startswith(header):
        raise unusable(name, path, f"starts with {content[: len(header)].hex()}", header.hex())
    wanted = (CATALOGUE[name].raw_md5 or {}).get(file)
    if wanted and (actual := _md5(content)) != wanted:
        raise unusable(name, path, f"has MD5 {actual}", wanted)
    return content, len(header)


def identity(name, root, base, kind, content):
    """Return what tells the content of a file apart from any other.

    Of published files only the archives' digests may be known: then the archive beside the file,
    or in its place, shows that its content is the published one.

    Parameters
    ----------
    name, root, base, kind
        As for `read_idx`.
    content : bytes
        What `read_idx` has read and checked.

    Returns
    -------
    str
        `PUBLISHED`, or the hexadecimal SHA-256 of the content.
    """
    file = IDX_FILES[base, kind]
    archive = raw_folder(name, root) / f"{file}.gz"
    if file in (CATALOGUE[name].raw_md5 or {}):  # and read_idx has compared it
        return PUBLISHED
    if _is_published(name, archive) and gzip.decompress(archive.read_bytes()) == content:
        return PUBLISHED
    return hashlib.sha256(content).hexdigest()


def contents(name, root):
    """Return the identity of every file that a data set is read from.

    A file that is not there counts as published, for that is what a download would bring.

    Raises
    ------
    UserError
        If a file that is there cannot be read or is not the one that is expected.
    """
    try:
        return {file: _content(name, root, *key) for key, file in IDX_FILES.items()}
    except OSError as error:
        raise unusable(name, error.filename, f"cannot be read ({error.strerror})", "") from None


def unusable(name, path, found, expected):
    """Return the error of a file that is not there or not right, with the ways out."""
    wanted = f"; expected {expected}" if expected else ""
    return UserError(
        f"{path} {found}{wanted}. To get {name}: let it be downloaded (download: true, with a "
        "network), or point BLINDSPOTS_DATA or data_root to a folder that holds "
        f"{CATALOGUE[name].folder}/raw, or run the embedded data with STUDY=digits"
    )


def _content(name, root, base, kind):
    path = find(raw_folder(name, root), IDX_FILES[base, kind])
    if path is None or (path.suffix == ".gz" and _is_published(name, path)):
        return PUBLISHED
    content, _ = read_idx(name, root, base, kind)
    return identity(name, root, base, kind, content)


def _is_published(name, archive):
    wanted = (CATALOGUE[name].archive_md5 or {}).get(archive.name)
    try:
        return wanted is not None and _md5(archive.read_bytes()) == wanted
    except OSError:  # not there, or not to be read
        return False


def _md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
