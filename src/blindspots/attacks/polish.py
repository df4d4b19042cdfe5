"""The walk along the decision boundary to a smallest perturbation, and its certificate."""

import torch

from blindspots.attacks.cuts import cutting_planes
from blindspots.attacks.objective import SUCCESS_MARGIN, has_margin
from blindspots.attacks.projection import (
    dot,
    moved,
    nonnegative_solution,
    projection_multipliers,
    unless_still,
    where_inside,
)
from blindspots.optim.anderson import AndersonMixing
from blindspots.optim.replay import on_gpu

# Margins up to this share of (gradient norm x perturbation length) count as binding.
BINDING = 1e-3
FOLLOWED = 6  # competing classes on the way: more hardly ever bind together
WINDOW = 3  # of the Anderson acceleration
ARRIVED = 1e-4  # movement by a projection, relative to the perturbation, at which a row is done
LOST, LOST_AFTER = 0.1, 4  # a row that still moves so much after so many steps won't arrive
WANDERING = 5e-2  # movement of the last step from which cutting planes are worth their cost
LEAVING_SHARE = 0.25  # of the rows must be done before the others are copied together
# Distances closer than this tell nothing: each has a margin of its own, of about this size.
SAME_LENGTH = 3 * SUCCESS_MARGIN


def polish(objective, origin, start, distance, *, steps, cut_steps, competitors):
    """Walk along the decision boundary to a point where the first-order conditions hold.

    At each point the margins are linearised and the origin is projected, exactly, onto the
    images in the box that satisfy them. A fixed point satisfies the KKT conditions of the smallest
    perturbation; Anderson acceleration makes up for the curvature of the boundary. Rows that stay
    far from a fixed point go on with cutting planes. Of the successes seen, the shortest is kept,
    and of those of the same length the one that its own projection moves least.

    Parameters
    ----------
    objective : Objective
    origin, start : torch.Tensor, shape (B, n)
        The images, and where to start from; in [0, 1].
    distance : torch.Tensor, shape (B,)
        Length of start - origin where the start is a success, infinite elsewhere. What is returned
        is never a failure instead, nor longer by more than `SAME_LENGTH`.
    steps : int
        Most projections.
    cut_steps : int
        Cutting planes where these do not settle, because the boundary has kinks.
    competitors : int
        Number of competing classes that are looked at. An untargeted attack goes on with the one
        that is nearest by the first linearisation.

    Returns
    -------
    best : torch.Tensor, shape (B, n)
        The origin where no point had its margin.
    distance : torch.Tensor, shape (B,)
        Euclidean length of the perturbation; infinite where no point had its margin.
    residual : torch.Tensor, shape (B,)
        KKT residual of ``best``; NaN where no point had its margin.
    evaluations : torch.Tensor of int64, shape (B,)
        Gradients computed.
    """
    many = min(competitors, objective.logits(start[:1]).shape[1] - 1)
    few = min(many, FOLLOWED)
    first = few if objective.targets is not None else many
    best, distance, movement, binding, evaluations = _walk(
        objective, origin, start, distance, steps, first, few
    )
    # Where as many classes bind as were followed, there may be more.
    crowded = ((movement > WANDERING) & (binding == few) & (few < many)).nonzero()[:, 0]
    if len(crowded):
        best[crowded], distance[crowded], movement[crowded], _, used = _walk(
            objective.select(crowded),
            origin[crowded],
            best[crowded],
            distance[crowded],
            steps,
            many,
            many,
        )
        evaluations[crowded] += used
    left = ((movement > WANDERING) & (cut_steps > 0)).nonzero()[:, 0]
    if len(left):
        best[left], distance[left] = cutting_planes(
            objective.select(left), origin[left], best[left], distance[left], cut_steps
        )
        evaluations[left] += cut_steps
    # Successes stay what they are: evaluated among other images, a margin moves by rounding and
    # may miss what it must keep, although it is still above zero.
    residual, used = certificate(objective, origin, best, competitors)
    found = distance.isfinite()
    residual = torch.where(found, residual, torch.nan)
    best = torch.where(found[:, None], best, origin)
    return best, distance, residual, evaluations + used


def certificate(objective, origin, point, competitors):
    """Return KKT residuals (B,) of points (B, n), and how many gradients that took (B,)."""
    _, residual, evaluations = _measured(objective, origin, point, competitors)
    return residual, evaluations


