"""Box-constrained L-BFGS for many independent problems at once.

Every row is a problem of its own, with its own history, step length and stopping test; all are
computed together. The direction is that of two-metric projection (Bertsekas 1982, "Projected
Newton methods for optimization problems with simple constraints"): variables that a gradient step
would push out of the box follow the scaled gradient, the others the free-free block of the inverse
Hessian; the trial point is clipped to the box and must satisfy Armijo's condition.
"""

from dataclasses import dataclass

import torch

from blindspots.optim.lbfgs_memory import CurvatureMemory

ARMIJO = 1e-4
CHECKED_EVERY = 10  # iterations between looks at what has converged, each of which waits for a GPU
LEAVING_SHARE = 0.25  # of the rows must have converged before the others are copied together

ITERATING, GRADIENT, DECREASE, STUCK, ITERATIONS, EVALUATIONS = range(6)
MESSAGES = {
    GRADIENT: "converged: the projected gradient is at most gtol",
    DECREASE: "converged: the relative decrease is at most ftol",
    STUCK: "stopped: the line search found no decrease",
    ITERATIONS: "stopped: maxiter iterations are reached",
    EVALUATIONS: "stopped: maxfun evaluations are reached",
}


@dataclass(frozen=True)
class OptimizeResult:
    """What `minimize` returns: scipy's names, one entry for each row.

    Attributes
    ----------
    x : torch.Tensor, shape (B, n)
    fun : torch.Tensor, shape (B,)
    nit, nfev : torch.Tensor of int64, shape (B,)
        Accepted steps and evaluations.
    success : torch.Tensor of bool, shape (B,)
    message : list of str
    """

    x: torch.Tensor
    fun: torch.Tensor
    nit: torch.Tensor
    nfev: torch.Tensor
    success: torch.Tensor
    message: list


