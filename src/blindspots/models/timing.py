"""How long a network takes for an image, measured on a few before it is asked about many."""

import math
import time
from typing import NamedTuple

import torch

from blindspots.models.admission import LOOKS, few_of
from blindspots.models.state import frozen
from blindspots.seeding import seeded

# Images that are measured: so many numbers together and so many images at the most, so that it
# takes less than a hundredth of what follows; so many on a GPU, where a pass over few takes as
# long; and the least, one after the other, for on a busy machine a single pass says little.
NUMBERS, MOST, MOST_ON_A_GPU, LEAST = 2**17, 128, 64, 4


class Speed(NamedTuple):
    """Seconds for one image.

    Attributes
    ----------
    pass_ : float
        A forward pass, or one forward and back to the pixels.
    pixels : float
        One operation on its pixels.
    classes : int
        Of the network.
    looks : int
        How many images it costs to look at the network (`blindspots.models.admission.admit`).
    """

    pass_: float
    pixels: float
    classes: int
    looks: int


def speed_of(network, images, gradient, clock=time.perf_counter):
    """Measure how fast a network is on images like these.

    Parameters
    ----------
    network : torch.nn.Module
        Maps images to logits (B, C).
    images : torch.Tensor of float32, shape (B, ...)
    gradient : bool
        Whether the way back to the pixels counts, too.
    clock : callable
        Returns the present time in seconds.

    Returns
    -------
    Speed or None
        None where the network fails, which whoever asks it in earnest will tell.
    """
    on_gpu = images.device.type == "cuda"
    fitting = MOST_ON_A_GPU if on_gpu else min(MOST, NUMBERS // images[0].numel())
    few = images[: max(1, fitting)]
    times = math.ceil(LEAST / len(few))
    shares = few.new_full((len(few), 1), 0.5)

    def forward():
        points = few.clone().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            logits = network(points)
            if gradient:
                torch.autograd.grad(logits.sum(), points)
        return logits

    def pixels():
        return torch.addcmul(few.flatten(1), few.flatten(1), shares)

    def seconds(work):
        work()  # the first time something is set up
        if on_gpu:
            torch.cuda.synchronize(images.device)
        begin = clock()
        for _ in range(times):
            result = work()
        if on_gpu:
            torch.cuda.synchronize(images.device)
        return (clock() - begin) / (times * len(few)), result

    with frozen(network), seeded(0, images.device):
        try:
            pass_, logits = seconds(forward)
        except RuntimeError:
            return None
        looks = 2 * LOOKS * len(few_of(images))
        return Speed(pass_, seconds(pixels)[0], logits.shape[1], looks)
