"""Measure attacks side by side: time, gradient evaluations, success, distortion, certificate.

    python benchmarks/attacks.py results/mnist docs/benchmarks

The first argument is the folder of a study with trained models (``make benchmark`` trains them);
table and plot go to the second one. Peers that are not installed are left out; envs/peers.txt says
how to install them. A random wrong label is the target of each image, the same for all attacks.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from blindspots.artifacts import read_tensors
from blindspots.attacks.best_of import best_of
from blindspots.attacks.ddn import ddn
from blindspots.attacks.external import AttackError, call_of, judged
from blindspots.attacks.lbfgs import lbfgs
from blindspots.attacks.objective import Objective
from blindspots.attacks.result import AdversarialResult
from blindspots.evaluation.distortion import rms_distortion
from blindspots.models.state import frozen
from blindspots.randomness import random_wrong_labels
from blindspots.steps.loading import load_images
from blindspots.steps.weights import load_network
from blindspots.summary.style import colours_and_markers, house_style

NETWORKS = ("softmax1", "M1", "N200-200-10", "conv")
SCIPY_WHOLE, SCIPY_IMAGES = ("softmax1", "M1"), 100
LONG = 100  # seconds: what takes longer is run once
SCIPY = "scipy L-BFGS-B"
GROUPS = ("blindspots", "adv-lib", "foolbox", "scipy")
# Where names stand in the plot: of each group on another side of its points.
BELOW = {"rotation": -45, "xytext": (3, -3), "va": "top"}
PLACES = {
    "blindspots": {"rotation": -45, "xytext": (-3, 3), "ha": "right"},
    "blindspots ddn 100, polished": BELOW,  # often as good and as fast as lbfgs
    "adv-lib": BELOW,
    "foolbox": {"xytext": (6, 2)},
    "scipy": {"rotation": 45, "xytext": (3, 4)},
}


def own(attack, **options):
    """Return an attack of this package with its options."""
    return lambda network, images, labels, targets: attack(
        network, images, labels, targets=targets, **options
    )


def peer(method, **options):
    """Return the bare attack of another library with its options: it returns images alone."""
    call = call_of(method)

    def attack(network, images, labels, targets):
        with torch.enable_grad():
            return call(network, images, labels, targets, **options)

    return attack


def attacks(device):
    """Return the attacks by name; those of libraries that are not installed are left out."""
    found = {
        "blindspots lbfgs": own(lbfgs),
        "blindspots ddn 100": own(ddn),
        "blindspots ddn 100, polished": own(ddn, polish_steps=10, cut_steps=80),
        "blindspots best_of": own(best_of),
    }
    if device.type == "cpu":
        found[SCIPY] = scipy_lbfgsb
    for name, method, options in (
        ("adv-lib ddn 100", "adv-lib:ddn", {"steps": 100}),
        ("adv-lib ddn 1000", "adv-lib:ddn", {"steps": 1000}),
        ("adv-lib pdgd 1000", "adv-lib:pdgd", {"num_steps": 1000}),
        ("adv-lib alma 1000", "adv-lib:alma", {"num_steps": 1000}),
        ("adv-lib fmn 1000", "adv-lib:fmn", {"steps": 1000}),
        ("foolbox ddn 100", "foolbox:DDNAttack", {"steps": 100}),
    ):
        try:
            found[name] = peer(method, **options)
        except AttackError as error:
            print(f"{name} is left out: {error}")
    return found


def result_of(found, title, network, images, labels, targets):
    """Return what an attack has found as a result, and whether each success has its margin.

    Peers return images alone. They are not held to the margin that ours keep: a success is what
    our forward pass answers with the target.
    """
    if isinstance(found, AdversarialResult):
        return found, found.success
    objective = Objective(network, images.shape[1:], labels, targets)
    origin, point = images.flatten(1), found.detach().flatten(1)
    _, distance, residual, _ = judged(title, found, objective, origin)
    inside = ((point >= 0) & (point <= 1)).all(1)
    success = inside & (objective.margins(point)[:, 0] > 0)
    rms = torch.where(success, rms_distortion(found, images), torch.nan)
    steps = torch.full_like(labels, int(title.split()[-1]))
    result = AdversarialResult(found, success, rms, steps, residual, targets)
    return result, distance.isfinite()


@threadpool_limits.wrap(limits=1)
def scipy_lbfgsb(network, images, labels, targets, steps=12):
    """Attack one image at a time with scipy's L-BFGS-B: the textbook form of the method.

    Twelve values of c by bisection of its logarithm, each started from the last solution; the
    gradient is analytic, in numpy, for networks of linear and sigmoid layers. On one thread: for
    single images that is no slower, and scipy's threads and torch's do not wait for one another,
    which takes eight times as long on a convolutional network.
    """
    loss = _numpy_loss(network) or _torch_loss(network, images.shape[1:])
    found, success, passes = images.clone(), [], []
    for row, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        x = image.flatten().double().numpy()
        best, count = [np.inf, None], [0]

        def function(p, c, x=x, target=target, best=best, count=count):
            value, gradient, margin = loss(p, target)
            r = p - x
            count[0] += 1
            if margin > 0 and r @ r < best[0]:
                best[:] = r @ r, p.copy()
            return c * (r @ r) + value, gradient + 2 * c * r

        low, high, start = np.log(1e-4), np.log(1e2), x
        for _ in range(steps):
            middle = (low + high) / 2
            solution = minimize(
                function,
                start,
                args=(np.exp(middle),),
                jac=True,
                method="L-BFGS-B",
                bounds=[(0, 1)] * len(x),
            )
            start = solution.x
            works = loss(start, target)[2] > 0
            low, high = (middle, high) if works else (low, middle)
        success.append(best[1] is not None)
        passes.append(count[0])
        if success[-1]:
            found[row] = torch.from_numpy(best[1]).float().view(image.shape)
    objective = Objective(network, images.shape[1:], labels, targets)
    success = torch.tensor(success) & (objective.margins(found.flatten(1))[:, 0] > 0)
    rms = torch.where(success, rms_distortion(found, images), torch.nan)
    unknown = torch.full_like(rms, torch.nan)
    return AdversarialResult(found, success, rms, torch.tensor(passes), unknown, targets)


def _numpy_loss(network):
    layers = [m for m in network.modules() if not list(m.children())]
    kinds = {type(layer).__name__ for layer in layers}
    if not kinds <= {"Flatten", "Linear", "Sigmoid"}:
        return None
    linear = [
        (m.weight.double().numpy(), m.bias.double().numpy())
        for m in layers
        if isinstance(m, torch.nn.Linear)
    ]

    def loss(p, target):
        codes = [p]
        for weight, bias in linear[:-1]:
            codes.append(1 / (1 + np.exp(-(weight @ codes[-1] + bias))))
        weight, bias = linear[-1]
        logits = weight @ codes[-1] + bias
        top = logits.max()
        slope = np.exp(logits - top)
        total = slope.sum()
        slope /= total
        slope[target] -= 1
        gradient = weight.T @ slope
        for (weight, _), code in zip(linear[-2::-1], codes[:0:-1], strict=True):
            gradient = weight.T @ (gradient * code * (1 - code))
        margin = logits[target] - np.delete(logits, target).max()
        return top + np.log(total) - logits[target], gradient, margin

    return loss


def _torch_loss(network, shape):
    def loss(p, target):
        goal = torch.tensor([target])
        objective = Objective(network, shape, goal, goal)
        value, gradient, margin = objective.loss_and_margin(torch.from_numpy(p).float()[None])
        return value.item(), gradient[0].double().numpy(), margin.item()

    return loss


def roofline(network, images, labels, targets):
    """Return the milliseconds an image of a forward and backward pass, at the best batch size."""
    best = float("inf")
    for size in (8, 125, 250, 500, 1000):
        part = slice(0, size)
        goal = None if targets is None else targets[part]
        objective = Objective(network, images.shape[1:], labels[part], goal)
        points = images[part].flatten(1)
        for _ in range(10):
            start = now(images.device)
            objective.gradient_and_margin(points)
            best = min(best, 1000 * (now(images.device) - start) / len(points))
    return best


def now(device):
    """Return the time in seconds at which the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(attacks, case, cases, repeats, device):
    """Run all attacks in turn, several times; return results, seconds of each run, and roofline.

    In turn: what else the machine does meanwhile hits all of them alike.
    """
    results, seconds, floor = {}, {title: [] for title in attacks}, float("inf")
    for _ in range(repeats):
        floor = min(floor, roofline(*case))
        for title, attack in attacks.items():
            if any(run > LONG for run in seconds[title]):
                continue
            start = now(device)
            results[title] = attack(*cases[title])
            seconds[title].append(now(device) - start)
            print(f"{title}: {seconds[title][-1]:.3g} s")
    return results, seconds, floor


