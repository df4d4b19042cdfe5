"""Downloads of data sets by torchvision."""

from blindspots.torchvision_import import import_with_torchvision

DATASETS = import_with_torchvision("torchvision.datasets")


def download(kind, root):
    """Download a data set of MNIST's family with torchvision, which verifies the archives.

    Parameters
    ----------
    kind : str
        Name of the class in ``torchvision.datasets``: ``MNIST``, ``FashionMNIST`` or ``KMNIST``.
    root : path-like
        The files come to lie in ``root/kind/raw``.

    Raises
    ------
    RuntimeError, OSError
        If it cannot be downloaded.
    """
    getattr(DATASETS, kind)(root, train=True, download=True)
