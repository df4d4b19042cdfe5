"""Models that are trained on a split of the data set, from weights that are drawn."""

KEY = None
MODULE = "blindspots.steps.train_model"

WIDTH = {"type": "integer", "minimum": 1, "maximum": 100000}
POSITIVE = {"type": "number", "exclusiveMinimum": 0}
SCHEMA = {
    "description": "A model",
    "type": "object",
    "required": ["architecture", "split"],
    "properties": {
        "architecture": {
            "description": "softmax, mlp, autoencoder, conv, tiny_darknet, or "
            "module:factory on the Python path",
            "$ref": "#/$defs/architecture",
        },
        "widths": {
            "description": "Units of the hidden layers of an mlp",
            "type": "array",
            "minItems": 1,
            "items": WIDTH,
        },
        "activation": {
            "description": "Activation of the hidden layers of an mlp",
            "enum": ["sigmoid", "relu", "tanh"],
        },
        "units": {
            "description": "Units of the code of an autoencoder, or of the last hidden layer of a "
            "conv",
            **WIDTH,
        },
        "channels": {
            "description": "Filters of the convolutional layers of a conv",
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {"type": "integer", "minimum": 1, "maximum": 4096},
        },
        "options": {"description": "Keyword arguments for a user's factory", "type": "object"},
        "split": {"description": "Split that the model is trained on", "$ref": "#/$defs/id"},
        "weight_decay": {
            "description": "Lambda of the quadratic decay of connection weights",
            "$ref": "#/$defs/decay",
            "default": 0,
        },
        "training": {
            "description": "What differs from the study's training",
            "$ref": "#/$defs/training",
            "default": {},
        },
        "pretraining": {
            "description": "Training of the code of an autoencoder",
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "sparsity_target": {
                    "description": "Mean activation that each unit is drawn to",
                    **POSITIVE,
                    "exclusiveMaximum": 1,
                    "default": 0.1,
                },
                "sparsity_weight": {
                    "description": "Weight of the sparsity penalty",
                    "type": "number",
                    "minimum": 0,
                    "default": 3.0,
                },
                "weight_decay": {
                    "description": "Lambda of the decay of the code's and the decoder's weights",
                    "type": "number",
                    "minimum": 0,
                    "default": 0.003,
                },
                "max_evaluations": {"$ref": "#/$defs/max_evaluations", "default": 160},
                "history": {"$ref": "#/$defs/history", "default": 100},
                "tolerance": {"$ref": "#/$defs/tolerance", "default": 0.0001},
            },
        },
    },
}
# Keys of an entry that go with an architecture, and those of them that it needs.
ARCHITECTURE_KEYS = {
    "softmax": (),
    "mlp": ("widths", "activation"),
    "autoencoder": ("units", "pretraining"),
    "conv": ("channels", "units"),
    "tiny_darknet": (),
}
NEEDED = {
    "mlp": ("widths",),
    "autoencoder": ("units", "pretraining"),
    "conv": ("channels", "units"),
}
OPTIMIZER_KEYS = {
    "lbfgs": ("preconditioner", "max_evaluations", "history", "tolerance"),
    "adam": ("epochs", "batch_size", "learning_rate"),
    "sgd": ("epochs", "batch_size", "learning_rate", "momentum"),
}


def takes(entry, facts):
    """Return the shape of the images that a model takes, and the number of its classes."""
    return facts.shape, facts.classes


def seeded(entry):
    """Tell whether a model is made anew for every seed: its first weights are drawn."""
    return True


def differentiable(entry):
    """Tell whether a model has layers and gradients: a network does."""
    return True


def problems(where, entry, config, facts):
    """Yield what is wrong with an entry, in sentences."""
    kind = entry["architecture"]
    yield from architecture_problems(where, entry, facts.shape)
    decays = entry["weight_decay"]
    layers = {
        "softmax": 1,
        "autoencoder": 1,
        "mlp": len(entry.get("widths", [])) + 1,
        "conv": len(entry.get("channels", [])) + 2,
    }.get(kind)
    known = layers and all(key in entry for key in NEEDED.get(kind, ()))
    if known and isinstance(decays, list) and len(decays) not in (1, layers):
        yield f"{where}.weight_decay lists {len(decays)} numbers for {layers} trained layers"


def architecture_problems(where, entry, shape):
    """Yield what is wrong with the architecture of an entry, for images of a shape (C, H, W)."""
    kind = entry["architecture"]
    allowed = ARCHITECTURE_KEYS.get(kind, ("options",))
    for key in sorted({k for keys in ARCHITECTURE_KEYS.values() for k in keys} | {"options"}):
        if key in entry and key not in allowed:
            yield f"{where}.{key} does not go with architecture {kind}"
    for key in NEEDED.get(kind, ()):
        if key not in entry:
            yield f"{where}.{key} is missing: architecture {kind} needs it"
    _, height, width = shape
    if kind == "conv" and min(height, width) >> len(entry.get("channels", [])) == 0:
        yield f"{where}.channels: {height}x{width} images cannot be halved so often"


def architecture(entry):
    """Return the description of an architecture, as `blindspots.models.networks` takes it."""
    described = {"kind": entry["architecture"]}
    for key in ("widths", "units", "channels", "options"):
        if key in entry:
            described[key] = entry[key]
    if entry["architecture"] == "mlp":
        described["activation"] = entry.get("activation", "sigmoid")
    if "normalize" in entry:
        described["normalize"] = entry["normalize"]
    return described


def inputs(study, entry, seed):
    """Return the jobs that a model builds on."""
    return {"data": study.job("prepare_data")}


def settings(study, entry, seed):
    """Return what else determines the bytes of a model."""
    given = {**study.config["training"], **entry["training"]}
    kept = ("optimizer", "weight_decay_convention", *OPTIMIZER_KEYS[given["optimizer"]])
    training = {key: given[key] for key in kept}
    decay = entry["weight_decay"]
    training["weight_decay"] = [float(d) for d in (decay if isinstance(decay, list) else [decay])]
    if entry["architecture"] == "autoencoder":
        chosen = {"preconditioner": given["preconditioner"]}
        training["pretraining"] = {**chosen, **entry["pretraining"]}
    return {
        "architecture": architecture(entry),
        "training": training,
        "split": study.split(entry["split"]),
        "seed": seed,
        **study.compute("train"),
    }


def options(study, entry):
    """Return what the step is told besides: nothing."""
    return {}


def references(entry):
    """Return the user's module that builds the network, if one does."""
    kind = entry["architecture"]
    return (kind,) if ":" in kind and not kind.startswith("torchvision:") else ()
