"""L-BFGS for one smooth function without constraints, with a strong Wolfe line search."""

import math

import numpy as np
import torch

DECREASE, CURVATURE = 1e-4, 0.9  # of the two Wolfe conditions
TRIALS = 25  # of one line search
LONGER = 10  # how much longer than the last a step may be that is still too short
MARGIN = 0.1  # how near an end of its interval an interpolated step may be
NARROWEST = 1e-6  # of an interval that is divided, relative to the steps at its ends
ROUNDING = 10  # by how many units of rounding a value may be higher than it should


class LBFGS:
    """A descent of one function, an iteration at a time.

    Directions come from the compact representation of the inverse Hessian (Byrd, Nocedal and
    Schnabel 1994, "Representations of quasi-Newton matrices and their use in limited memory
    methods", theorem 2.2). So an iteration reads the history twice, in two products, and does the
    rest on the host in float64, with matrices as small as the history is long. It waits for the
    device three times.

    Parameters
    ----------
    fun : callable
        ``fun(x)`` returns the value, a scalar tensor, and the gradient, a fresh tensor (n,), at a
        point (n,), which it leaves as it is.
    start : torch.Tensor, shape (n,)
    pairs : int
        Length of the history, m.

    Attributes
    ----------
    point, gradient : torch.Tensor, shape (n,)
        The lowest point so far, and the gradient there.
    value : float
    evaluations, iterations : int
    """

    def __init__(self, fun, start, pairs):
        self.fun, self.pairs = fun, pairs
        self.point, self.gradient = start.clone(), torch.zeros_like(start)
        self.basis = start.new_zeros(2 * pairs, len(start))
        self.lines = self.basis.unbind()  # of each pair the step s and the change y of the gradient
        # By slots: s_i.y_j, 0 where j is older than i; y_i.y_j; s_i and y_i times the gradient.
        self.mixed, self.changes = np.zeros((2, pairs, pairs))
        self.along = np.zeros((pairs, 2))
        self.value, self.evaluations, self.iterations, self.count = math.nan, 0, 0, 0

    def state_dict(self):
        """Return all that it goes on from, for a checkpoint; no copies."""
        tensors = {name: getattr(self, name) for name in ("point", "gradient", "basis")}
        small = {name: getattr(self, name) for name in ("mixed", "changes", "along")}
        counts = ("value", "evaluations", "iterations", "count")
        numbers = {name: getattr(self, name) for name in counts}
        return tensors | {name: torch.from_numpy(array) for name, array in small.items()} | numbers

    def load_state_dict(self, state):
        """Go on from a state that `state_dict` has returned."""
        for name, value in self.state_dict().items():
            if isinstance(value, torch.Tensor):
                value.copy_(state[name])
            else:
                setattr(self, name, state[name])

    def begin(self):
        """Evaluate the start, unless a state was loaded."""
        if not self.evaluations:
            value, self.gradient = self.fun(self.point)
            self.value, self.evaluations = value.item(), 1

    def iterate(self):
        """Go to a point that is lower, to rounding: along the direction, or else the gradient.

        Returns
        -------
        bool
            Whether there is a lower point. None, where the function is not finite at the start.
        """
        if self.count and self._search(self._direction(), 1.0):
            return True
        self.count = 0
        norm = self.gradient.norm().item()
        if not (math.isfinite(self.value) and 0 < norm < math.inf):
            return False
        return self._search(-self.gradient, min(1.0, 1 / norm))

    def _search(self, direction, length):
        """Go along a direction to where the line search ends; return whether that is lower."""
        slope = (direction @ self.gradient).item()
        if not slope < 0:  # not for NaN
            return False
        trials = {}

        def along(length):
            point = torch.add(self.point, direction, alpha=length)
            value, gradient = self.fun(point)
            self.evaluations += 1
            trials[length] = point, gradient
            return torch.stack([value, direction @ gradient]).tolist()

        slack = ROUNDING * torch.finfo(direction.dtype).eps * abs(self.value)
        length, value = strong_wolfe(along, self.value, slope, length, slack)
        if length == 0:
            return False
        self._go(*trials[length])
        self.value, self.iterations = value, self.iterations + 1
        return True

    def _go(self, point, gradient):
        """Go to a point, and keep the step and what it changes in place of the oldest pair."""
        slot = self.count % self.pairs
        step, change = self.lines[2 * slot : 2 * slot + 2]
        torch.sub(point, self.point, out=step)
        torch.sub(gradient, self.gradient, out=change)
        self.point, self.gradient = point, gradient
        kept = min(self.count + 1, self.pairs)
        products = torch.stack([change, gradient]) @ self.basis[: 2 * kept].T
        products = products.cpu().numpy().reshape(2, kept, 2)
        self.along[:kept] = products[1]
        self.mixed[slot], self.mixed[:kept, slot] = 0, products[0, :, 0]
        self.changes[slot, :kept] = self.changes[:kept, slot] = products[0, :, 1]
        self.count += 1
        if not self.mixed[slot, slot] > 0:  # a search that did not end, or rounding
            self.count = 0

    def _direction(self):
        """Return minus the inverse Hessian times the gradient."""
        slots = np.arange(max(0, self.count - self.pairs), self.count) % self.pairs  # oldest first
        mixed, changes = (part[np.ix_(slots, slots)] for part in (self.mixed, self.changes))
        on_steps, on_changes = self.along[slots].T
        scale = mixed[-1, -1] / changes[-1, -1]
        inner = np.linalg.solve(mixed, on_steps)  # both are triangular
        outer = mixed.diagonal() * inner + scale * (changes @ inner - on_changes)
        outer = np.linalg.solve(mixed.T, outer)
        weights = np.empty((len(slots), 2))
        weights[slots] = np.stack([-outer, scale * inner], 1)
        weights = torch.from_numpy(weights.ravel()).to(self.basis)
        basis = self.basis[: len(weights)]
        return torch.addmv(self.gradient, basis.T, weights, beta=-scale)


