"""Downloads of data sets by torchvision."""

import logging
import os
import tempfile
from pathlib import Path

from blindspots.torchvision_import import import_with_torchvision

LOG = logging.getLogger(__name__)
DATASETS = import_with_torchvision("torchvision.datasets")


def fetch(kind, root, files):
    """Download a data set, and move files of it in when all are whole.

    Parameters
    ----------
    kind : str
        As for `download`.
    root : path-like
        Data root, which is made if need be.
    files : sequence of str
        Paths below the data root, in torchvision's layout.

    Raises
    ------
    RuntimeError, OSError
        If they cannot be downloaded or written.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
        LOG.info("downloading %s to %s", kind, root)
        download(kind, temporary)
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(temporary, file), root / file)  # the same file system


def download(kind, root):
    """Download a data set with torchvision, which verifies the archives.

    Parameters
    ----------
    kind : str
        Name of the class in ``torchvision.datasets``.
    root : path-like
        The files come to lie in torchvision's layout below.

    Raises
    ------
    RuntimeError, OSError
        If it cannot be downloaded.
    """
    # Others bring all files at once.
    parts = [{"split": "train"}, {"split": "test"}] if kind == "SVHN" else [{"train": True}]
    for part in parts:
        getattr(DATASETS, kind)(root, **part, download=True)
