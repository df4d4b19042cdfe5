"""A fitted classifier of scikit-learn as a model: its answers, without scores or gradients."""

from functools import cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import nn


class Predictions(nn.Module):
    """Maps images (B, C, H, W) in [0, 1] to 1 for the class that is predicted and 0 for the others.

    The argmax of these is what ``predict`` says, exactly. That of a classifier's own scores may be
    another class: those of an SVC are sums over pairs of classes that vote, and those of a forest
    may be equal once they are rounded to float32.

    It is computed on the CPU, with as many threads as torch may use there, and returned where the
    images are.

    Parameters
    ----------
    estimator : sklearn.base.ClassifierMixin
        Fitted on rows of pixels (`rows_of`) and on labels in ``range(classes)``.
    classes : int
    """

    def __init__(self, estimator, classes):
        super().__init__()
        self.estimator, self.classes = estimator, classes

    def forward(self, images):
        with at_most(torch.get_num_threads()):
            answers = self.estimator.predict(rows_of(images))
        answers = torch.from_numpy(np.asarray(answers, dtype=np.int64)).to(images.device)
        return nn.functional.one_hot(answers, self.classes).float()


def rows_of(images):
    """Return images (B, C, H, W), on whatever device, as float64 rows of pixels (B, C H W)."""
    return images.detach().flatten(1).cpu().double().numpy()


def at_most(threads):
    """Return a context in which numerical libraries below numpy and scikit-learn use few threads.

    Parameters
    ----------
    threads : int
    """
    return _libraries().limit(limits=threads)


@cache
def _libraries():
    return ThreadpoolController()  # looking for them takes longer than a prediction
