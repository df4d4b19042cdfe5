"""Measure attacks on few and on many images on a GPU, training, and whether a CPU agrees.

    python benchmarks/gpu.py results/mnist docs/benchmarks

The first argument is the folder of a study with trained models (``make benchmark`` trains them), a
table goes to the second one. A random wrong label is the target of each image, the same for all
attacks. Of each attack the second run counts: the first one loads kernels. Adv-lib is left
out where it is not installed (envs/peers.txt says how).
"""

import sys
import time
from pathlib import Path

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from blindspots.artifacts import read_tensors
from blindspots.attacks.best_of import best_of
from blindspots.attacks.ddn import ddn
from blindspots.attacks.external import AttackError, call_of
from blindspots.attacks.lbfgs import lbfgs
from blindspots.device import configure_torch
from blindspots.models.networks import build_network, placed
from blindspots.models.state import frozen
from blindspots.models.training import train_classifier
from blindspots.randomness import random_wrong_labels
from blindspots.steps.loading import load_images
from blindspots.steps.weights import load_network

SMALL, MANY, ALL = 1000, 10000, 60000
CASES = {
    "M1": (SMALL, 2000, MANY, ALL),
    "softmax1": (SMALL, MANY, ALL),
    "N200-200-10": (SMALL, MANY, ALL),
    "conv": (SMALL, 2000, MANY),
}
CHUNK = 64000
COMPARED = {"M1": 1000, "conv": 200}  # images that are attacked on a CPU, too
TRAINED = ("softmax1", "M1", "N200-200-10")


def now():
    torch.cuda.synchronize()
    return time.perf_counter()


def attacks():
    """Return the attacks by name."""
    found = {"lbfgs": lbfgs, "ddn 100": ddn, "best_of": best_of}
    try:
        call = call_of("adv-lib:ddn")
    except AttackError as error:
        print(f"adv-lib is left out: {error}")
        return found

    def peer(network, images, labels, targets, chunk):
        with torch.enable_grad():
            return call(network, images, labels, targets, steps=100)

    return found | {"adv-lib ddn 100": peer}


def case_of(name, folder, about, count, device):
    """Return a network, training images that it gets right, labels and targets."""
    network, _ = load_network(folder / f"models/{name}/seed0.safetensors", None, device)
    pool, answers, indices, _ = load_images(
        folder / "data.safetensors", about["job"], {"of": "train"}, device
    )
    with torch.no_grad():
        right = torch.cat([network(part).argmax(1) for part in pool.split(MANY)]) == answers
    drawn = random_wrong_labels(answers.cpu().numpy(), indices, 10, "train", 0)
    targets = torch.from_numpy(drawn).to(device)
    return network, *(part[right][:count] for part in (pool, answers, targets))


def throughput(folder, about, device):
    """Return lines of the table of attacks."""
    lines = []
    for name, counts in CASES.items():
        network, *pool = case_of(name, folder, about, max(counts), device)
        for count in counts:
            images, labels, targets = (part[:count] for part in pool)
            for title, attack in attacks().items():
                if title == "best_of" and count > MANY:
                    continue
                torch.cuda.reset_peak_memory_stats()
                with frozen(network):
                    for _ in range(2):
                        start = now()
                        result = attack(network, images, labels, targets=targets, chunk=CHUNK)
                        seconds = now() - start
                rms = result.rms.nanmean().item() if title != "adv-lib ddn 100" else float("nan")
                lines.append(
                    {
                        "network": name,
                        "attack": title,
                        "images": len(images),
                        "seconds": seconds,
                        "ms an image": 1000 * seconds / len(images),
                        "mean RMS": rms,
                        "GiB": torch.cuda.max_memory_allocated() / 2**30,
                    }
                )
                print(*lines[-1].values(), flush=True)
    return lines


def agreement(folder, about, device):
    """Return sentences on a second run, and on a run on the CPU."""
    notes = []
    for name, count in COMPARED.items():
        case = case_of(name, folder, about, count, device)
        for title, attack in (("lbfgs", lbfgs), ("ddn 100", ddn)):
            network, images, labels, targets = case
            once, again = (
                attack(network, images, labels, targets=targets, chunk=CHUNK) for _ in range(2)
            )
            bare, *rest = case_of(name, folder, about, count, torch.device("cpu"))
            there = attack(bare, rest[0], rest[1], targets=rest[2])
            same = torch.equal(once.images, again.images)
            means = [found.rms.nanmean().item() for found in (once, there)]
            certified = [
                100 * (found.kkt_residual < 1e-3).float().mean().item() for found in (once, there)
            ]
            notes.append(
                f"{title} on {name}, {len(images)} images: a second run gives "
                f"{'the same bytes' if same else 'other bytes'}; GPU and CPU: "
                f"{int(once.success.sum())} and {int(there.success.sum())} successes, mean RMS "
                f"{means[0]:.6f} and {means[1]:.6f} ({100 * (means[0] / means[1] - 1):+.3f} %), "
                f"KKT < 1e-3 {certified[0]:.1f} and {certified[1]:.1f} %"
            )
            print(notes[-1], flush=True)
    return notes


def training(folder, about, device):
    """Return sentences on training."""
    notes = []
    for name in TRAINED:
        _, made = read_tensors(folder / f"models/{name}/seed0.safetensors", None)
        described = made["network"]
        images, labels, _, _ = load_images(
            folder / "data.safetensors", about["job"], {"of": "train"}, device
        )
        times, sums = [], set()
        for _ in range(2):
            kind = described["architecture"]["kind"]
            network = build_network(
                described["architecture"], tuple(described["shape"]), described["classes"], 0
            )
            network = placed(network, kind, device)
            start = now()
            record = train_classifier(network, images, labels, made["spec"]["training"], 0)
            times.append(now() - start)
            sums.add(sum(p.double().sum().item() for p in network.parameters()))
        notes.append(
            f"training of {name}: {times[1]:.1f} s (the first time {times[0]:.1f}), "
            f"{record['evaluations']} evaluations, loss {record['loss']:.6f}, "
            f"{'the same weights' if len(sums) == 1 else 'other weights'} twice"
        )
        print(notes[-1], flush=True)
    return notes


def main(folder, out):
    folder, out = Path(folder), Path(out)
    device = configure_torch("cuda", 4)
    _, about = read_tensors(folder / "data.safetensors", None)
    notes = training(folder, about, device)
    lines = throughput(folder, about, device)
    notes += agreement(folder, about, device)
    table = pd.DataFrame(lines)
    machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    text = table.to_markdown(index=False, floatfmt=".4g")
    items = "\n".join(f"- {note}" for note in notes)
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.md").write_text(f"# On a GPU\n\n{machine}\n\n{text}\n\n{items}\n")
    table.to_csv(out / "gpu.csv", index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
