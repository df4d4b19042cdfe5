"""Box-constrained L-BFGS for many independent problems at once.

Every row is a problem of its own, with its own history, step length and stopping test; all are
computed together. The direction is that of two-metric projection (Bertsekas 1982, "Projected
Newton methods for optimization problems with simple constraints"): variables that a gradient step
would push out of the box follow the scaled gradient, the others the free-free block of the inverse
Hessian; the trial point is clipped to the box and must satisfy Armijo's condition.

Rows are kept or left by `lerp` with weights 0 and 1, so every operand must be finite: gradients,
weights and steps are bounded such that their squares are, too.
"""

from dataclasses import dataclass

import numpy as np
import torch

from blindspots.optim.lbfgs_memory import CurvatureMemory

ARMIJO = 1e-4
CHECKED_EVERY = 10  # iterations between looks at what has converged, each of which waits for a GPU
LEAVING_SHARE = 0.25  # of the rows must have converged before the others are copied together

# Of the line search of `minimize`: a step along which the slope has kept so large a share is
# lengthened; a direction gets so many shorter steps, and then one other direction does.
STEEP, LONGER, SHORTEST, LARGEST_CUT, TRIES = 0.9, 10.0, 1e-10, 0.5, 20
HOLE = 0.1  # a step into points without a value is cut to this share

ITERATING, GRADIENT, DECREASE, STUCK, ITERATIONS, EVALUATIONS, START, ESCAPED = range(8)
MESSAGES = {
    GRADIENT: "converged: the projected gradient is at most gtol",
    DECREASE: "converged: the relative decrease is at most ftol",
    STUCK: "stopped: the line search found no decrease",
    ITERATIONS: "stopped: maxiter iterations are reached",
    EVALUATIONS: "stopped: maxfun evaluations are reached",
    START: "stopped: value or gradient at the start is not finite",
    ESCAPED: "stopped: a variable has grown so large that its square is not finite",
}


@dataclass(frozen=True, repr=False)
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

    def __repr__(self):
        rows, variables = self.x.shape
        return (
            f"<{type(self).__name__}: {int(self.success.sum())} of {rows} problems of {variables} "
            f"variables converged, {int(self.nfev.max()) if rows else 0} evaluations at most>"
        )


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

    ROWS = ("anchor", "weight", "point", "value", "gradient", "square", "step", "direction")
    ROWS += ("total",)

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
        for name in self.ROWS:
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
        self.tried, self.tried_square = trial, square
        self.step, stuck = self._next_step(accepted, moved, slope, after - before, gradient)
        share = accepted.to(value.dtype)[:, None]
        self.point.lerp_(trial, share)
        self.gradient = torch.lerp(self.gradient, gradient, share)
        self.value = torch.where(accepted, value, self.value)
        self.square = torch.where(accepted, square, self.square)
        return accepted, stuck

    def _next_step(self, accepted, moved, slope, rise, gradient):
        """Return the step of the next trial (B,), and which rows are stuck.

        Parameters
        ----------
        accepted : torch.Tensor of bool, shape (B,)
        moved, gradient : torch.Tensor, shape (B, n)
            From the point to the trial, and the gradient of f there.
        slope, rise : torch.Tensor, shape (B,)
            Of the whole function: the slope along ``moved``, and by how much the trial is higher.
        """
        stuck = ~accepted & (moved.abs().amax(1) <= torch.finfo(slope.dtype).eps)
        # Backtrack to the minimum of the parabola through what is known, within bounds.
        parabola = -slope / (2 * (rise - slope).clamp_min(1e-30))
        shorter = self.step * parabola.nan_to_num(0.1).clamp_(0.1, 0.5)
        return torch.where(accepted, 1.0, shorter), stuck

    def _evaluate(self, points):
        """Return values, gradients, and which rows are usable; the others count as infinite."""
        value, gradient = (part.detach() for part in self.fun(points))
        usable = value.isfinite() & (gradient.norm(dim=1) < _largest(value.dtype))  # not for NaN
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0).mul_(usable[:, None])
        return torch.where(usable, value, torch.inf), gradient, usable

    def aim(self, fresh, steepest=None):
        """Choose a new direction for the rows of a mask; the others go on along theirs.

        A row whose weight is out of range gets the direction 0: its trial is rejected.

        Parameters
        ----------
        fresh : torch.Tensor of bool, shape (B,)
        steepest : torch.Tensor of bool, shape (B,), optional
            Where the new direction is to be that of the gradient.
        """
        sound = self.weight.abs() < _largest(self.weight.dtype)  # not for NaN
        weight = torch.where(sound, self.weight, 0.0)
        twice = 2 * weight
        self.total = torch.addcmul(self.gradient, self.point - self.anchor, twice[:, None])
        norm = self.total.norm(dim=1)
        longest = 1e-3 * torch.finfo(norm.dtype).max  # what a step along the gradient may become
        bound = torch.where(sound, longest / norm.clamp_min(1e-3), 0.0)
        alone = torch.where(weight > 0, 1 / twice, 1 / norm.clamp_min(1e-30)).minimum(bound)
        scale = self.memory.scale(weight, alone).minimum(bound)
        # 1 for variables that a gradient step leaves in the box, else 0.
        target = torch.addcmul(self.point, self.total, -scale[:, None])
        free = torch.eq(target.clamp(self.lower, self.upper), target, out=torch.empty_like(target))
        reduced = free * self.total
        self.reduced_norm = reduced.norm(dim=1)
        direction = self.memory.direction(reduced, weight, scale, free)
        direction.addcmul_(self.total - reduced, -scale[:, None])
        # Where rounding has spoilt the direction: the gradient's.
        down = sound & ((direction * self.total).sum(1) < 0)
        if steepest is not None:
            down &= ~steepest
        steepest_step = self.total * -alone[:, None]
        direction = torch.lerp(steepest_step, direction, down.to(direction.dtype)[:, None])
        self.direction.lerp_(direction, fresh.to(direction.dtype)[:, None])
        self.step = torch.where(fresh, 1.0, self.step)


