"""Checks of a configuration: every problem in a sentence that says where it is and what to do."""

import difflib
import re

from blindspots.data.catalogue import BASES, CATALOGUE
from blindspots.errors import UserError

RESERVED = ("clean", "noise")  # rows of the transfer table that have no source model
ARCHITECTURE_KEYS = {
    "softmax": (),
    "mlp": ("widths", "activation"),
    "autoencoder": ("units", "pretraining"),
    "conv": ("channels", "units"),
}


def validated(config, schema, reference_files):
    """Check a configuration and fill in the defaults of the schema.

    Parameters
    ----------
    config : dict
        As Snakemake merged it from files and command line.
    schema : dict
        JSON schema of the configuration.
    reference_files : collection of str
        Names of the files with printed numbers.

    Returns
    -------
    dict
        A new configuration with every default filled in.

    Raises
    ------
    UserError
        One line for each problem found.
    """
    config = _without_removed(config)
    problems = _schema_problems(config, schema)
    if not problems:
        config = _with_defaults(config, schema, schema)
        problems = _option_problems(config, schema)
        problems += _cross_problems(config, reference_files)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise UserError(f"the configuration has {count}:\n{lines}")
    return config


def _without_removed(value):
    """Return a copy without the entries that an overlay removed by setting them to null."""
    if isinstance(value, dict):
        return {key: _without_removed(item) for key, item in value.items() if item is not None}
    return value


def _schema_problems(config, schema):
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema).iter_errors(config)
    ordered = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    # The validator reports each missing key with the list of all that are required.
    sentences = [sentence for error in ordered for sentence in _sentences(error, schema)]
    return list(dict.fromkeys(sentences))


def _option_problems(config, schema):
    """Return what is wrong with options of attacks; each method has a schema of its own."""
    known = schema["$defs"]["options"]
    problems = []
    for name, attack in config["attacks"].items():
        rules = {"$ref": f"#/$defs/options/{attack['method']}"} if attack["method"] in known else {}
        problems += _below(["attacks", name, "options"], attack["options"], rules, schema)
        for number, member in enumerate(
            attack["options"].get("members", []) if not problems else []
        ):
            if member["method"] in known:
                rules = {"$ref": f"#/$defs/options/{member['method']}"}
                where = ["attacks", name, "options", "members", number, "options"]
                problems += _below(where, member.get("options", {}), rules, schema)
    return problems


