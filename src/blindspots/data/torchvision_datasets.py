"""The only place that imports torchvision.

A CPU-only build of torch may meet a torchvision whose compiled extension cannot load; importing
torchvision then fails because two operators that it describes are not declared. Declaring them
first is enough for data sets, models and transforms.
"""

import torch


def _import_datasets():
    library = None
    try:
        from torchvision import datasets
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import datasets
    return datasets, library


# The declarations last as long as the library object lives.
DATASETS, _DECLARATIONS = _import_datasets()


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
