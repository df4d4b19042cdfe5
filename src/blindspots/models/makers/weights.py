"""Models from a file of weights that were trained elsewhere; nothing is trained."""

from blindspots.data.root import below
from blindspots.models.makers import trained
from blindspots.models.weight_digest import describe

KEY = "weights"
MODULE = "blindspots.models.makers.weights"
NUMBERS = {"type": "array", "minItems": 1, "items": {"type": "number"}}
SCHEMA = {
    "description": "A model whose weights lie in a file",
    "type": "object",
    "required": ["architecture", "weights"],
    "properties": {
        **{
            key: trained.SCHEMA["properties"][key]
            for key in ("widths", "activation", "units", "channels", "options")
        },
        "architecture": {
            "description": "softmax, mlp, autoencoder, conv, tiny_darknet, torchvision:NAME, or "
            "module:factory on the Python path",
            "$ref": "#/$defs/architecture",
        },
        "weights": {
            "description": "A .safetensors file, or a state dict as .pt or .pth; looked for in the "
            "working directory, then in the data root",
            "$ref": "#/$defs/line",
            "minLength": 1,
        },
        "normalize": {
            "description": "What the network expects of images in [0, 1], as its first layer: "
            "(images - mean) / std",
            "type": "object",
            "additionalProperties": False,
            "required": ["mean", "std"],
            "properties": {
                "mean": {"description": "One number for each channel", **NUMBERS},
                "std": {
                    "description": "One number above 0 for each channel",
                    **NUMBERS,
                    "items": {"type": "number", "exclusiveMinimum": 0},
                },
            },
        },
        "shape": {
            "description": "Channels, height and width of the images that it takes; those of the "
            "data set, unless given",
            "type": "array",
            "minItems": 3,
            "maxItems": 3,
            "items": {"type": "integer", "minimum": 1, "maximum": 100000},
        },
        "classes": {
            "description": "Classes that it tells apart; those of the data set, unless given",
            "type": "integer",
            "minimum": 2,
            "maximum": 1000000,
        },
    },
}


def takes(entry, facts):
    """Return the shape of the images that a model takes, and the number of its classes."""
    return tuple(entry.get("shape", facts.shape)), entry.get("classes", facts.classes)


def seeded(entry):
    """Tell whether a model is made anew for every seed: nothing is drawn."""
    return False


def differentiable(entry):
    """Tell whether a model has layers and gradients: a network does."""
    return True


def problems(where, entry, config, facts):
    """Yield what is wrong with an entry, in sentences."""
    shape, _ = takes(entry, facts)
    yield from trained.architecture_problems(where, entry, shape)
    if "normalize" in entry:
        for key, numbers in entry["normalize"].items():
            if len(numbers) != shape[0]:
                yield (
                    f"{where}.normalize.{key} lists {len(numbers)} numbers for {shape[0]} "
                    "channels; give one for each"
                )


def inputs(study, entry, seed):
    """Return the jobs that a model builds on: none."""
    return {}


def settings(study, entry, seed):
    """Return what determines the bytes of a model: the content of the file, not its place."""
    shape, classes = takes(entry, study.facts)
    torchvision = entry["architecture"].startswith("torchvision:")
    return {
        "maker": KEY,
        "architecture": trained.architecture(entry),
        "shape": list(shape),
        "classes": classes,
        "weights": describe(options(study, entry)["file"])["content"],
        "versions": study.compute("train", ("torchvision",) if torchvision else ())["versions"],
    }


def options(study, entry):
    """Return where the file lies."""
    return {"file": below(study.data_root, entry[KEY])}


def references(entry):
    """Return the user's module that builds the network, if one does."""
    return trained.references(entry)


def main(job, files):
    """Build the network, give it the weights, and save both as one model."""
    from blindspots.errors import UserError
    from blindspots.models.weight_files import load_strictly, read_weights
    from blindspots.steps.weights import built, code_of_others, reloaded, save_network

    path, spec = job.options["file"], job.spec
    if describe(path)["content"] != spec["weights"]:
        raise UserError(
            f"{path} is another file than snakemake saw when it planned this job; leave it alone, "
            "where both see the same, and run again"
        )
    about = {key: spec[key] for key in ("architecture", "shape", "classes")}
    network = built(about, seed=0)
    inner = network.network if "normalize" in spec["architecture"] else network
    load_strictly(inner, read_weights(path), path)
    with code_of_others(about["architecture"]["kind"]):
        reloaded(network, about)  # what cannot be read back is refused now
    save_network(files.model, network, job.provenance(network=about))


if __name__ == "__main__":
    from blindspots.steps.job import run

    run(main, reads="", writes="model", options="file")
