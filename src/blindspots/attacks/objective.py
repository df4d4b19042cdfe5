"""The function that an attack looks at: logits, margins and gradients with respect to pixels."""

import math

import torch

from blindspots.optim.replay import anywhere, on_gpu

# A success keeps each binding margin this far above zero, relative to the margin's gradient times
# the length of the perturbation: logits move by a few 1e-6 with the batch size, and a point on the
# boundary itself could flip when it is evaluated again.
SUCCESS_MARGIN = 1e-5
# For tiny perturbations that is less than the rounding of the logits, relative to the largest one
# that is no more than so many times the two that are compared: a class masked at -1e9 is not.
ROUNDING, MASKED = 1e-6, 256
# Logits in other units are scaled so that the margin of the clean image is about 4: otherwise
# probabilities are 0 and 1 on both sides of the boundary, and squares of gradients leave the range.
USUAL, SCALED = (2**-7, 2**7), 4.0


class Objective:
    """Margins and losses of a batch of images, flattened to (B, n).

    Parameters
    ----------
    model : torch.nn.Module
        Maps images in [0, 1] of shape (B, *shape) to logits (B, C).
    shape : torch.Size
        Shape of one image.
    labels : torch.Tensor of int64, shape (B,)
    targets : torch.Tensor of int64, shape (B,), or None
        None: untargeted, any wrong label will do.

    Attributes
    ----------
    scale : torch.Tensor, shape (B, 1), or None
        What logits are multiplied with; None for 1.
    size : torch.Tensor, shape (B, 1), or None
        Of the logits of the clean images, as their rounding counts it; None: of those compared.
    careful : bool
        Whether what is multiplied by a gradient of zero counts as zero where it is no number.
    clean : tuple or None
        Gradient and margin at the clean images, where they have been looked at.
    classes : int or None
    """

    def __init__(self, model, shape, labels, targets):
        self.model, self.shape, self.labels, self.targets = model, shape, labels, targets
        self.scale = self.size = self.clean = self.classes = None
        self.careful = False
        self._trouble = labels.new_zeros((), dtype=torch.bool) if on_gpu(labels) else None
        self.reference = (labels if targets is None else targets)[:, None]  # (B, 1)
        self._minus_one = torch.full(self.reference.shape, -1.0, device=labels.device)

    def select(self, keep):
        """Return the objective of the rows of an index tensor only."""
        targets = None if self.targets is None else self.targets[keep]
        some = Objective(self.model, self.shape, self.labels[keep], targets)
        some.careful, some.classes, some._trouble = self.careful, self.classes, self._trouble
        some.scale = None if self.scale is None else self.scale[keep]
        some.size = None if self.size is None else self.size[keep]
        return some

    def in_trouble(self, lost):
        """Tell whether rows (B,) whose gradient is of no use must be seen to, and take care.

        On a GPU, which would have to be waited for, they are noted, and seen to only by an
        objective that is careful: after all has been done, `trouble` tells whether to do it again.
        """
        if self._trouble is not None:
            self._trouble |= lost.any()
            return self.careful
        found = bool(lost.any())
        self.careful |= found
        return found

    def trouble(self):
        """Tell whether there has been trouble that was not seen to; from now on it will be."""
        missed = self._trouble is not None and not self.careful and bool(self._trouble)
        self.careful |= missed
        return missed

    def suit(self, origin):
        """Look at the clean images (B, n): choose scale and care, and keep what was seen there."""
        gradient, margin, logits = self._look(origin)
        size = margin.abs()
        unusual = ((size < USUAL[0]) | (size > USUAL[1])) & (size > 0) & size.isfinite()
        self.careful = not bool(gradient.isfinite().all())
        if self.careful or bool(unusual.any()):
            # Powers of two: the logits keep all their digits.
            power = torch.log2(SCALED / size).round().clamp(-126, 126)
            self.scale = torch.where(unusual, power.exp2(), 1.0)[:, None]
            gradient, margin, logits = self._look(origin)
        sizes, others = logits.abs(), logits.scatter(1, self.reference, -torch.inf)
        pair = torch.maximum(sizes.gather(1, self.reference), others.amax(1, keepdim=True).abs())
        self.size = torch.where(sizes <= MASKED * pair, sizes, 0.0).amax(1, keepdim=True)
        self.classes = logits.shape[1]
        self.clean = gradient, margin

    def logits(self, points):
        """Return the logits (B, C) of flat images (B, n), scaled."""
        logits = self.model(points.view(len(points), *self.shape))
        return logits if self.scale is None else logits * self.scale

    def margins(self, points, count=1):
        """Return the smallest margins (B, K) of flat images (B, n), in ascending order.

        The first is positive where the attack has succeeded; untargeted, it is the only one.
        """
        return self._margins(self.logits(points), count)

    def _margins(self, logits, count=1):
        own = logits.gather(1, self.reference)
        others = logits.scatter(1, self.reference, -torch.inf)
        if self.targets is None:
            return self._safe(others.amax(1, keepdim=True), own)
        return self._safe(own, others.topk(min(count, logits.shape[1] - 1), dim=1).values)

    def loss_and_margin(self, points):
        """Return loss, its gradient and the margin.

        The loss is the cross-entropy of the target; untargeted, minus the log of the probability
        of all wrong labels together. The margin is positive where the attack has succeeded.

        Parameters
        ----------
        points : torch.Tensor, shape (B, n)

        Returns
        -------
        loss : torch.Tensor, shape (B,)
        gradient : torch.Tensor, shape (B, n)
        margin : torch.Tensor, shape (B,)
        """
        points, logits, z, others = self._forward(points)
        log_probability = log_softmax(z)
        slope = log_probability.exp()
        if self.targets is None:
            slope -= others.softmax(1)
            loss = -torch.logsumexp(log_probability.scatter(1, self.reference, -torch.inf), 1)
        else:
            slope.scatter_add_(1, self.reference, self._minus_one.to(slope))
            loss = -log_probability.gather(1, self.reference)[:, 0]
        gradient = self._backward(logits, points, slope)
        return loss, gradient, self._smallest_margin(z, others.amax(1, keepdim=True))

    def gradient_and_margin(self, points):
        """Return the gradient of what is descended where only its direction counts, and the margin.

        Targeted, that is minus the margin: other classes do not draw it aside, and it does not
        fade where the target has all probability. Untargeted, it is the loss of `loss_and_margin`,
        which does not settle for one wrong label too early.

        Parameters
        ----------
        points : torch.Tensor, shape (B, n)

        Returns
        -------
        gradient : torch.Tensor, shape (B, n)
        margin : torch.Tensor, shape (B,)
        """
        return self._look(points)[:2]

    def _look(self, points):
        points, logits, z, others = self._forward(points)
        if self.targets is None:
            top = others.amax(1, keepdim=True)
            slope = log_softmax(z).exp_().sub_(others.softmax(1))
        else:
            top, winner = others.max(1, keepdim=True)
            second = others.scatter_(1, winner, -torch.inf).amax(1, keepdim=True)
            slope = torch.zeros_like(z).scatter_(1, winner, 1.0)
            # Nobody but the strongest competitor is above the target.
            near = z.gather(1, self.reference) >= second
            if anywhere(~near):  # soon nowhere
                slope = torch.where(near, slope, log_softmax(z).exp_())
            slope.scatter_add_(1, self.reference, self._minus_one.to(slope))
        return self._backward(logits, points, slope), self._smallest_margin(z, top), z

    def _forward(self, points):
        """Return points to take gradients of, their logits, these detached, and the others."""
        points = points.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self.logits(points)
        z = logits.detach()
        return points, logits, z, z.scatter(1, self.reference, -torch.inf)

    def _backward(self, logits, points, slope):
        if self.careful:
            _let_zero_win(logits)
        with torch.enable_grad():
            # The gradient of a vector would have torch load sympy, which takes long.
            total = logits.flatten().dot(slope.flatten())
        return torch.autograd.grad(total, points)[0]

    def _smallest_margin(self, z, top):
        own = z.gather(1, self.reference)
        return self._safe(*((top, own) if self.targets is None else (own, top)))[:, 0]

    def _safe(self, upper, lower):
        """Return by how much logits exceed others, less what they may move by between batches."""
        size = torch.maximum(upper.abs(), lower.abs())
        if self.size is not None:
            size = torch.maximum(size, self.size)
        return torch.sub(upper - lower, size, alpha=ROUNDING)

    def margins_and_gradients(self, points, count, preferred=None, out=None):
        """Return the smallest margins of each image and their gradients.

        Parameters
        ----------
        points : torch.Tensor, shape (B, n)
        count : int
            How many margins at most, K. Targeted, those of the target over the other classes, all
            of which must be positive; untargeted, those of wrong labels over the true one.
        preferred : torch.Tensor, shape (B, C), optional
            Classes with a positive entry are taken after the strongest competitor and before all
            others; untargeted, one of them alone.
        out : torch.Tensor, shape (at least B K n,), optional
            Memory for the gradients.

        Returns
        -------
        margins : torch.Tensor, shape (B, K)
        gradients : torch.Tensor, shape (B, K, n)
        classes : torch.Tensor of int64, shape (B, K)
            The competing classes.
        """
        points = points.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self.logits(points)
            own = logits.gather(1, self.reference)
            others = logits.detach().scatter(1, self.reference, -torch.inf)
            count = min(count, logits.shape[1] - 1)
            if preferred is None:
                classes = others.topk(count, dim=1).indices
            else:
                classes = self._preferring(others, preferred, count)
            chosen = logits.gather(1, classes)
            if self.targets is None:
                sums = (chosen - own).sum(0).unbind()
            else:
                sums = (own - chosen).sum(0).unbind()
        if self.careful:
            _let_zero_win(logits)
        shape = len(points), len(sums), points.shape[1]
        gradients = points.new_empty(shape) if out is None else out[: math.prod(shape)].view(shape)
        for k, total in enumerate(sums):
            last = k == len(sums) - 1
            (gradients[:, k],) = torch.autograd.grad(total, points, retain_graph=not last)
        own, chosen = own.detach(), chosen.detach()
        margins = self._safe(*((chosen, own) if self.targets is None else (own, chosen)))
        return margins, gradients, classes

    def _preferring(self, others, preferred, count):
        """Return the classes of the winner, of preferred competitors, and of others, in order.

        After the winner: without it nothing can be said about success. Untargeted, one alone.
        """
        rank = (preferred > 0).to(torch.int64)
        if self.targets is None:
            count = 1
        else:
            rank.scatter_(1, others.argmax(1, keepdim=True), 2)
        rank.scatter_(1, self.reference, -1)
        order = others.argsort(dim=1, descending=True)
        by_rank = rank.gather(1, order).argsort(dim=1, descending=True, stable=True)
        return order.gather(1, by_rank[:, :count])