class BoxedDescent:
    """The state of B minimisations of ``f_b(x) + q_b ||x - anchor_b||^2`` over a box.

    One iteration is an `aim`, which chooses a direction, and a `trial`, which evaluates one point
    of each row and accepts it or not. Before an `aim` the weights q may be changed: the curvature
    of the quadratic part is known, that of f is kept.

    Parameters
    ----------
    fun : callable
        ``fun(x)`` with x (B, n) returns values (B,) and gradients (B, n) of f.
    start : torch.Tensor, shape (B, n)
        Inside the box.
    lower, upper : float, or torch.Tensor of shape (B, n)
    pairs : int
        Length of the history.
    anchor : torch.Tensor, shape (B, n)
    weight : torch.Tensor, shape (B,)
        The weights q; zero for no quadratic part.

    Attributes
    ----------
    point, gradient : torch.Tensor, shape (B, n)
        Where the rows are, and the gradient of f there.
    value, square : torch.Tensor, shape (B,)
        f and ||x - anchor||^2 there.
    total : torch.Tensor, shape (B, n)
        The gradient of the whole function there, as of the last `aim`.
    reduced_norm : torch.Tensor, shape (B,)
        The norm of its part in the space of the free variables.
    tried, tried_square
        The last trial points, and their ||x - anchor||^2.
    """

    def __init__(self, fun, start, lower, upper, *, pairs, anchor, weight):
        self.fun, self.lower, self.upper = fun, lower, upper
        self.anchor, self.weight = anchor, weight
        self.memory = CurvatureMemory(*start.shape, pairs, start)
        self.point = start.clone()
        self.value, self.gradient, _ = self._evaluate(start)
        self.square = (start - anchor).square().sum(1)  # ||x - anchor||^2
        self.step = torch.ones_like(self.value)
        self.direction = torch.zeros_like(start)
        self.tried, self.tried_square = self.point, self.square

    def select(self, keep):
        """Keep the rows of an index tensor only."""
        self.memory.select(keep)
        for name in ("anchor", "weight", "point", "value", "gradient", "square", "step"):
            setattr(self, name, getattr(self, name)[keep])
        for name in ("direction", "total"):
            setattr(self, name, getattr(self, name)[keep])
        for name in ("lower", "upper"):
            bound = getattr(self, name)
            if isinstance(bound, torch.Tensor):
                setattr(self, name, bound[keep])

    @property
    def objective(self):
        """Values (B,) of the whole function at the present points."""
        return self.value + self.weight * self.square

    def trial(self):
        """Evaluate the next point of every row and go there where it is low enough.

        Returns
        -------
        accepted : torch.Tensor of bool, shape (B,)
        stuck : torch.Tensor of bool, shape (B,)
            Not accepted, and the step is too short to change anything.
        """
        trial = torch.addcmul(self.point, self.direction, self.step[:, None])
        trial.clamp_(self.lower, self.upper)
        moved = trial - self.point
        value, gradient, usable = self._evaluate(trial)
        # A rejected trial has told something about the curvature, too.
        self.memory.update(moved, (gradient - self.gradient).mul_(usable[:, None]))

        square = (trial - self.anchor).square_().sum(1)
        slope = (self.total * moved).sum(1)
        before, after = self.objective, value + self.weight * square
        rounding = 10 * torch.finfo(value.dtype).eps * before.abs()
        longest = moved.abs().amax(1)
        accepted = usable & (longest > 0) & (after <= before + ARMIJO * slope + rounding)
        stuck = ~accepted & (longest <= torch.finfo(value.dtype).eps)
        # Backtrack to the minimum of the parabola through what is known, within bounds.
        parabola = -slope / (2 * (after - before - slope).clamp_min(1e-30))
        shorter = self.step * parabola.nan_to_num(0.1).clamp_(0.1, 0.5)
        self.step = torch.where(accepted, 1.0, shorter)
        share = accepted.to(value.dtype)[:, None]
        self.point.lerp_(trial, share)
        self.gradient = torch.lerp(self.gradient, gradient, share)
        self.value = torch.where(accepted, value, self.value)
        self.square = torch.where(accepted, square, self.square)
        self.tried, self.tried_square = trial, square
        return accepted, stuck

    def _evaluate(self, points):
        """Return values, gradients, and which rows are usable; the others count as infinite."""
        value, gradient = (part.detach() for part in self.fun(points))
        # The squares of gradients must be finite, too.
        largest = 1e-3 * torch.finfo(value.dtype).max ** 0.5
        usable = value.isfinite() & (gradient.norm(dim=1) < largest)  # false for NaN
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0).mul_(usable[:, None])
        return torch.where(usable, value, torch.inf), gradient, usable

    def aim(self, fresh):
        """Choose a new direction for the rows of a mask; the others go on along theirs."""
        twice = 2 * self.weight
        self.total = torch.addcmul(self.gradient, self.point - self.anchor, twice[:, None])
        steepest = 1 / self.total.norm(dim=1).clamp_min(1e-30)
        alone = torch.where(self.weight > 0, 1 / twice, steepest)
        scale = self.memory.scale(self.weight, alone)
        # 1 for variables that a gradient step leaves in the box, else 0.
        target = torch.addcmul(self.point, self.total, -scale[:, None])
        free = torch.eq(target.clamp(self.lower, self.upper), target, out=torch.empty_like(target))
        reduced = free * self.total
        self.reduced_norm = reduced.norm(dim=1)
        direction = self.memory.direction(reduced, self.weight, scale, free)
        direction.addcmul_(self.total - reduced, -scale[:, None])
        # Where rounding has spoilt the direction: the gradient's.
        down = (direction * self.total).sum(1) < 0
        steepest_step = self.total * -alone[:, None]
        direction = torch.lerp(steepest_step, direction, down.to(direction.dtype)[:, None])
        self.direction.lerp_(direction, fresh.to(direction.dtype)[:, None])
        self.step = torch.where(fresh, 1.0, self.step)

    def projected_gradient(self):
        """Return the largest component of ``x - clip(x - g)`` of each row, scipy's measure."""
        return (self.point - (self.point - self.total).clamp(self.lower, self.upper)).abs().amax(1)


