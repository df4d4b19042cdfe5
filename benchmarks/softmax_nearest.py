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
from blindspots.attacks.closed_form import closed_form_distances
from blindspots.attacks.lbfgs import lbfgs
from blindspots.steps.loading import load_images
from blindspots.steps.weights import load_network


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
        exact = closed_form_distances(
            layer.weight.double(), layer.bias.double(), images.flatten(1).double(), labels
        ).amin(1)
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
