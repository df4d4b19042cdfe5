"""The 8x8 UCI digits that scikit-learn brings along: they need neither files nor a network."""

from blindspots.data.facts import Dataset, Facts

NAMES = ("digits",)
PACKAGES = ("numpy", "scikit-learn")
FACTS = Facts("UCI digits", {"train": 1297, "test": 500}, shape=(1, 8, 8), maximum=16)


def facts(config, root):
    """Return the facts of the data set, part of a library whose version is known."""
    return FACTS


def options(config, root):
    """Return what the step is told besides: nothing."""
    return {}


def load(job=None):
    """Return the digits, cut into training and test set once and for all, whatever the job."""
    import numpy as np
    from sklearn.datasets import load_digits

    source = load_digits()
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(source.target))
    size = FACTS.sizes["train"]
    cut = {"train": order[:size], "test": order[size:]}
    images = {base: source.images[rows].astype(np.uint8)[:, None] for base, rows in cut.items()}
    labels = {base: source.target[rows].astype(np.int64) for base, rows in cut.items()}
    return Dataset(images, labels, FACTS)


if __name__ == "__main__":
    from blindspots.steps.prepare_data import prepare

    prepare(load)
