"""The function that an attack looks at: logits, margins and gradients with respect to pixels."""

import math

import torch

# A success keeps each binding margin this far above zero, relative to the margin's gradient times
# the length of the perturbation: logits move by a few 1e-6 with the batch size, and a point on the
# boundary itself could flip when it is evaluated again.
SUCCESS_MARGIN = 1e-5
# For tiny perturbations that is less than the rounding of the logits, relative to the largest one.
ROUNDING = 1e-6


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
    """

    def __init__(self, model, shape, labels, targets):
        self.model, self.shape, self.labels, self.targets = model, shape, labels, targets
        self.reference = (labels if targets is None else targets)[:, None]  # (B, 1)
        self._minus_one = torch.full(self.reference.shape, -1.0, device=labels.device)

    def select(self, keep):
        """Return the objective of the rows of an index tensor only."""
        targets = None if self.targets is None else self.targets[keep]
        return Objective(self.model, self.shape, self.labels[keep], targets)

    def logits(self, points):
        """Return the logits (B, C) of flat images (B, n)."""
        return self.model(points.view(len(points), *self.shape))

    def margins(self, points, count=1):
        """Return the smallest margins (B, K) of flat images (B, n), in ascending order.

        The first is positive where the attack has succeeded; untargeted, it is the only one.
        """
        return self._margins(self.logits(points), count)

    def _margins(self, logits, count=1):
        own = logits.gather(1, self.reference)
        others = logits.scatter(1, self.reference, -torch.inf)
        if self.targets is None:
            margins = others.amax(1, keepdim=True) - own
        else:
            margins = own - others.topk(min(count, logits.shape[1] - 1), dim=1).values
        return margins - rounding(logits)

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
        gradient, margin, log_probability = self._descent(points)
        if self.targets is None:
            loss = -torch.logsumexp(log_probability.scatter(1, self.reference, -torch.inf), 1)
        else:
            loss = -log_probability.gather(1, self.reference)[:, 0]
        return loss, gradient, margin

    def gradient_and_margin(self, points):
        """Return the gradient and the margin of `loss_and_margin` without the loss."""
        return self._descent(points)[:2]

    def _descent(self, points):
        points = points.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self.logits(points)
        z = logits.detach()
        others = z.scatter(1, self.reference, -torch.inf)
        log_probability = log_softmax(z)
        slope = log_probability.exp()
        if self.targets is None:
            slope -= others.softmax(1)
        else:
            slope.scatter_add_(1, self.reference, self._minus_one.to(slope))
        (gradient,) = torch.autograd.grad(logits, points, slope)
        margin = z.gather(1, self.reference)[:, 0] - others.amax(1)
        margin = -margin if self.targets is None else margin
        return gradient, margin - rounding(z)[:, 0], log_probability

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
            if preferred is not None:
                # After the winner: without it nothing can be said about success.
                top, low = (
                    logits.detach().amax(1, keepdim=True),
                    logits.detach().amin(1, keepdim=True),
                )
                bonus = (1 + top - low) * (preferred > 0)
                if self.targets is None:
                    count = 1
                else:
                    bonus.scatter_(1, others.argmax(1, keepdim=True), torch.inf)
                others = others + bonus
            classes = others.topk(count, dim=1).indices
            margins = own - logits.gather(1, classes)
            if self.targets is None:
                margins = -margins
            sums = margins.sum(0).unbind()
        shape = len(points), count, points.shape[1]
        gradients = points.new_empty(shape) if out is None else out[: math.prod(shape)].view(shape)
        for k in range(count):
            (gradients[:, k],) = torch.autograd.grad(sums[k], points, retain_graph=k < count - 1)
        return margins.detach() - rounding(logits.detach()), gradients, classes


def log_softmax(logits):
    """Return the logarithms of the probabilities, (B, C).

    Torch's own takes 1.4 times as long for rows of ten classes.
    """
    shifted = logits - logits.amax(1, keepdim=True)
    return shifted.sub_(shifted.exp().sum(1, keepdim=True).log_())


def rounding(logits):
    """Return what the logits (B, C) of a row may move by from batch to batch, (B, 1).

    All margins are counted from there.
    """
    return ROUNDING * logits.abs().amax(1, keepdim=True)


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
    return (margins >= needed) & (margins > 0)
