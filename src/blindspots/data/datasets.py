"""MNIST and its family as arrays, from files that are checked."""

import logging
from pathlib import Path

import numpy as np

from blindspots.data.catalogue import CATALOGUE, IDX_FILES, facts_of
from blindspots.data.facts import Dataset
from blindspots.data.idx import find, identity, raw_folder, read_idx, shape_of, unusable
from blindspots.errors import UserError

LOG = logging.getLogger(__name__)


def load_dataset(name, root, download, expected=None):
    """Read a data set.

    Parameters
    ----------
    name : str
        A key of `blindspots.data.catalogue.CATALOGUE`.
    root : path-like
        Data root, in torchvision's layout.
    download : bool
        Whether missing files may be fetched into the data root.
    expected : dict of str to str, optional
        What the files must hold, as `blindspots.data.idx.contents` tells it.

    Returns
    -------
    blindspots.data.facts.Dataset

    Raises
    ------
    UserError
        If a file is missing and cannot be downloaded, or is not the file that is expected.
    """
    entry = CATALOGUE[name]
    if Path(root).exists() and not Path(root).is_dir():
        raise unusable(name, root, "is not a folder", "")
    folder = raw_folder(name, root)
    missing = [file for file in IDX_FILES.values() if find(folder, file) is None]
    if missing:
        if not download:
            raise unusable(name, folder / missing[0], "is missing", "")
        _download(name, entry, Path(root), missing)
    arrays = {}
    for (base, kind), file in IDX_FILES.items():
        content, start = read_idx(name, root, base, kind)
        if expected and identity(name, root, base, kind, content) != expected[file]:
            raise UserError(
                f"{find(folder, file)} is another file than snakemake saw when it planned this "
                "job; leave it alone, where both see the same, and run again"
            )
        values = np.frombuffer(content, np.uint8, offset=start)
        arrays[base, kind] = values.reshape(shape_of(name, base, kind))
    for base in entry.sizes:
        highest = arrays[base, "labels"].max()
        if highest >= entry.classes:
            path = find(folder, IDX_FILES[base, "labels"])
            raise unusable(name, path, f"has a label {highest}", f"labels below {entry.classes}")
    if not entry.raw_md5:
        LOG.info("%s: headers and sizes are right; no digests of the files are on record", folder)
    images = {base: arrays[base, "images"][:, None] for base in entry.sizes}
    labels = {base: arrays[base, "labels"].astype(np.int64) for base in entry.sizes}
    return Dataset(images, labels, facts_of(name))


def _download(name, entry, root, missing):
    """Fetch missing files through torchvision, which checks them, and move them in when whole."""
    from blindspots.data.torchvision_datasets import fetch

    folder = raw_folder(name, root)
    # The archive, where only its digest is known: it shows that this is the published.
    archives = entry.archive_md5 or {}
    kept = [f"{file}.gz" if f"{file}.gz" in archives else file for file in missing]
    try:
        fetch(entry.folder, root, [f"{entry.folder}/raw/{file}" for file in kept])
    except (OSError, RuntimeError) as error:
        reason = f"is missing and could not be downloaded ({error})"
        raise unusable(name, folder / missing[0], reason, "") from None
