"""Compare a notebook's transfer matrix with the steps of a workflow: time, and every number.

    python benchmarks/notebook.py results/mnist [images]

Needs the models softmax1, M1 and N200-200-10 (``make benchmark`` trains them). The steps run in
this process, so that their start-up doesn't count, and write into a temporary folder. Both run in
turn, three times, on one thread; times are medians, of the processor, so that what runs beside them
counts little. Last, how long an import of the package takes.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import blindspots as bs
from blindspots.artifacts import read_record, read_tensors
from blindspots.experiments.transfer import evaluate_noise, evaluate_transfer
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.randomness import random_wrong_labels
from blindspots.steps import generate_adversarial_set
from blindspots.steps.job import Job
from blindspots.steps.loading import load_images
from blindspots.steps.weights import load_network

NETWORKS = ("softmax1", "M1", "N200-200-10")
AMPLIFY, NOISE, REPEATS = 0.1, 0.1, 3
COMPUTE = {"seed": 0, "chunk": 1000, "device": "cpu", "threads": 1}
VERSIONS = {"numpy": "", "torch": ""}


def by_steps(folder, into, images):
    """Run the steps on the test images in a split, and return the rows that they write."""
    data, models = folder / "data.safetensors", {}
    for name in NETWORKS:
        path = folder / f"models/{name}/seed0.safetensors"
        models[name] = path, digest_of(path)
    upstream = {
        "data": digest_of(data),
        "victims": {n: digest for n, (_, digest) in models.items()},
    }
    victims = [path for path, _ in models.values()]
    shown = {"victims": list(NETWORKS), "versions": VERSIONS, **COMPUTE}
    rows = []
    for name, (path, digest) in models.items():
        attack = {"method": "lbfgs", "targets": "random", "options": {}}
        spec = {"attack": attack, "images": images, **COMPUTE}
        found = into / f"{name}.safetensors"
        files = SimpleNamespace(data=data, model=path, adversarial=found)
        spec["upstream"] = {"data": upstream["data"], "model": digest}
        generate_adversarial_set.main(job(spec, "set"), files)
        row = into / f"rows/{name}/seed0/lbfgs.json"
        row.parent.mkdir(parents=True)
        files = SimpleNamespace(data=data, set=found, source=path, victims=victims, row=row)
        spec = {"source": name, "attack": "lbfgs", "base": images["of"], **shown}
        spec["variants"] = [{"kind": "as_found"}, {"kind": "amplified", "level": AMPLIFY}]
        spec["upstream"] = {**upstream, "set": "set", "source": digest}
        evaluate_transfer.main(job(spec, "row"), files)
        rows += read_record(row)["rows"]
    row = into / "rows/noise/seed0/images.json"
    row.parent.mkdir(parents=True)
    spec = {"source": "noise", "attack": "images", "images": images, **shown}
    spec["variants"] = [{"kind": "clean"}, {"kind": "gaussian", "level": NOISE}]
    spec["upstream"] = upstream
    files = SimpleNamespace(data=data, victims=victims, row=row)
    evaluate_noise.main(job(spec, "row"), files)
    return rows + read_record(row)["rows"]


def digest_of(path):
    """Return the digest of the job that made an artifact."""
    return read_tensors(path)[1]["job"]


def job(spec, digest):
    """Return a job as a step is given it."""
    return Job(spec, "benchmark", digest, COMPUTE["threads"])


def timed(function):
    """Return how long a call computes, in seconds, and what it returns."""
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def import_time():
    """Return how long an import computes beyond an empty program, in seconds: the least of ten."""

    def seconds(code):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        path = f"import sys; sys.path[:0] = {sys.path[:1]!r}; "
        subprocess.run([sys.executable, "-c", path + code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    empty, full = (min(seconds(c) for _ in range(10)) for c in ("pass", "import blindspots"))
    return full - empty


def main():
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    torch.set_num_threads(COMPUTE["threads"])
    device, data = torch.device("cpu"), folder / "data.safetensors"
    split = {"of": "test", "seed": 0, "range": [0, count]}
    images, labels, indices, facts = load_images(data, digest_of(data), split, device)
    targets = random_wrong_labels(labels.numpy(), indices, facts["classes"], "test", 0)
    models = {
        name: load_network(folder / f"models/{name}/seed0.safetensors", None, device)[0]
        for name in NETWORKS
    }

    def by_notebook():
        return bs.transfer_matrix(
            models, images, labels, targets=targets, amplify=[AMPLIFY], noise=[NOISE]
        )

    taken = {"steps": [], "notebook": []}
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as into:
            seconds, rows = timed(lambda into=into: by_steps(folder, Path(into), split))
        taken["steps"].append(seconds)
        seconds, matrix = timed(by_notebook)
        taken["notebook"].append(seconds)
    # Noise is drawn by the place of an image in its base set, which a notebook doesn't know.
    whole, found = pd.DataFrame(rows, columns=list(FIELDS)), matrix.table
    same = whole["variant"] != "gaussian"
    equal = whole[same].reset_index(drop=True).equals(found[same].reset_index(drop=True))
    steps, notebook = (statistics.median(taken[name]) for name in ("steps", "notebook"))
    print(matrix)
    print(f"steps {steps:.2f} s, notebook {notebook:.2f} s ({notebook / steps:.2f} times as long)")
    print(f"adversarial and clean rows are {'the same' if equal else 'NOT the same'}")
    print(f"import blindspots: {1000 * import_time():.0f} ms")


if __name__ == "__main__":
    main()