class _SearchedDescent(BoxedDescent):
    """A descent for functions and variables of any size, without a quadratic part.

    Steps are shortened by interpolation (Moré and Thuente 1994, "Line search algorithms with
    guaranteed sufficient decrease"), and lengthened along the projected path while the slope stays
    what it was. Without a bound, variables stay where their squares are finite.

    Attributes
    ----------
    fresh : torch.Tensor of bool, shape (B,)
        After a `trial`: which rows need a new direction.
    lengthened : torch.Tensor of bool, shape (B,)
        Which rows go on along their direction from a point that was accepted.
    """

    ROWS = (*BoxedDescent.ROWS, "fresh", "lengthened", "tries", "again", "below", "above")

    def __init__(self, fun, start, lower, upper, pairs):
        weight, largest = torch.zeros_like(start[:, 0]), _largest(start.dtype)
        box = (bound.clamp(-largest, largest) for bound in (lower, upper))
        super().__init__(fun, start, *box, pairs=pairs, anchor=start, weight=weight)
        self.below, self.above = lower, upper
        self.fresh = torch.ones_like(weight, dtype=torch.bool)
        self.lengthened, self.again = ~self.fresh, ~self.fresh
        self.tries = torch.zeros_like(weight)

    def begin(self, unit):
        """Set the first steps: of length 1 or, in a finite box, longer gradients, as scipy's."""
        finite = (self.below.isfinite() & self.above.isfinite()).all(1)
        length = (self.total.norm(dim=1) * unit).clamp(1, _largest(unit.dtype))
        self.step = torch.where(finite, length, 1.0)

    def projected_gradient(self, unit):
        """Return the largest component of ``x - clip(x - unit g)`` of each row, scipy's measure."""
        # In this order nothing is lost by rounding, however large x is.
        moved = (self.total * unit[:, None]).clamp_(
            self.point - self.above, self.point - self.below
        )
        return moved.abs().amax(1)

    def _next_step(self, accepted, moved, slope, rise, gradient):
        # The variables that the box has not stopped, and where on the path it stops the last one.
        going = self.direction * ((self.tried > self.lower) & (self.tried < self.upper))
        before, after = (self.total * going).sum(1), (gradient * going).sum(1)
        reached = (moved / self.direction).nan_to_num(0.0).amax(1).minimum(self.step)

        lengthened = accepted & (after < STEEP * before)
        hole = rise.isinf()
        self.tries = torch.where(accepted, 0.0, self.tries + 1)
        worn = ~accepted & ((self.tries >= TRIES) | (moved == 0).all(1))
        stuck = worn & self.again
        self.fresh = (accepted & ~lengthened) | worn
        self.again = ~accepted & (self.again | worn)
        self.tries = torch.where(worn, 0.0, self.tries)
        self.lengthened = lengthened

        share = _interpolated(slope, (gradient * moved).sum(1), rise)
        share = torch.where(hole, HOLE, share.nan_to_num(HOLE).clamp(SHORTEST, LARGEST_CUT))
        return reached * torch.where(accepted, LONGER, share), stuck