def case_of(name, folder, about, count, device):
    """Return a network of a study, test images that it gets right, labels and targets."""
    network, _ = load_network(folder / f"models/{name}/seed0.safetensors", None, device)
    pool, answers, indices, _ = load_images(
        folder / "data.safetensors", about["job"], {"of": "test"}, device
    )
    with torch.no_grad():
        right = network(pool).argmax(1) == answers
    images, labels = pool[right][:count], answers[right][:count]
    drawn = random_wrong_labels(
        labels.cpu().numpy(), indices[right.cpu().numpy()][:count], 10, "test", 0
    )
    return network, images, labels, torch.from_numpy(drawn).to(device)


def measure(name, case, known, repeats, device):
    """Measure attacks on one network; return lines of the table."""
    network, *_ = case
    cases, few = {}, slice(0, None if name in SCIPY_WHOLE else SCIPY_IMAGES)
    for title in known:
        cases[title] = case if title != SCIPY else (network, *(part[few] for part in case[1:]))
    with frozen(network):
        found, seconds, floor = timed(known, case, cases, repeats, device)
        results = {title: result_of(found[title], title, *cases[title]) for title in known}
    ours = results["blindspots lbfgs"][0].rms
    lines = []
    for title, (result, safe) in results.items():
        scipy, count = title == SCIPY, len(cases[title][1])
        cost = 1000 * statistics.median(seconds[title]) / count
        passes = result.evaluations.float().mean().item()
        rms = result.rms[result.success].cpu().double()
        same = ours[:count][result.success].cpu().double()
        certified = (result.kkt_residual < 1e-3).float().mean().item()
        lines.append(
            {
                "network": name,
                "attack": title,
                "images": count,
                "runs": len(seconds[title]),
                "ms an image": cost,
                "evaluations": passes,
                "of roofline": passes * floor / cost,
                "success": result.success.float().mean().item(),
                "with margin": float("nan") if scipy else safe.float().mean().item(),
                "mean RMS": rms.mean().item(),
                "/ lbfgs, same images": rms.mean().item() / same.mean().item(),
                "p90 RMS": rms.quantile(0.9).item() if len(rms) else float("nan"),
                "KKT < 1e-3": float("nan") if scipy else certified,
            }
        )
        line = lines[-1]
        print("  ".join(f"{v:.5g}" if isinstance(v, float) else str(v) for v in line.values()))
    return lines