def _below(where, value, rules, schema):
    """Return what a schema says of a value that lies somewhere below the top."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator({"$defs": schema["$defs"], **rules})
    sentences = []
    for error in validator.iter_errors(value):
        error.path.extendleft(reversed(where))
        sentences += _sentences(error, schema)
    return sentences


def _sentences(error, schema):
    """Turn an error of the schema validator into sentences."""
    where = _dotted(error.absolute_path) or "the configuration"
    value, rule, expected = error.instance, error.validator, error.validator_value
    # An alternative of types is told by the one that fits the value's own type best.
    if rule == "anyOf":
        nested = [e for e in error.context if len(e.relative_path)] or error.context
        yield from _sentences(nested[0], schema)
    elif rule == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in value:
            if key not in known:
                yield f"{_joined(where, key)} is not a known key{nearest(key, known)}"
    elif rule == "required":
        for key in expected:
            if key not in value:
                yield f"{_joined(where, key)} is missing"
    elif rule == "type" and isinstance(value, str) and expected in ("number", "integer"):
        hint = ""
        if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value):
            mantissa, _, exponent = value.lower().partition("e")
            dotted = mantissa if "." in mantissa else f"{mantissa}.0"
            sign = "" if exponent[0] in "+-" else "+"
            hint = f"; YAML reads {value} as text, write {dotted}e{sign}{exponent}"
        yield f"{where} must be a number, not the text {value!r}{hint}"
    elif rule == "type":
        names = {
            "object": "a mapping",
            "array": "a list",
            "string": "text",
            "boolean": "true or false",
        }
        names |= {"number": "a number", "integer": "a whole number"}
        yield f"{where} must be {names[expected]}, not {value!r}"
    elif rule == "enum":
        known = ", ".join(map(str, expected))
        yield f"{where} is {value!r}; known: {known}{nearest(value, expected)}"
    elif rule == "pattern":
        yield (
            f"{where}: {value!r} may hold only letters, digits, '-' and '_' and must start with a "
            "letter"
            if "/" not in expected and expected.startswith("^[A-Za-z][")
            else f"{where}: {value!r} does not have the form {expected}"
        )
    elif rule in ("minItems", "minProperties", "minLength"):
        yield (
            f"{where} is empty; give at least {expected}"
            if not value
            else f"{where} needs at least {expected} entries, not {len(value)}"
        )
    elif rule == "maxItems":
        yield f"{where} takes at most {expected} entries, not {len(value)}"
    elif rule == "uniqueItems":
        yield f"{where} names something twice: {value}"
    elif rule in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        words = {
            "minimum": "at least",
            "exclusiveMinimum": "above",
            "maximum": "at most",
            "exclusiveMaximum": "below",
        }
        yield f"{where} must be {words[rule]} {expected}, not {value}"
    else:
        yield f"{where}: {error.message}"


def _with_defaults(value, schema, root):
    """Return a copy of a value with the defaults of its schema filled in."""
    schema = _resolved(schema, root)
    if isinstance(value, dict):
        properties = {k: _resolved(v, root) for k, v in schema.get("properties", {}).items()}
        filled = {key: rule["default"] for key, rule in properties.items() if "default" in rule}
        other = schema.get("additionalProperties") or {}
        return {
            key: _with_defaults(item, properties.get(key, other), root)
            for key, item in {**filled, **value}.items()
        }
    if isinstance(value, list):
        return [_with_defaults(item, schema.get("items", {}), root) for item in value]
    return value


def _resolved(schema, root):
    """Return a schema with what it refers to merged in; its own keys win."""
    if "$ref" not in schema:
        return schema
    target = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    target = _resolved(target, root)
    properties = {
        key: {**target.get("properties", {}).get(key, {}), **rule}
        for key, rule in schema.get("properties", {}).items()
    }
    merged = {**target, **{key: rule for key, rule in schema.items() if key != "$ref"}}
    if "properties" in target:
        merged["properties"] = {**target["properties"], **properties}
    return merged


def _cross_problems(config, reference_files):
    """Yield what is wrong between keys."""
    models, attacks = config["models"], config["attacks"]
    experiments, parts = config["experiments"], config["splits"]["parts"]
    splits = [*BASES, *parts]

    def unknown(where, kind, name, known):
        if name not in known:
            yield f"{where}: there is no {kind} {name!r}{nearest(name, known)}"

    for name in BASES:
        if name in parts:
            yield f"splits.parts.{name}: the name of a base set is taken"
    sizes = CATALOGUE[config["dataset"]].sizes
    intervals = {}
    for name, part in parts.items():
        where = f"splits.parts.{name}"
        if ("share" in part) == ("range" in part):
            yield f"{where} needs either share or range"
            continue
        size = sizes[part["of"]]
        start, stop = part.get("range") or [round(edge * size) for edge in part["share"]]
        if not start < stop <= size:
            yield f"{where}: it must start before it ends, within the {size} images of {part['of']}"
        intervals[name] = (part["of"], start, stop)
    intervals |= {base: (base, 0, size) for base, size in sizes.items()}
    for number, group in enumerate(config["splits"]["disjoint"]):
        where = f"splits.disjoint[{number}]"
        for name in group:
            yield from unknown(where, "split", name, splits)
        chosen = [(n, *intervals[n]) for n in group if n in intervals]
        for index, (one, base, start, stop) in enumerate(chosen):
            for other, other_base, other_start, other_stop in chosen[index + 1 :]:
                shared = min(stop, other_stop) - max(start, other_start)
                if base == other_base and shared > 0:
                    yield (
                        f"{where}: {one} and {other} share {shared} images of {base}; change their "
                        "share or range, or take the pair out of disjoint"
                    )

    for name, model in models.items():
        where = f"models.{name}"
        if name in RESERVED:
            yield f"{where}: the name is taken by rows without a source; choose another"
        yield from unknown(f"{where}.split", "split", model["split"], splits)
        kind = model["architecture"]
        allowed = ARCHITECTURE_KEYS.get(kind, ("options",))
        for key in sorted({k for keys in ARCHITECTURE_KEYS.values() for k in keys} | {"options"}):
            if key in model and key not in allowed:
                yield f"{where}.{key} does not go with architecture {kind}"
        for key in {
            "mlp": ["widths"],
            "autoencoder": ["units", "pretraining"],
            "conv": ["channels", "units"],
        }.get(kind, []):
            if key not in model:
                yield f"{where}.{key} is missing: architecture {kind} needs it"
        decays = model["weight_decay"]
        layers = {
            "softmax": 1,
            "autoencoder": 1,
            "mlp": len(model.get("widths", [])) + 1,
            "conv": len(model.get("channels", [])) + 2,
        }.get(kind)
        if isinstance(decays, list) and layers and len(decays) not in (1, layers):
            yield f"{where}.weight_decay lists {len(decays)} numbers for {layers} trained layers"
        side = CATALOGUE[config["dataset"]].side
        if kind == "conv" and side >> len(model.get("channels", [])) == 0:
            yield f"{where}.channels: {side}x{side} images cannot be halved so often"

    labels = {}
    for name, model in models.items():
        label = model.get("label", name)
        if label in labels:
            yield f"models.{name}.label: {label!r} is the label of {labels[label]} too"
        labels[label] = name

    classes = CATALOGUE[config["dataset"]].classes
    for name, attack in attacks.items():
        where = f"attacks.{name}"
        yield from unknown(f"{where}.images", "split", attack["images"], splits)
        given = attack.get("given")
        if (attack["targets"] == "given") != (given is not None):
            yield f"{where}: targets given and the list given go together"
        elif given is not None and (
            len(given) != classes or any(t >= classes or t == i for i, t in enumerate(given))
        ):
            yield f"{where}.given must name another class for each of the {classes} classes"

    for name, experiment in experiments.items():
        where = f"experiments.{name}"
        yield from unknown(f"{where}.attack", "attack", experiment["attack"], attacks)
        for key in ("sources", "victims"):
            for model in experiment.get(key, []):
                yield from unknown(f"{where}.{key}", "model", model, models)
        for split in experiment["clean"]:
            yield from unknown(f"{where}.clean", "split", split, splits)

    for name, table in config["tables"].items():
        where = f"tables.{name}"
        yield from unknown(f"{where}.experiment", "experiment", table["experiment"], experiments)
        if table["experiment"] in experiments:
            experiment = experiments[table["experiment"]]
            for key in ("amplify", "noise"):
                for level in table[key]:
                    if level not in experiment[key]:
                        yield (
                            f"{where}.{key}: level {level:g} is not among those of experiment "
                            f"{table['experiment']}; add it there"
                        )
        if "printed" in table:
            yield from unknown(
                f"{where}.printed", "file in workflow/reference", table["printed"], reference_files
            )

    sets = {(e["attack"], source) for e in experiments.values() for source in e["sources"]}
    for name, grid in config["figures"]["examples"].items():
        where = f"figures.examples.{name}"
        if set(grid) == {"attack", "source"}:
            yield from unknown(f"{where}.attack", "attack", grid["attack"], attacks)
            yield from unknown(f"{where}.source", "model", grid["source"], models)
            known = grid["attack"] in attacks and grid["source"] in models
            if known and (grid["attack"], grid["source"]) not in sets:
                yield f"{where}: no experiment attacks {grid['source']} with {grid['attack']}"
        elif set(grid) == {"images", "noise"}:
            yield from unknown(f"{where}.images", "split", grid["images"], splits)
        else:
            yield f"{where} needs either attack and source, or images and noise"


def nearest(name, known):
    """Return `` (did you mean ...?)`` for the known name nearest to a mistyped one, or nothing."""
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {found[0]}?)" if found else ""


def _dotted(path):
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _joined(where, key):
    return str(key) if where == "the configuration" else f"{where}.{key}"
