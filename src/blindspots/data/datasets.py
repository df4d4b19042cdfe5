"""Data sets as arrays: embedded digits, and MNIST's family from files that are checked."""

import gzip
import hashlib
import logging
import os
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blindspots.data.catalogue import CATALOGUE, IDX_FILES
from blindspots.errors import UserError

LOG = logging.getLogger(__name__)
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049


@dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes
    ----------
    images : dict of str to numpy.ndarray of uint8, shape (N, 1, H, W)
        For the base sets ``train`` and ``test``.
    labels : dict of str to numpy.ndarray of int64, shape (N,)
    maximum : int
        Pixel value that stands for 1.
    """

    images: dict
    labels: dict
    maximum: int


def load_dataset(name, root, download):
    """Read a data set.

    Parameters
    ----------
    name : str
        A key of `blindspots.data.catalogue.CATALOGUE`.
    root : path-like
        Data root, in torchvision's layout; not used for ``digits``.
    download : bool
        Whether missing files may be fetched into the data root.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        If a file is missing and cannot be downloaded, or is not the file that is expected.
    """
    entry = CATALOGUE[name]
    if name == "digits":
        return _digits(entry)
    if Path(root).exists() and not Path(root).is_dir():
        raise _unusable(name, root, "is not a folder", "")
    folder = Path(root) / entry.folder / "raw"
    missing = [file for file in IDX_FILES.values() if _find(folder, file) is None]
    if missing:
        if not download:
            raise _unusable(name, folder / missing[0], "is missing", "")
        _download(name, entry, Path(root), missing)
    images, labels = {}, {}
    for base, size in entry.sizes.items():
        shape = (size, entry.side, entry.side)
        pixels = _read_idx(name, entry, folder, base, "images", IMAGES_MAGIC, shape)
        answers = _read_idx(name, entry, folder, base, "labels", LABELS_MAGIC, (size,))
        if answers.max() >= entry.classes:
            path = folder / IDX_FILES[base, "labels"]
            raise _unusable(
                name, path, f"has a label {answers.max()}", f"labels below {entry.classes}"
            )
        images[base] = pixels[:, None]
        labels[base] = answers.astype(np.int64)
    return Dataset(images, labels, entry.maximum)


def _digits(entry):
    """Return scikit-learn's embedded digits, cut into training and test set once and for all."""
    from sklearn.datasets import load_digits

    source = load_digits()
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(source.target))
    cut = {"train": order[: entry.sizes["train"]], "test": order[entry.sizes["train"] :]}
    images = {base: source.images[rows].astype(np.uint8)[:, None] for base, rows in cut.items()}
    labels = {base: source.target[rows].astype(np.int64) for base, rows in cut.items()}
    return Dataset(images, labels, entry.maximum)


def _find(folder, file):
    """Return the path of an IDX file, uncompressed or as .gz, or None."""
    for candidate in (folder / file, folder / f"{file}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _read_idx(name, entry, folder, base, kind, magic, shape):
    """Read and check one IDX file: digest where one is known, header, size."""
    file = IDX_FILES[base, kind]
    path = _find(folder, file)
    expected = struct.pack(f">{1 + len(shape)}I", magic, *shape)
    length = len(expected) + int(np.prod(shape))
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            content = stream.read(length + 1)  # no more: a small archive may hold terabytes
    except (OSError, EOFError, zlib.error) as error:
        raise _unusable(name, path, f"cannot be read ({error})", f"{file}") from None
    if len(content) != length:
        held = f"more than {length}" if len(content) > length else f"{len(content)}"
        raise _unusable(name, path, f"holds {held} bytes", f"{length}")
    if content[: len(expected)] != expected:
        found = content[: len(expected)].hex()
        raise _unusable(name, path, f"starts with {found}", expected.hex())
    wanted = (entry.raw_md5 or {}).get(file)
    if wanted:
        actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if actual != wanted:
            raise _unusable(name, path, f"has MD5 {actual}", wanted)
    else:
        LOG.info("%s: header and size are right; no digest of it is on record", path)
    return np.frombuffer(content, np.uint8, offset=len(expected)).reshape(shape)


def _download(name, entry, root, missing):
    """Fetch missing files through torchvision, which checks them, and move them in when whole."""
    from blindspots.data.torchvision_datasets import download

    folder = root / entry.folder / "raw"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            LOG.info("downloading %s to %s", name, root)
            download(entry.folder, temporary)
            folder.mkdir(parents=True, exist_ok=True)
            for file in missing:
                source = Path(temporary) / entry.folder / "raw" / file
                os.replace(source, folder / file)  # the same file system: below the data root
    except (OSError, RuntimeError) as error:
        reason = f"is missing and could not be downloaded ({error})"
        raise _unusable(name, folder / missing[0], reason, "") from None


def _unusable(name, path, found, expected):
    wanted = f"; expected {expected}" if expected else ""
    return UserError(
        f"{path} {found}{wanted}. To get {name}: let it be downloaded (download: true, with a "
        "network), or point BLINDSPOTS_DATA or data_root to a folder that holds "
        f"{CATALOGUE[name].folder}/raw, or run the embedded data with STUDY=digits"
    )
