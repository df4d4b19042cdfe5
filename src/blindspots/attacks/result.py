"""What an attack returns."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
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


def concatenate(results):
    """Join the results of consecutive chunks of images."""
    names = AdversarialResult.__dataclass_fields__
    return AdversarialResult(**{n: torch.cat([getattr(r, n) for r in results]) for n in names})