def strong_wolfe(along, value, slope, length, slack=0.0):
    """Find a step that satisfies the strong Wolfe conditions.

    Algorithms 3.5 and 3.6 of Nocedal and Wright 2006, "Numerical Optimization", with cubic
    interpolation.

    Parameters
    ----------
    along : callable
        ``along(length)`` returns value and slope of the function at the end of a step.
    value, slope : float
        At its beginning; the slope is negative.
    length : float
        Of the first step that is tried.
    slack : float
        How much higher than the conditions ask a value may be, for rounding.

    Returns
    -------
    length, value : float
        Of the step, and at its end. If none of 25 satisfies both conditions, the lowest that
        lowers the function enough; 0 if there is none.
    """
    low, high = (0.0, value, slope), None
    for _ in range(TRIALS):
        reached, steep = along(length)
        here = (length, reached, steep)
        sound = math.isfinite(reached) and math.isfinite(steep)
        enough = sound and reached <= value + DECREASE * length * slope + slack
        if not enough or (low[0] and reached >= low[1]):
            high = here
        elif abs(steep) <= -CURVATURE * slope:
            return length, reached
        elif high is None and steep < 0:  # still too short
            guess, low = _cubic(low, here), here
            longer = max(guess, (1 + MARGIN) * length) if guess > length else math.inf
            length = min(longer, LONGER * length)
            continue
        else:
            if high is None or steep * (high[0] - length) >= 0:
                high = low
            low = here
        width = high[0] - low[0]
        if abs(width) <= NARROWEST * max(low[0], high[0]):
            break
        share = (_cubic(low, high) - low[0]) / width
        length = low[0] + width * min(max(MARGIN, share), 1 - MARGIN)  # MARGIN for NaN
    return low[:2]


def _cubic(one, two):
    """Return where the cubic through two values with their slopes has its minimum, or NaN."""
    (a, low, start), (b, high, end) = one, two
    bend = start + end - 3 * (high - low) / (b - a)
    inside = bend * bend - start * end
    if not 0 <= inside < math.inf:
        return math.nan
    root = math.copysign(math.sqrt(inside), b - a)
    across = end - start + 2 * root
    return b - (b - a) * (end + root - bend) / across if across else math.nan
