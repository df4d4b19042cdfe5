"""Data sets in torchvision's layout: what their files hold, and their images.

The files may be the published ones or others in the same form, such as a part of them; which, their
content tells. Pickles are read without running code: numpy's arrays, and what is in them, alone.
"""

import hashlib
import io
import math
import pickle
from pathlib import Path

from blindspots.data.facts import Dataset, Facts
from blindspots.data.idx import PUBLISHED
from blindspots.data.index import Index, stamp
from blindspots.data.names import check_names, line, unless_numbers
from blindspots.data.torchvision_catalogue import CATALOGUE
from blindspots.errors import UserError

SHAPE = (3, 32, 32)
SIZE = math.prod(SHAPE)
# What numpy's arrays and numbers are made of, under the names of numpy 1 and 2.
ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
}


def planned(name, root):
    """Return what is known of a data set without its images.

    A file that is not there counts as published, for that is what a download would bring.

    Parameters
    ----------
    name : str
        A key of `blindspots.data.torchvision_catalogue.CATALOGUE`.
    root : path-like
        Data root.

    Returns
    -------
    Facts
        Its content maps every file to ``as published``, or the hexadecimal SHA-256 of another one.

    Raises
    ------
    UserError
        If a file is there that is not of the right form.
    """
    entry, told = CATALOGUE[name], {}
    with Index(f"{name} below {Path(root).absolute()}", [__file__], ["numpy", "scipy"]) as index:
        for base, file in _files(entry):
            told[file.path] = _told(name, base, file, Path(root) / file.path, index)
    return _facts(entry, root, told)


def load(name, root, download, content):
    """Read the images and labels of a data set that `planned` has seen.

    Parameters
    ----------
    name, root
        As for `planned`.
    download : bool
        Whether missing files may be fetched into the data root.
    content : dict of str to str
        As of `planned`.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        If a file is missing and cannot be downloaded, or is not the one that was planned for.
    """
    import numpy as np

    entry, root = CATALOGUE[name], Path(root)
    missing = [file.path for _, file in _files(entry) if not (root / file.path).is_file()]
    if missing:
        if not download:
            raise _unusable(name, root / missing[0], "is missing")
        _fetch(name, root, missing)
    told, arrays = {}, {base: [] for base in entry.files}
    for base, file in _files(entry):
        path = root / file.path
        held = _bytes(name, path)
        if _identity(file, held) != content[file.path]:
            raise UserError(
                f"{path} is another file than snakemake saw when it planned this job; leave it "
                "alone, where both see the same, and run again"
            )
        if base is None:
            told[file.path] = {"names": _names(entry, path, held)}
        else:
            arrays[base].append(_read(entry, path, held))
            told[file.path] = _summary(arrays[base][-1][1])
    joined = {b: [np.concatenate(part) for part in zip(*a, strict=True)] for b, a in arrays.items()}
    images, labels = ({base: pair[n] for base, pair in joined.items()} for n in (0, 1))
    return Dataset(images, labels, _facts(entry, root, told))


def _files(entry):
    """Yield base set and file; of the names of the classes, which come first, no base set."""
    if entry.meta:
        yield None, entry.meta
    for base, files in entry.files.items():
        for file in files:
            yield base, file


def _told(name, base, file, path, index):
    """Return what is known of a file: its content and, unless it is published, what it holds."""
    if not path.exists():
        return {"content": PUBLISHED}
    stamps = [stamp(path)]
    found = index.get(file.path, stamps)
    if found is None:
        held, entry = _bytes(name, path), CATALOGUE[name]
        found = {"content": _identity(file, held)}
        if found["content"] != PUBLISHED:
            found |= (
                {"names": _names(entry, path, held)}
                if base is None
                else _summary(_read(entry, path, held)[1])
            )
        index.keep(file.path, stamps, found)
    return found


def _facts(entry, root, told):
    """Return the facts of a data set; what is not told of a file is as published."""
    names = entry.names
    if entry.meta:
        names = told[entry.meta.path].get("names", names)
    classes, trained = len(names) if names else entry.classes, set()
    for base, file in _files(entry):
        labels = told[file.path].get("labels", range(entry.classes))
        if base and max(labels) >= classes:
            raise UserError(
                f"{root}/{file.path} has a label {max(labels)}, but there are {classes} classes"
                f"{f' in {entry.meta.path}' if entry.meta else ''}; correct one of the two"
            )
        trained |= set(labels) if base == "train" else set()
    if absent := sorted(set(range(classes)) - trained):
        raise UserError(
            f"{root}/{entry.files['train'][0].path}: class {absent[0]} of {classes} has no "
            "training image; give each some, and number the classes from 0 without gaps"
        )
    sizes = {
        base: sum(told[file.path].get("images", file.images) for file in files)
        for base, files in entry.files.items()
    }
    return Facts(
        entry.title,
        sizes,
        SHAPE,
        classes,
        names=names and unless_numbers(list(names)),
        content={path: about.get("content") for path, about in told.items()},
    )