def scale(folder, about, device):
    """Measure time and memory of lbfgs on M1 over 1,000 and over all training images."""
    network, _ = load_network(folder / "models/M1/seed0.safetensors", None, device)
    images, labels, indices, _ = load_images(
        folder / "data.safetensors", about["job"], {"of": "train"}, device
    )
    drawn = random_wrong_labels(labels.cpu().numpy(), indices, 10, "train", 0)
    targets = torch.from_numpy(drawn).to(device)
    costs = {1000: [], len(images): []}
    for count in (1000, 1000, 1000, len(images), 1000, 1000):  # around it: the machine drifts
        start = now(device)
        lbfgs(network, images[:count], labels[:count], targets=targets[:count])
        costs[count].append(1000 * (now(device) - start) / count)
    small, large = (statistics.median(found) for found in costs.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
    return (
        f"lbfgs on M1: {small:.3f} ms an image at 1,000 images, {large:.3f} at {len(images):,} "
        f"({100 * (large / small - 1):+.0f} %), {memory:.2f} GiB at most\n"
    )


def write(table, notes, stem):
    """Write table, notes and plot."""
    table.to_csv(stem.with_suffix(".csv"), index=False, float_format="%.5g")
    text = table.to_markdown(index=False, floatfmt=".5g")
    stem.with_suffix(".md").write_text(f"{text}\n\n{notes}")
    with house_style():
        plot(table, stem.with_suffix(".svg"))


def plot(table, path):
    """Plot mean distortion against time, one panel for each network.

    Attacks that fail often are left out: their mean is one over other images. So are those that end
    twice as far as the best: they would press the others together.
    """
    table = table[table["success"] > 0.95]
    names = list(dict.fromkeys(table["network"]))
    looks = colours_and_markers(GROUPS)
    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7.5), layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        part = table[table["network"] == name]
        part = part[part["images"] == part["images"].max()]  # scipy may have been given fewer
        part = part[part["mean RMS"] < 2 * part["mean RMS"].min()]
        for group, (colour, marker) in looks.items():
            some = part[part["attack"].str.startswith(group)]
            x, y = some["ms an image"], some["mean RMS"]
            axis.plot(x, y, marker, color=colour, label=group, zorder=3)
            for title, *where in zip(some["attack"], x, y, strict=True):
                text = title.removeprefix(f"{group} ")
                place = PLACES.get(title, PLACES[group])
                axis.annotate(text, where, textcoords="offset points", fontsize=7, **place)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        narrow = part["ms an image"].max() < 30 * part["ms an image"].min()
        axis.xaxis.set_minor_locator(LogLocator(subs=(2, 5)) if narrow else NullLocator())
        axis.xaxis.set_minor_formatter("{x:g}")
        axis.margins(x=0.25, y=0.5)
        axis.set_title(f"{name}, {part['images'].max()} images")
        axis.set_xlabel("time (ms an image)")
        axis.set_ylabel("mean RMS distortion (pixel range 1)")
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of a study with trained models")
    parser.add_argument("output", type=Path, help="folder for table and plot")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    names = [
        n for n in options.networks if (options.folder / f"models/{n}/seed0.safetensors").exists()
    ]
    if not names:
        sys.exit(f"error: no models of {', '.join(options.networks)} in {options.folder}")
    device = torch.device(options.device)
    _, about = read_tensors(options.folder / "data.safetensors")
    notes = scale(options.folder, about, device) if "M1" in names else ""
    print(notes)
    options.output.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in names:  # and write what there is: the next network may take an hour
        case = case_of(name, options.folder, about, options.images, device)
        lines += measure(name, case, attacks(device), options.repeats, device)
        write(pd.DataFrame(lines), notes, options.output / f"attacks-{device.type}")


if __name__ == "__main__":
    main()