def certified(objective, origin, point, usable, competitors=9):
    """Measure what an attack has found.

    Parameters
    ----------
    objective : Objective
    origin, point : torch.Tensor, shape (B, n)
    usable : torch.Tensor of bool, shape (B,)
        Whether the point may be a success at all.
    competitors : int
        Number of competing classes that are looked at.

    Returns
    -------
    best : torch.Tensor, shape (B, n)
        The point, and the origin where the point does not succeed by its margin.
    distance : torch.Tensor, shape (B,)
        Euclidean length of the perturbation; infinite where it does not succeed.
    residual : torch.Tensor, shape (B,)
        KKT residual; NaN where it does not succeed.
    evaluations : torch.Tensor of int64, shape (B,)
        Gradients computed.
    """
    able, residual, evaluations = _measured(objective, origin, point, competitors)
    able &= usable
    best = torch.where(able[:, None], point, origin)
    distance = torch.where(able, (point - origin).norm(dim=1), torch.inf)
    return best, distance, torch.where(able, residual, torch.nan), evaluations


def _measured(objective, origin, point, competitors):
    """Return whether points succeed by their margin, KKT residuals, and gradients computed."""
    length = (point - origin).norm(dim=1)
    margins, gradients, _ = objective.margins_and_gradients(point, 1)
    able = has_margin(margins, gradients, length)[:, 0]
    residual = kkt_residual(margins, gradients, origin, point)
    evaluations = torch.ones_like(objective.labels)
    if objective.targets is not None:
        # The other classes are looked at where they might bind, too.
        far = 4 * BINDING * gradients[:, 0].norm(dim=1) * length
        near = (objective.margins(point, competitors) <= far[:, None]).sum(1)
        rows = (near > 1).nonzero()[:, 0]
        if len(rows):
            some, most = objective.select(rows), int(near.max())
            margins, gradients, _ = some.margins_and_gradients(point[rows], most)
            able[rows] &= has_margin(margins, gradients, length[rows]).all(1)
            residual[rows] = kkt_residual(margins, gradients, origin[rows], point[rows])
            evaluations[rows] += margins.shape[1]
    return able, residual, evaluations


def _walk(objective, origin, start, distance, steps, first, followed):
    """Walk along the boundary; rows that have arrived, or will not, leave.

    Parameters
    ----------
    objective : Objective
    origin, start : torch.Tensor, shape (B, n)
    distance : torch.Tensor, shape (B,)
        As for `polish`.
    steps : int
        Most projections.
    first, followed : int
        Competing classes at the first point and at all others.

    Returns
    -------
    best : torch.Tensor, shape (B, n)
        The start where no point had its margin.
    distance : torch.Tensor, shape (B,)
        Infinite where no point had its margin.
    movement : torch.Tensor, shape (B,)
        By the last projection, relative to the perturbation.
    binding : torch.Tensor of int64, shape (B,)
        The most classes that held a projection back.
    evaluations : torch.Tensor of int64, shape (B,)
        Gradients computed.
    """
    count = objective.logits(start[:1]).shape[1]
    memory = origin.new_empty(2, first * origin.numel())  # fresh memory costs more than it holds
    best, distance = start.clone(), distance.clone()
    evaluations = torch.zeros_like(distance, dtype=torch.int64)
    movement, binding = torch.zeros_like(distance), torch.zeros_like(evaluations)
    rows = torch.arange(len(origin), device=origin.device)
    state = _State(objective, origin, start, distance, origin.new_zeros(len(origin), count))
    there = torch.zeros_like(distance, dtype=torch.bool)
    for step in range(steps + 1):
        state.look(followed if step else first, memory)
        evaluations[rows] += state.evaluated
        moves = state.moves / state.length.clamp_min(1e-30)
        binding[rows] = binding[rows].maximum((state.multipliers > 0).sum(1))
        done = state.arrived | ((moves > LOST) & (step == LOST_AFTER))
        if on_gpu(origin):  # it would have to be waited for: all go on, to no harm
            movement = torch.where(there, movement, moves)
            there |= done
            if step < steps:
                state.move()
            continue
        movement[rows] = moves
        going = (~done).nonzero()[:, 0]
        if step == steps or len(going) <= (1 - LEAVING_SHARE) * len(rows):
            best[rows], distance[rows] = state.best, state.distance
            if step == steps or len(going) == 0:
                break
            rows = rows[going]
            state.select(going)
        state.move()
    if on_gpu(origin):
        best, distance = state.best, state.distance
    return best, distance, movement, binding, evaluations


