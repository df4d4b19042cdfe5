"""What an attack returns."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, repr=False)
class AdversarialResult:
    """Adversarial images and what is known of each.

    Attributes
    ----------
    images : torch.Tensor of float32, shape of the attacked images
        In [0, 1]. Where the attack failed, the original image.
    success : torch.Tensor of bool, shape (B,)
        The model answers with the target (untargeted: with any wrong label), by a margin.
    rms : torch.Tensor of float32, shape (B,)
        Root-mean-square distortion over the pixels; NaN where the attack failed.
    evaluations : torch.Tensor of int64, shape (B,)
        Forward and backward passes spent on the image.
    kkt_residual : torch.Tensor of float32, shape (B,)
        Relative distance to satisfying the first-order conditions of a smallest distortion; NaN
        where the attack failed.
    targets : torch.Tensor of int64, shape (B,)
        The wrong label aimed at; for an untargeted attack the one reached, -1 where it failed.
    """

    images: torch.Tensor
    success: torch.Tensor
    rms: torch.Tensor
    evaluations: torch.Tensor
    kkt_residual: torch.Tensor
    targets: torch.Tensor

    def __repr__(self):
        count, found = len(self.success), int(self.success.sum())
        mean = f", mean RMS {self.rms[self.success].mean().item():.5f}" if found else ""
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"<{type(self).__name__}: {found} of {count} images of {shape} fool the model{mean}>"


def concatenate(results):
    """Join the results of consecutive chunks of images, all of one kind."""
    kind = type(results[0])
    names = kind.__dataclass_fields__
    return kind(**{name: torch.cat([getattr(r, name) for r in results]) for name in names})


def closer(result, kept):
    """Tell which successes of one result are closer than what another one has, if anything."""
    return result.success & ~(result.rms >= kept.rms)  # NaN: nothing kept


def pick(mask, one, other):
    """Return, row by row, ``one`` where the mask (B,) holds and ``other`` elsewhere."""
    rows = {}
    for name, value in vars(one).items():
        chosen = mask.view(-1, *[1] * (value.ndim - 1))
        rows[name] = torch.where(chosen, value, getattr(other, name))
    return AdversarialResult(**rows)