def _identity(file, content):
    """Return ``as published``, or the hexadecimal SHA-256 of a file's content."""
    if hashlib.md5(content, usedforsecurity=False).hexdigest() == file.md5:
        return PUBLISHED
    return hashlib.sha256(content).hexdigest()


def _summary(labels):
    """Return what planning is told of the labels of a file."""
    import numpy as np

    return {"images": len(labels), "labels": np.unique(labels).tolist()}


# Forms -------------------------------------------------------------------------------------------


def _read(entry, path, content):
    """Return the images of a file, uint8 (N, C, H, W), and their labels, int64 (N,)."""
    import numpy as np

    images, labels = (_cifar if entry.form == "cifar" else _svhn)(entry, path, content)
    labels = np.asarray(labels).reshape(-1) if labels is not None else np.empty(0)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or not images.size:
        raise _formless(path, "holds no images of type uint8")
    if len(images) != len(labels) or images.size != len(labels) * SIZE:
        raise _formless(path, f"holds {len(labels)} labels and pixels of shape {images.shape}")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise _formless(path, "holds labels that are no whole numbers from 0")
    return np.ascontiguousarray(images).reshape(-1, *SHAPE), labels.astype(np.int64)


def _cifar(entry, path, content):
    held = _unpickled(path, content)
    return held.get("data"), held.get(entry.labels)


def _svhn(entry, path, content):
    import numpy as np
    from scipy.io import loadmat

    try:
        held = loadmat(io.BytesIO(content), variable_names=["X", "y"])
    except Exception as error:  # damaged bytes lead it to any
        raise _damaged(path, error) from None
    images, labels = held.get("X"), held.get("y")
    if labels is not None:
        labels = np.where(labels == 10, 0, labels)  # the digit 0
    # Height, width, channels, images.
    return (images.transpose(3, 2, 0, 1) if np.ndim(images) == 4 else None), labels


def _names(entry, path, content):
    """Return the names of the classes that a file holds."""
    names = _unpickled(path, content).get(entry.meta_names)
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(n, str) for n in names):
        raise _formless(path, f"holds no list {entry.meta_names} of two names or more")
    check_names(path, f"in {entry.meta_names}", names)
    return names


class _Unpickler(pickle.Unpickler):
    """Reads plain values and numpy's arrays; whatever else a pickle asks for is refused."""

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):  # bytes, in pickles of protocol 2
            return _latin1
        if (module, name) not in ALLOWED:
            raise _Unsafe(f"{module}.{name}")
        return super().find_class(module, name)


class _Unsafe(Exception):  # noqa: N818
    """A pickle asks for something else than arrays."""


def _latin1(text, encoding):
    return text.encode("latin1")


def _unpickled(path, content):
    """Return the mapping in a pickle, whose keys are text."""
    try:
        held = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except _Unsafe as error:
        raise UserError(
            f"{path} is a pickle that asks for {line(str(error))}, which may run code; give the "
            "published file, or one with arrays, lists, numbers and text alone"
        ) from None
    except Exception as error:  # damaged bytes lead it to any
        raise _damaged(path, error) from None
    if not isinstance(held, dict):
        raise _formless(path, "holds no mapping")
    return {k.decode("latin1") if isinstance(k, bytes) else k: value for k, value in held.items()}


# Files -------------------------------------------------------------------------------------------


def _bytes(name, path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(name, path, f"cannot be read ({error.strerror})") from None


def _fetch(name, root, missing):
    """Download the published files, and move those in that are missing."""
    from blindspots.data.torchvision_datasets import fetch

    try:
        fetch(name, root, missing)
    except (OSError, RuntimeError) as error:
        reason = f"is missing and could not be downloaded ({error})"
        raise _unusable(name, root / missing[0], reason) from None


def _unusable(name, path, found):
    """Return the error of a file that is not there, with the ways out."""
    return UserError(
        f"{path} {found}. To get {name}: let it be downloaded (download: true, with a network), or "
        f"point BLINDSPOTS_DATA or data_root to a folder that holds "
        f"{next(iter(CATALOGUE[name].files['test'])).path}"
    )


def _formless(path, what):
    return UserError(
        f"{path} {what}; give the published file, or another in the same form: 32 x 32 pixels of "
        "three channels and a label for each"
    )


def _damaged(path, error):
    reason = line(str(error)).rstrip(".") or type(error).__name__
    return UserError(f"{path} is truncated or damaged ({reason}); fetch or write it again")