class _State:
    """The state of some rows that walk along the decision boundary."""

    def __init__(self, objective, origin, start, distance, multipliers):
        self.objective, self.origin, self.point = objective, origin, start
        self.best, self.distance = start.clone(), distance
        # Of the best point by its projection.
        self.movement = torch.full_like(distance, torch.inf)
        self.multipliers, self.started = multipliers, False
        self.mixing = AndersonMixing(*origin.shape, WINDOW, origin)

    def select(self, keep):
        """Go on with the rows of an index tensor only."""
        self.objective = self.objective.select(keep)
        self.mixing.select(keep)
        for name in ("origin", "point", "image", "best", "distance", "movement"):
            setattr(self, name, getattr(self, name)[keep])
        self.multipliers = self.multipliers[keep]

    def look(self, competitors, memory):
        """Evaluate the present points and project, keeping the best ones."""
        margins, gradients, classes = self.objective.margins_and_gradients(
            self.point, competitors, self.multipliers if self.started else None, memory[0]
        )
        self.evaluated = margins.shape[1]
        untargeted = self.objective.targets is None
        perturbation = self.point - self.origin
        length = perturbation.norm(dim=1)
        able = has_margin(margins, gradients, length)
        able = able.any(1) if untargeted else able.all(1)
        # Twice the margin of a success, so that rounding does not eat it up.
        slack = 2 * SUCCESS_MARGIN * gradients.norm(dim=2) * length[:, None]
        bounds = slack - margins + dot(perturbation, gradients)
        known = None
        if self.started:
            known = self.multipliers.gather(1, classes)
        elif untargeted:
            gradients, classes, bounds = _nearest(self.origin, gradients, classes, bounds)
        found = projection_multipliers(self.origin, gradients, bounds, known, memory[1])
        self.multipliers = torch.zeros_like(self.multipliers).scatter_(1, classes, found)
        self.image = moved(self.origin, gradients, found)
        self.length, self.moves = length, (self.image - self.point).norm(dim=1)
        lost = ~self.moves.isfinite()
        if self.objective.in_trouble(lost):  # a gradient that is not a number leads nowhere
            self.point = torch.where(self.point.isfinite(), self.point, self.origin)
            self.image = torch.where(lost[:, None], self.point, self.image)
            self.multipliers = torch.where(lost[:, None], 0, self.multipliers)
            self.moves = torch.where(lost, torch.inf, self.moves)
        better = able & (
            (length < self.distance * (1 - SAME_LENGTH))
            | ((length < self.distance * (1 + SAME_LENGTH)) & (self.moves < self.movement))
        )
        self.best.lerp_(self.point, better.to(length.dtype)[:, None])
        self.distance = torch.where(better, length, self.distance)
        self.movement = torch.where(better, self.moves, self.movement)
        self.arrived = better & (self.moves <= ARRIVED * length)
        self.started = True

    def move(self):
        """Go on to the next points."""
        self.point = self.mixing.extrapolate(self.point, self.image).clamp_(0, 1)


def kkt_residual(margins, gradients, origin, point):
    """Return how far points are from satisfying the first-order conditions.

    The minimum over multipliers l >= 0 of ||x' - clip(x + sum_j l_j grad m_j(x'))|| / ||x' - x||,
    over the margins j that bind.

    Parameters
    ----------
    margins : torch.Tensor, shape (B, K)
    gradients : torch.Tensor, shape (B, K, n)
    origin, point : torch.Tensor, shape (B, n)

    Returns
    -------
    torch.Tensor, shape (B,)
    """
    perturbation = point - origin
    length = perturbation.norm(dim=1)
    binding = margins <= BINDING * gradients.norm(dim=2) * length[:, None]
    active = gradients * binding[:, :, None]
    # Gauss-Newton: the pixels inside the box settle the multipliers, these say which are inside.
    target, multipliers = point, torch.zeros_like(margins)
    smallest = torch.full_like(length, torch.inf)
    reduced = torch.empty_like(gradients)
    for step in range(3):
        inside = unless_still(target, multipliers) if step else target
        where_inside(active, inside, out=reduced)
        gram = torch.bmm(reduced, reduced.transpose(1, 2))
        multipliers = nonnegative_solution(gram, dot(perturbation, reduced), multipliers)
        target = torch.bmm(multipliers[:, None], active)[:, 0].add_(origin)
        smallest = torch.minimum(smallest, target.clamp(0, 1).sub_(point).norm(dim=1))
    return smallest / length.clamp_min(1e-30)


def _nearest(origin, gradients, classes, bounds):
    """Keep, of several margins, the one whose linearisation is nearest to each origin."""
    rows, count = bounds.shape
    alone = origin[:, None].expand_as(gradients).flatten(0, 1)  # (B K, n)
    single = gradients.flatten(0, 1)[:, None]  # (B K, 1, n)
    found = projection_multipliers(alone, single, bounds.view(-1, 1), None)
    image = moved(alone, single, found)
    short = (dot(image - alone, single) < bounds.view(-1, 1) * (1 - 1e-4)).view(rows, count)
    lengths = (image - alone).norm(dim=1).view(rows, count)
    choice = torch.where(short, torch.inf, lengths).argmin(1, keepdim=True)
    chosen = gradients.gather(1, choice[:, :, None].expand(-1, 1, gradients.shape[2]))
    return chosen, classes.gather(1, choice), bounds.gather(1, choice)
