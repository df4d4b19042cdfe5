"""Models from a file of weights that were trained elsewhere; nothing is trained."""

from blindspots.data.root import below
from blindspots.models.makers import trained
from blindspots.models.weight_digest import describe

KEY = "weights"
TORCHVISION = "torchvision:"
MODULE = "blindspots.models.makers.weights"
NUMBERS = {"type": "array", "minItems": 1, "items": {"type": "number"}}
SCHEMA = {
    "description": "A model whose weights lie in a file",
    "type": "object",
    "required": ["architecture", "weights"],
    "properties": {
        **{
            key: trained.SCHEMA["properties"][key]
            for key in ("widths", "activation", "units", "channels", "kernel", "dropout", "options")
        },
        "architecture": {
            "description": "softmax, mlp, autoencoder, conv, tiny_darknet, torchvision:NAME, or "
            "module:factory on the Python path",
            "$ref": "#/$defs/architecture",
        },
        "weights": {
            "description": "A .safetensors file, or a state dict as .pt or .pth, looked for in the "
            "working directory, then in the data root; or torchvision:NAME, such as "
            "torchvision:IMAGENET1K_V1: weights that torchvision publishes for the architecture, "
            "fetched into the data root, with the normalisation that they need",
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
    if _published(entry) and not entry["architecture"].startswith(TORCHVISION):
        yield (
            f"{where}.weights: torchvision publishes weights of its own architectures; write "
            "architecture: torchvision:NAME"
        )
    if _published(entry) and "normalize" in entry:
        yield f"{where}.normalize: it comes with torchvision's weights; take it out"
    elif "normalize" in entry:
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
    torchvision = entry["architecture"].startswith(TORCHVISION)
    # Those that are published never change, and need not be there before they are asked for.
    content = entry[KEY] if _published(entry) else describe(_file(study, entry))["content"]
    return {
        "maker": KEY,
        "architecture": trained.architecture(entry),
        "shape": list(shape),
        "classes": classes,
        "weights": content,
        "versions": study.compute("train", ("torchvision",) if torchvision else ())["versions"],
    }


def options(study, entry):
    """Return where the file lies, or the folder for what is published, and if it may be fetched."""
    file = f"{study.data_root}/checkpoints" if _published(entry) else _file(study, entry)
    return {"file": file, "download": str(int(study.config["download"]))}


def references(entry):
    """Return the user's module that builds the network, if one does."""
    return trained.references(entry)


def main(job, files):
    """Build the network, give it the weights, and save both as one model."""
    from blindspots.errors import UserError
    from blindspots.models.weight_files import load_strictly, read_weights
    from blindspots.steps.weights import built, code_of_others, reloaded, save_network

    path, spec = job.options["file"], job.spec
    about = {key: spec[key] for key in ("architecture", "shape", "classes")}
    if spec["weights"].startswith(TORCHVISION):
        path, normalize = _fetched(path, job.options["download"] == "1", about, spec["weights"])
        about["architecture"] = {**about["architecture"], "normalize": normalize}
    elif describe(path)["content"] != spec["weights"]:
        raise UserError(
            f"{path} is another file than snakemake saw when it planned this job; leave it alone, "
            "where both see the same, and run again"
        )
    network = built(about, seed=0)
    inner = network.network if "normalize" in about["architecture"] else network
    load_strictly(inner, read_weights(path), path)
    with code_of_others(about["architecture"]["kind"]):
        reloaded(network, about)  # what cannot be read back is refused now
    save_network(files.model, network, job.provenance(network=about))


def _published(entry):
    return entry[KEY].startswith(TORCHVISION)


def _file(study, entry):
    return below(study.data_root, entry[KEY])


def _fetched(folder, download, about, weights):
    """Return the file of published weights, fetched if need be, and the normalisation they need."""
    from blindspots.errors import UserError
    from blindspots.models.published_files import fetched
    from blindspots.models.torchvision_models import published_weights

    name = about["architecture"]["kind"].removeprefix(TORCHVISION)
    published = published_weights(name, weights.removeprefix(TORCHVISION))
    if about["classes"] != published.classes:
        raise UserError(
            f"torchvision's {name} tells {published.classes} classes apart, and the data set has "
            f"{about['classes']}; give classes: {published.classes} and data of these classes"
        )
    return fetched(published.url, folder, download), published.normalize


if __name__ == "__main__":
    from blindspots.steps.job import run

    run(main, reads="", writes="model", options="file download")