def _interpolated(slope, end, rise):
    """Return the share of a step at which a function is low that rises along it, as MINPACK does.

    Parameters
    ----------
    slope, end : torch.Tensor, shape (B,)
        Slopes at the beginning and the end of the step.
    rise : torch.Tensor, shape (B,)
        By how much the end is higher.
    """
    bend = slope + end - 3 * rise
    size = torch.maximum(bend.abs(), torch.maximum(slope.abs(), end.abs()))
    root = size * ((bend / size).square() - (slope / size) * (end / size)).clamp_min(0).sqrt()
    cubic = (root - slope + bend) / (2 * root - slope + end)
    parabola = 0.5 * slope / (slope - rise)
    return torch.where(cubic < parabola, cubic, 0.5 * (cubic + parabola))


class _Function:
    """A user's function as the descent needs it: of one type, checked, in units of its size.

    Each row's unit is a power of two near the largest component of its gradient at the start, so
    nothing is rounded and neither large nor small functions leave the range of squares.

    Parameters
    ----------
    fun, x0
        As for `minimize`.

    Attributes
    ----------
    rows : torch.Tensor of int64, shape (b,)
        The problems that are asked for.
    unit : torch.Tensor, shape (b,)
    """

    def __init__(self, fun, x0):
        self.fun, self.unit = fun, None
        self.rows = torch.arange(len(x0), device=x0.device)

    def select(self, keep):
        """Keep the rows of an index tensor only."""
        self.rows, self.unit = self.rows[keep], self.unit[keep]

    def __call__(self, points):
        # A copy: what is done to it is the caller's.
        answer = self.fun(points.clone(), self.rows)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise ValueError(f"fun must return values and gradients, not {type(answer).__name__}")
        value, gradient = (
            _numbers(f"the {name} that fun returns", part, points)
            for name, part in zip(("values", "gradients"), answer, strict=True)
        )
        for name, part, shape in (
            ("values", value, points.shape[:1]),
            ("gradients", gradient, points.shape),
        ):
            if part.shape != shape:
                raise ValueError(
                    f"the {name} that fun returns must have shape {tuple(shape)}, "
                    f"not {tuple(part.shape)}"
                )
        if self.unit is None:
            self.unit = _unit(value, gradient)
        return value / self.unit, gradient / self.unit[:, None]


def _numbers(name, part, like):
    """Return numbers as a tensor of the type and on the device of another, without a graph."""
    try:
        # By way of numpy, whose numbers are not single ones.
        part = part if isinstance(part, torch.Tensor) else torch.as_tensor(np.array(part))
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be numbers, not {type(part).__name__}") from None
    if part.is_complex():
        raise ValueError(f"{name} must be real numbers, not {part.dtype}")
    return part.detach().to(like)


def _unit(value, gradient):
    """Return the power of two (B,) below the largest component of each gradient; 1 for none."""
    size = torch.maximum(gradient.abs().amax(1), value.abs() * 2.0**-60)
    usable = size.isfinite() & (size > 0)
    size = torch.where(usable, size, 1.0)
    return size / (2 * torch.frexp(size).mantissa)


def _largest(dtype):
    """Return what gradients, weights and variables must stay below, so that squares are finite."""
    return 1e-3 * torch.finfo(dtype).max ** 0.5


