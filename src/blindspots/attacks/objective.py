"""The function that an attack looks at: logits, margins and gradients with respect to pixels."""

import torch

# A success keeps each binding margin this far above zero, relative to the margin's gradient times
# the length of the perturbation: logits move by a few 1e-6 with the batch size, and a point on the
# boundary itself could flip when it is evaluated again.
SUCCESS_MARGIN = 1e-5


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

    def select(self, keep):
        """Return the objective of the rows of an index tensor only."""
        targets = None if self.targets is None else self.targets[keep]
        return Objective(self.model, self.shape, self.labels[keep], targets)

    def logits(self, points):
        """Return the logits (B, C) of flat images (B, n)."""
        return self.model(points.view(len(points), *self.shape))

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
        points = points.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self.logits(points)
        z = logits.detach()
        probability = z.softmax(1)
        own = z.gather(1, self.reference)
        others = z.scatter(1, self.reference, -torch.inf)
        if self.targets is None:
            loss = torch.logsumexp(z, 1) - torch.logsumexp(others, 1)
            slope = probability - others.softmax(1)
            margin = others.amax(1) - own[:, 0]
        else:
            loss = torch.logsumexp(z, 1) - own[:, 0]
            slope = probability.scatter(
                1, self.reference, probability.gather(1, self.reference) - 1
            )
            margin = own[:, 0] - others.amax(1)
        (gradient,) = torch.autograd.grad(logits, points, slope)
        return loss, gradient, margin

    def margins_and_gradients(self, points, competitors):
        """Return the smallest margins of each image and their gradients.

        Parameters
        ----------
        points : torch.Tensor, shape (B, n)
        competitors : int
            How many margins, K; an untargeted attack has one, that of the winning wrong label.

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
            others = logits.scatter(1, self.reference, -torch.inf)
            if self.targets is None:
                classes = others.detach().argmax(1, keepdim=True)
                margins = others.gather(1, classes) - own
            else:
                count = min(competitors, logits.shape[1] - 1)
                classes = others.detach().topk(count, dim=1).indices
                margins = own - others.gather(1, classes)
            gradients = [
                torch.autograd.grad(margins[:, k].sum(), points, retain_graph=True)[0]
                for k in range(margins.shape[1])
            ]
        return margins.detach(), torch.stack(gradients, dim=1), classes


def has_margin(margins, gradients, distance):
    """Tell whether every margin is safely above zero.

    Parameters
    ----------
    margins : torch.Tensor, shape (B, K)
    gradients : torch.Tensor, shape (B, K, n)
    distance : torch.Tensor, shape (B,)
        Euclidean length of the perturbation.
    """
    needed = SUCCESS_MARGIN * gradients.norm(dim=2) * distance[:, None]
    return ((margins >= needed) & (margins > 0)).all(1)