def minimize(
    fun, x0, lower, upper, *, maxcor=10, ftol=2.2e-9, gtol=1e-5, maxfun=15000, maxiter=15000
):
    """Minimise B functions of n variables over a box, each on its own, all computed together.

    Names and defaults of options are those of scipy's ``minimize(method="L-BFGS-B")``.

    Parameters
    ----------
    fun : callable
        ``fun(x, rows)`` with points x (b, n) of the problems ``rows``, an index tensor (b,),
        returns values (b,) and gradients (b, n).
    x0 : torch.Tensor, shape (B, n)
        Where to start; clipped to the box.
    lower, upper : float or torch.Tensor that broadcasts to (B, n)
        The box; infinite for no bound.
    maxcor : int
        Pairs of the history.
    ftol : float
        Converged where an accepted step decreases the function by at most ``ftol`` times the
        larger of its magnitude and 1.
    gtol : float
        Converged where no component of ``x - clip(x - gradient)`` exceeds this.
    maxfun, maxiter : int
        Most evaluations, and accepted steps, of a row.

    Returns
    -------
    OptimizeResult

    Raises
    ------
    ValueError
        If shapes, bounds or an option are out of range.
    """
    _check(x0, lower, upper, maxcor, ftol, gtol, maxfun, maxiter)
    x0 = x0.detach()
    rows = torch.arange(len(x0), device=x0.device)
    lower, upper = (torch.as_tensor(b, dtype=x0.dtype, device=x0.device) for b in (lower, upper))
    bounds = [bound.detach().expand_as(x0) for bound in (lower, upper)]
    zeros = torch.zeros_like(x0[:, 0])
    descent = BoxedDescent(
        lambda x: fun(x, rows),
        x0.clamp(lower, upper),
        *bounds,
        pairs=maxcor,
        anchor=torch.zeros_like(x0),
        weight=zeros,
    )
    descent.aim(torch.ones_like(rows, dtype=torch.bool))
    x, value = descent.point.clone(), descent.value.clone()
    nit, status = (torch.zeros(len(x0), dtype=torch.int64, device=x0.device) for _ in range(2))
    nfev = torch.ones_like(nit)
    if maxfun == 1:
        status[:] = EVALUATIONS
    status[(descent.projected_gradient() <= gtol) & value.isfinite()] = GRADIENT
    state = status[rows]
    for iteration in range(1, maxfun + 1):
        if (iteration - 1) % CHECKED_EVERY == 0 or not x0.is_cuda:
            going = (state == ITERATING).nonzero()[:, 0]
            if len(going) <= (1 - LEAVING_SHARE) * len(rows):
                x[rows], value[rows], status[rows] = descent.point, descent.value, state
                rows, state = rows[going], state[going]
                descent.select(going)
            if not len(rows):
                break
        iterating = state == ITERATING
        before = descent.value
        # Rows that wait for the next look stay where they are.
        descent.step = torch.where(iterating, descent.step, 0.0)
        accepted, stuck = descent.trial()
        accepted &= iterating
        descent.aim(accepted)
        nit[rows] += accepted
        nfev[rows] += iterating
        size = torch.maximum(before.abs(), descent.value.abs()).clamp_min(1)
        for reason, reached in (
            (EVALUATIONS, nfev[rows] >= maxfun),
            (ITERATIONS, nit[rows] >= maxiter),
            (STUCK, stuck),
            (DECREASE, accepted & (before - descent.value <= ftol * size)),
            (GRADIENT, (descent.projected_gradient() <= gtol) & descent.value.isfinite()),
        ):
            state = torch.where(iterating & reached, reason, state)
    x[rows], value[rows], status[rows] = descent.point, descent.value, state
    success = (status == GRADIENT) | (status == DECREASE)
    return OptimizeResult(x, value, nit, nfev, success, [MESSAGES[s] for s in status.tolist()])


def _check(x0, lower, upper, maxcor, ftol, gtol, maxfun, maxiter):
    if x0.ndim != 2 or not x0.is_floating_point() or 0 in x0.shape:
        raise ValueError(f"x0 must be floating point of shape (B, n), not {tuple(x0.shape)}")
    for name, bound in (("lower", lower), ("upper", upper)):
        bound = torch.as_tensor(bound)
        if bound.isnan().any():
            raise ValueError(f"{name} must hold no NaN")
        try:
            torch.broadcast_to(bound, x0.shape)
        except RuntimeError:
            raise ValueError(
                f"{name} of shape {tuple(bound.shape)} does not broadcast to {tuple(x0.shape)}"
            ) from None
    if not x0.isfinite().all():
        raise ValueError("x0 must be finite")
    if bool(
        (torch.as_tensor(lower, device=x0.device) > torch.as_tensor(upper, device=x0.device)).any()
    ):
        raise ValueError("lower must not exceed upper")
    for name, option, least in (
        ("maxcor", maxcor, 1),
        ("maxfun", maxfun, 1),
        ("maxiter", maxiter, 1),
        ("ftol", ftol, 0),
        ("gtol", gtol, 0),
    ):
        if option < least:
            raise ValueError(f"{name} must be at least {least}, not {option}")