def minimize(
    fun, x0, lower, upper, *, maxcor=10, ftol=2.2e-9, gtol=1e-5, maxfun=15000, maxiter=15000
):
    """Minimise B functions of n variables over a box, each on its own, all computed together.

    Names and defaults of options are those of scipy's ``minimize(method="L-BFGS-B")``.

    Parameters
    ----------
    fun : callable
        ``fun(x, rows)`` with points x (b, n) of the problems ``rows``, an index tensor (b,),
        returns values (b,) and gradients (b, n), which are cast to the type of x. Where they are
        not finite, the row steps back.
    x0 : torch.Tensor of float32 or float64, shape (B, n)
        Where to start; clipped to the box. All is computed in its type.
    lower, upper : float or torch.Tensor that broadcasts to (B, n)
        The box; infinite for no bound. They are cast to the type of ``x0``.
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
        If shapes, bounds or an option are out of range, or ``fun`` returns something else.
    """
    x0, lower, upper = _checked(x0, lower, upper)
    _check_options(maxcor, ftol, gtol, maxfun, maxiter)
    function = _Function(fun, x0)
    descent = _SearchedDescent(function, x0.clamp(lower, upper), lower, upper, maxcor)
    descent.aim(descent.fresh)
    descent.begin(function.unit)
    rows = function.rows
    x, value = descent.point.clone(), descent.value * function.unit
    nit, status = (torch.zeros(len(x0), dtype=torch.int64, device=x0.device) for _ in range(2))
    nfev = torch.ones_like(nit)
    if maxfun == 1:
        status[:] = EVALUATIONS
    status[descent.projected_gradient(function.unit) <= gtol] = GRADIENT
    status[descent.value.isinf()] = START
    state = status[rows]
    for iteration in range(1, maxfun + 1):
        if (iteration - 1) % CHECKED_EVERY == 0 or not x0.is_cuda:
            going = (state == ITERATING).nonzero()[:, 0]
            if len(going) <= (1 - LEAVING_SHARE) * len(rows):
                x[rows], status[rows] = descent.point, state
                value[rows] = descent.value * function.unit
                rows, state = rows[going], state[going]
                descent.select(going)
                function.select(going)
            if not len(rows):
                break
        iterating = state == ITERATING
        before = descent.value * function.unit
        # Rows that wait for the next look stay where they are.
        descent.step = torch.where(iterating, descent.step, 0.0)
        accepted, stuck = descent.trial()
        accepted &= iterating
        descent.aim(descent.fresh, descent.again)
        nit[rows] += accepted
        nfev[rows] += iterating
        now = descent.value * function.unit
        size = torch.maximum(before.abs(), now.abs()).clamp_min(1)
        settled = accepted & ~descent.lengthened
        for reason, reached in (
            (EVALUATIONS, nfev[rows] >= maxfun),
            (ITERATIONS, nit[rows] >= maxiter),
            (STUCK, stuck),
            (DECREASE, settled & (before - now <= ftol * size)),
            (GRADIENT, descent.projected_gradient(function.unit) <= gtol),
        ):
            state = torch.where(iterating & reached, reason, state)
    x[rows], status[rows] = descent.point, state
    value[rows] = descent.value * function.unit
    status[x.abs().amax(1) >= _largest(x0.dtype)] = ESCAPED
    success = (status == GRADIENT) | (status == DECREASE)
    return OptimizeResult(x, value, nit, nfev, success, [MESSAGES[s] for s in status.tolist()])


def _checked(x0, lower, upper):
    """Return start and bounds as tensors (B, n) of one type; raise ValueError if they are not."""
    if not isinstance(x0, torch.Tensor) or x0.dtype not in (torch.float32, torch.float64):
        got = x0.dtype if isinstance(x0, torch.Tensor) else type(x0).__name__
        raise ValueError(f"x0 must be a tensor of float32 or float64, not {got}")
    if x0.ndim != 2 or 0 in x0.shape:
        raise ValueError(f"x0 must have shape (B, n), not {tuple(x0.shape)}")
    largest = _largest(x0.dtype)
    if not bool((x0.abs() < largest).all()):
        raise ValueError(f"x0 must be finite, and below {largest:.2g}, whose square is")
    bounds = []
    for name, bound in (("lower", lower), ("upper", upper)):
        bound = _numbers(name, bound, x0)
        if bound.isnan().any():
            raise ValueError(f"{name} must hold no NaN")
        try:
            bounds.append(torch.broadcast_to(bound, x0.shape))
        except RuntimeError:
            raise ValueError(
                f"{name} of shape {tuple(bound.shape)} does not broadcast to {tuple(x0.shape)}"
            ) from None
    lower, upper = bounds
    if bool((lower > upper).any()):
        raise ValueError("lower must not exceed upper")
    if bool((lower == torch.inf).any()) or bool((upper == -torch.inf).any()):
        raise ValueError("lower must be below infinity, and upper above minus infinity")
    return x0.detach(), lower, upper


def _check_options(maxcor, ftol, gtol, maxfun, maxiter):
    for name, option, least in (
        ("maxcor", maxcor, 1),
        ("maxfun", maxfun, 1),
        ("maxiter", maxiter, 1),
        ("ftol", ftol, 0),
        ("gtol", gtol, 0),
    ):
        if not option >= least:
            raise ValueError(f"{name} must be at least {least}, not {option}")
