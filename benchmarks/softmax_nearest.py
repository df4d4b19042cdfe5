"""Compare the attack's nearest adversarial images of the softmax models with the closed form.

    python benchmarks/softmax_nearest.py results/mnist [images]

Needs the finished study (its data and its softmax models).
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from blindspots.artifacts import read_tensors
from blindspots.attacks.lbfgs import lbfgs
from blindspots.steps.loading import load_images, load_network


def closed_form(weights, bias, images, labels, rounds=100):
    """Return the exact smallest RMS distortion that changes a linear softmax's answer in the box.

    For each wrong class j the smallest r with a.(x + r) + b >= 0, a = w_j - w_y, b = b_j - b_y, is
    clip(x + t a, 0, 1) - x at the root in t of a non-decreasing function, found by bisection.

    Parameters
    ----------
    weights : torch.Tensor of float64, shape (C, n)
    bias : torch.Tensor of float64, shape (C,)
    images : torch.Tensor of float64, shape (B, n)
    labels : torch.Tensor of int64, shape (B,)

    Returns
    -------
    torch.Tensor of float64, shape (B,)
    """
    best = torch.full((len(images),), torch.inf, dtype=torch.float64)
    for shift in range(1, len(bias)):
        wrong = (labels + shift) % len(bias)
        a, b = weights[wrong] - weights[labels], bias[wrong] - bias[labels]

        def margin(t, a=a, b=b):
            return (a * (images + t[:, None] * a).clamp(0, 1)).sum(1) + b

        low, high = torch.zeros_like(best), torch.ones_like(best)
        while bool((short := (margin(high) < 0) & (high < 1e12)).any()):
            high = torch.where(short, 2 * high, high)
        for _ in range(rounds):
            middle = (low + high) / 2
            enough = margin(middle) >= 0
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        r = (images + high[:, None] * a).clamp(0, 1) - images
        reachable = margin(high) >= -1e-9
        best = torch.minimum(best, torch.where(reachable, r.square().mean(1).sqrt(), torch.inf))
    return best


def main():
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    device = torch.device("cpu")
    _, about = read_tensors(folder / "data.safetensors")
    pool, answers, _, _ = load_images(
        folder / "data.safetensors", about["job"], {"of": "test"}, device
    )
    print("model     images  closed form  attack   ratio    worst ratio  failed  ms an image")
    for name in ("softmax1", "softmax2", "softmax3"):
        network, _ = load_network(folder / f"models/{name}/seed0.safetensors", None, device)
        with torch.no_grad():
            right = network(pool).argmax(1) == answers
        images, labels = pool[right][:count], answers[right][:count]
        layer = network[-1]
        exact = closed_form(
            layer.weight.double(), layer.bias.double(), images.flatten(1).double(), labels
        )
        start = time.perf_counter()
        result = lbfgs(network, images, labels, targets="nearest")
        cost = 1000 * (time.perf_counter() - start) / len(images)
        ratio = result.rms.double() / exact
        print(
            f"{name:8} {len(images):7d}  {exact.mean():11.5f}  {result.rms.mean():.5f}  "
            f"{result.rms.double().mean() / exact.mean():.5f}  {ratio.max():11.5f}  "
            f"{int((~result.success).sum()):6d}  {cost:11.2f}"
        )


if __name__ == "__main__":
    main()
