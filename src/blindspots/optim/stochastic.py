"""Steps of gradient descent on noisy gradients: Adam, and descent with momentum.

Those of torch load its compiler, which takes as long as many a training; and here the numbers that
change from step to step are tensors, so that a step can be recorded on a GPU (`replay.py`).
"""

import math

import torch

FIRST, SECOND, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as published


def cosine_rates(rate, steps):
    """Return the rates of so many steps, which fall to zero along half a cosine.

    Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5.

    Returns
    -------
    list of float
    """
    return [rate * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


class Descent:
    """What both have in common: the parameters, and the numbers of each step.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
        Those that need no gradient are passed over.
    numbers : sequence of list of float
        For each step what changes from step to step.
    states : int
        Tensors like the parameters that are kept from step to step.
    """

    def __init__(self, parameters, numbers, states):
        self.parameters = [p for p in parameters if p.requires_grad]
        like = self.parameters[0]
        self.numbers = torch.tensor(numbers, dtype=torch.float64).to(like)  # (numbers, steps)
        self.done = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.states = [[torch.zeros_like(p) for p in self.parameters] for _ in range(states)]

    def state_dict(self):
        """Return what a later step depends on, for a checkpoint."""
        return {"done": self.done, "states": self.states}

    def load_state_dict(self, state):
        """Go on from a state that `state_dict` has returned."""
        self.done.copy_(state["done"])
        for kept, saved in zip(self.states, state["states"], strict=True):
            for tensor, value in zip(kept, saved, strict=True):
                tensor.copy_(value)

    def zero_grad(self):
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self):
        """Take a step by the present gradients; a parameter without one has a gradient of zero."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        self._step(gradients, *self.numbers.index_select(1, self.done)[:, 0].unbind())
        self.done += 1


class Adam(Descent):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1).

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
    rates : list of float
        Of each step.
    """

    def __init__(self, parameters, rates):
        counts = range(1, len(rates) + 1)
        sizes = [rate / (1 - FIRST**k) for rate, k in zip(rates, counts, strict=True)]
        roots = [math.sqrt(1 - SECOND**k) for k in counts]
        super().__init__(parameters, (sizes, roots), states=2)

    def _step(self, gradients, size, root):
        means, squares = self.states
        torch._foreach_lerp_(means, gradients, 1 - FIRST)
        torch._foreach_mul_(squares, SECOND)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - SECOND)
        below = torch._foreach_sqrt(squares)
        torch._foreach_div_(below, root)
        torch._foreach_add_(below, EPSILON)
        steps = torch._foreach_div(means, below)
        torch._foreach_mul_(steps, size)
        torch._foreach_sub_(self.parameters, steps)


class Momentum(Descent):
    """Descent along a decaying sum of the gradients (Sutskever et al. 2013, as torch's SGD has it).

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
    rates : list of float
        Of each step.
    momentum : float
        What is kept of the sum at each step, in [0, 1).
    """

    def __init__(self, parameters, rates, momentum):
        super().__init__(parameters, (rates,), states=1)
        self.momentum = momentum

    def _step(self, gradients, rate):
        (sums,) = self.states
        torch._foreach_mul_(sums, self.momentum)
        torch._foreach_add_(sums, gradients)
        torch._foreach_sub_(self.parameters, torch._foreach_mul(sums, rate))