def log_softmax(logits):
    """Return the logarithms of the probabilities, (B, C).

    Torch's own takes 1.4 times as long for rows of ten classes.
    """
    shifted = logits - logits.amax(1, keepdim=True)
    return shifted.sub_(shifted.exp().sum(1, keepdim=True).log_())


def _let_zero_win(logits):
    """Have the backward pass from logits take zero times what is no number for zero.

    The logarithm of a probability of zero has an infinite derivative; where nothing depends on it,
    its product with zero would spoil the gradient of the whole image.
    """

    def mend(inputs, outputs):
        def mended(part):
            for flow in outputs:
                if part is not None and flow is not None and flow.shape == part.shape:
                    part = part.masked_fill(part.isnan() & (flow == 0), 0)
            return part

        return tuple(mended(part) for part in inputs)

    nodes, seen = [logits.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        node.register_hook(mend)
        nodes += [following for following, _ in node.next_functions]


def has_margin(margins, gradients, distance):
    """Tell which margins are safely above zero.

    Parameters
    ----------
    margins : torch.Tensor, shape (B, K)
    gradients : torch.Tensor, shape (B, K, n)
    distance : torch.Tensor, shape (B,)
        Euclidean length of the perturbation.

    Returns
    -------
    torch.Tensor of bool, shape (B, K)
    """
    needed = SUCCESS_MARGIN * gradients.norm(dim=2) * distance[:, None]
    # A gradient that is no number says nothing about a margin that is one.
    return (margins >= needed.nan_to_num(0.0)) & (margins > 0)
