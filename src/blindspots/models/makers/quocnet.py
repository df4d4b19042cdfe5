"""Frozen features that no label has made, and a logistic classifier of them: QuocNet."""

KEY = "features"
MODULE = "blindspots.models.makers.quocnet"
PIXELS = "pixels"
COUNT = {"type": "integer", "minimum": 1, "maximum": 4096}
SCHEMA = {
    "description": "Frozen features with a logistic classifier",
    "type": "object",
    "required": ["features", "split"],
    "properties": {
        "features": {
            "description": "rica (learned without labels), whitened (drawn in the space of "
            "whitened patches), random (drawn in that of patches), or pixels",
            "enum": ["rica", "whitened", "random", PIXELS],
        },
        "stages": {
            "description": "Each filters, pools and normalises what the one before returns",
            "type": "array",
            "minItems": 1,
            "maxItems": 8,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "filters": {"description": "How many", **COUNT, "default": 64},
                    "kernel": {"description": "Side of a filter", **COUNT, "default": 6},
                    "pool": {
                        "description": "Side of a window of L2 pooling",
                        **COUNT,
                        "default": 5,
                    },
                    "stride": {"description": "Between two windows", **COUNT, "default": 3},
                    "sparsity": {
                        "description": "Weight of the sparsity of rica beside the reconstruction",
                        "type": "number",
                        "minimum": 0,
                        "default": 1.0,
                    },
                },
            },
        },
        "split": {
            "description": "Split that filters and classifier are made from; one with `detect` "
            "makes a detector",
            "$ref": "#/$defs/id",
        },
    },
}


def takes(entry, facts):
    """Return the shape of the images that a model takes, and the number of its classes."""
    return facts.shape, facts.classes


def seeded(entry):
    """Tell whether a model is made anew for every seed: filters and what is held out are drawn."""
    return True


def differentiable(entry):
    """Tell whether a model has layers and gradients: a network does."""
    return True


def problems(where, entry, config, facts):
    """Yield what is wrong with an entry, in sentences."""
    stages = entry.get("stages", [])
    if entry[KEY] == PIXELS and stages:
        yield f"{where}.stages: pixels pass no stage; take it out"
    elif entry[KEY] != PIXELS and not stages:
        yield f"{where}.stages is missing: say what each stage is, `stages: [{{filters: 64}}]`"
    sides = facts.shape[1:]
    for number, stage in enumerate(stages):
        for step, size, stride in (
            ("kernel", stage["kernel"], 1),
            ("pool", stage["pool"], stage["stride"]),
        ):
            if min(sides) < size:
                yield (
                    f"{where}.stages[{number}].{step}: {size}x{size} is more than the "
                    f"{sides[0]}x{sides[1]} that are left there; make it smaller"
                )
                return
            sides = tuple((side - size) // stride + 1 for side in sides)


def inputs(study, entry, seed):
    """Return the jobs that a model builds on."""
    return {"data": study.job("prepare_data")}


def settings(study, entry, seed):
    """Return what else determines the bytes of a model."""
    stages = entry.get("stages", [])
    return {
        "maker": KEY,
        "features": entry[KEY],
        "stages": [
            {k: stage[k] for k in ("filters", "kernel", "pool", "stride")} for stage in stages
        ],
        "sparsities": [stage["sparsity"] for stage in stages],
        "split": study.split(entry["split"]),
        "seed": seed,
        **study.compute("train"),
    }


def options(study, entry):
    """Return what the step is told besides: nothing."""
    return {}


def references(entry):
    """Return users' code that runs: none."""
    return ()


def main(job, files):
    """Make the filters, fit the classifier, and save both as one network."""
    from blindspots.device import configure_torch
    from blindspots.errors import UserError
    from blindspots.models.stagewise import fit_stagewise
    from blindspots.steps.checkpoint import FileCheckpoint
    from blindspots.steps.loading import load_images
    from blindspots.steps.weights import built, save_network

    spec = job.spec
    device = configure_torch(spec["device"], job.threads)
    images, labels, _, facts = load_images(files.data, job.upstream("data"), spec["split"], device)
    about = {
        "architecture": {"kind": "quocnet", "stages": spec["stages"]},
        "shape": facts["shape"],
        "classes": facts["classes"],
    }
    network = built(about, seed=0).to(device)
    checkpoint = FileCheckpoint(job, files.model, device)
    settings = (spec["features"], spec["sparsities"], spec["seed"], checkpoint)
    try:
        record = fit_stagewise(network, images, labels, *settings)
    except ValueError as error:
        raise UserError(f"{files.model} cannot be fitted: {error}") from error
    provenance = job.provenance(network=about, training=record, device=device.type)
    save_network(files.model, network, provenance)
    checkpoint.remove()


if __name__ == "__main__":
    from blindspots.steps.job import run

    run(main, reads="data", writes="model")
