"""Checks of a configuration: every problem in a sentence that says where it is and what to do."""

import difflib
import json
import os
import re
import sys

import yaml

from blindspots.data.catalogue import BASES, CATALOGUE
from blindspots.errors import UserError

RESERVED = ("clean", "noise")  # rows of the transfer table that have no source model
# Columns of tables beside those of the victims, and the column that tells the rows apart.
COLUMNS = ("distorted_for", "distortion", "stddev", "mean_distortion", "attacked", "failures")
ROW_NAMES = {"models": "model", "matrix": "distorted_for", "levels": "distortion"}
IN_A_FILE = (
    "; --config takes single numbers, True, False and text, and makes text of all within brackets "
    "and braces: write {key} into a YAML file, and name that behind --configfile"
)
ARCHITECTURE_KEYS = {
    "softmax": (),
    "mlp": ("widths", "activation"),
    "autoencoder": ("units", "pretraining"),
    "conv": ("channels", "units"),
}


def validated(config, schema, reference_files, command_line=None):
    """Check a configuration and fill in the defaults of the schema.

    Parameters
    ----------
    config : dict
        As Snakemake merged it from files and command line.
    schema : dict
        JSON schema of the configuration.
    reference_files : dict of str to list of str
        Names of the files with printed numbers, and the columns of each.
    command_line : dict, optional
        The part that was given by ``--config``, which makes text of most that is not text.

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
    problems = list(_unplain(config)) or _schema_problems(config, schema, command_line or {})
    if not problems:
        config = _with_defaults(config, schema, schema)
        problems = _option_problems(config, schema, command_line or {})
        problems = problems or list(_untyped_options(command_line or {}))
        problems += _cross_problems(config, reference_files)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise UserError(f"the configuration has {count}:\n{lines}")
    return config


def refuse_repeated_keys(path, text):
    """Raise UserError if a file gives a key twice: of its two values one would be lost.

    Parameters
    ----------
    path : path-like
    text : str
        What stands in the file, which Snakemake reads as JSON or, if it is none, as YAML, whatever
        its name.
    """
    try:
        repeated = _repeated_in_json(json.loads(text, object_pairs_hook=_Pairs))
    except ValueError:
        repeated = _repeated_in_yaml(yaml.compose(text))
    for where in repeated:
        raise UserError(f"{path}{where} is given a second time; rename or remove one of the two")


def refuse_odd_path(path):
    """Raise UserError if steps could not be started from a folder, for what its path holds."""
    text = str(path)
    for characters, what in {
        "{}": "braces, which Snakemake takes for wildcards",
        os.pathsep: "a colon, at which PATH and PYTHONPATH are cut",
    }.items():
        if set(characters) & set(text):
            raise UserError(f"{text} holds {what}; rename it")
    try:
        text.encode()
    except UnicodeEncodeError:  # which the message could not show either
        raise UserError(f"{text!r} holds bytes that are not UTF-8; rename it") from None


def refuse_other_name(path, name):
    """Raise UserError unless a file of ``studies/`` gives its study the name that the file has.

    By the file's name `make` asks for a study and knows the folder of its results.

    Parameters
    ----------
    path : pathlib.Path
    name : object
        The value of ``study`` in the file, or None.
    """
    if name is None:
        raise UserError(
            f"{path} does not name its study, which would overwrite another one; "
            f"write `study: {path.stem}` in it"
        )
    if name != path.stem:
        raise UserError(
            f"{path} names its study {_shown(name)}; write `study: {path.stem}` in it, or give the "
            "file that name"
        )


def data_root(config):
    """Return the folder of the data sets: BLINDSPOTS_DATA if it is set, else ``data_root``.

    Of either, ``~`` is the home folder, and what is relative lies below the working directory.

    Raises
    ------
    UserError
        If it is no path on this machine.
    """
    variable = os.environ.get("BLINDSPOTS_DATA")
    name, given = ("BLINDSPOTS_DATA", variable) if variable else ("data_root", config["data_root"])
    root = os.path.expanduser(given)
    if root.startswith("~"):
        user = root.partition("/")[0]
        raise UserError(
            f"{name}: {user} is nobody's home folder here; write ./{user} for a folder of that name"
        )
    try:
        root.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name}: {given!r} is not UTF-8; rename the folder") from None
    if re.search(r"[\x00-\x1f\x7f]", root):
        raise UserError(f"{name}: {given!r} must be one line, without control characters")
    return f"./{root}" if root.startswith("-") else root  # which would be taken for an option


class _Pairs(list):
    """The entries of a JSON object, among which a key may stand twice."""


def _repeated_in_json(document):
    """Yield where a JSON document gives a key for the second time."""
    todo = [((), document)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, _Pairs):
            names = set()
            for name, item in value:
                if name in names:
                    yield f": {_dotted((*place, name))}"
                names.add(name)
                todo.append(((*place, name), item))
        elif isinstance(value, list):
            todo += [((*place, number), item) for number, item in enumerate(value)]


def _repeated_in_yaml(document):
    """Yield where a YAML document, a node or None, gives a key for the second time."""
    todo, seen = [((), document)] if document else [], set()
    while todo:
        place, node = todo.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if node.id == "sequence":
            todo += [((*place, number), item) for number, item in enumerate(node.value)]
        elif node.id == "mapping":
            names = set()
            for key, value in node.value:
                name = str(key.value)
                if name in names:
                    yield f", line {key.start_mark.line + 1}: {_dotted((*place, name))}"
                names.add(name)
                todo.append(((*place, name), value))


def _without_removed(value):
    """Return a copy without the entries that an overlay removed by setting them to null."""
    if isinstance(value, dict):
        return {key: _without_removed(item) for key, item in value.items() if item is not None}
    return value


def _unplain(value, place=()):
    """Yield what no JSON can hold: keys that are no text, dates, numbers without an end."""
    where = _dotted(place) or "the configuration"
    if len(place) > 30:  # an alias of itself has no end
        yield f"{where} is nested too deeply"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{where}: the key {key!r} is not text; put it in quotes"
            yield from _unplain(item, (*place, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unplain(item, (*place, number))
    elif isinstance(value, int | float):
        if not abs(value) <= sys.float_info.max:  # true of NaN too
            yield f"{where} must be a finite number, not {_shown(value)}"
    elif not isinstance(value, str | None):
        yield (
            f"{where} is read as the {type(value).__name__} {value}; put it in quotes if it is text"
        )


def _errors(value, schema):
    """Return the errors that a schema finds; unlike in JSON schema, 2.0 is no whole number."""
    from jsonschema import Draft202012Validator, validators

    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return validators.extend(Draft202012Validator, type_checker=types)(schema).iter_errors(value)


def _schema_problems(config, schema, command_line):
    errors = _errors(config, schema)
    ordered = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    # The validator reports each missing key with the list of all that are required.
    sentences = [sentence for error in ordered for sentence in _sentences(error, command_line)]
    return list(dict.fromkeys(sentences))


def _instead(place, value, wanted, command_line):
    """Return what to write instead of a value of another type that came from ``--config``."""
    given = command_line
    for part in place:
        try:
            given = given[part]
        except (KeyError, IndexError, TypeError):
            return ""  # it stands in a file
    if given != value:
        return ""
    key = place[0]
    if len(place) == 1 and wanted == "boolean":
        return f"; on the command line write {key}=True or {key}=False"
    if len(place) == 1 and value in ("null", "~"):
        return f"; on the command line write {key}= with nothing behind it"
    if len(place) > 1 or wanted in ("string", "array", "object") or _is_no_text(value):
        return IN_A_FILE.format(key=key)
    return ""


def _untyped_options(command_line):
    """Yield what is wrong with options of users' own code that ``--config`` made text of."""
    for section in ("models", "attacks"):
        for name, entry in (command_line.get(section) or {}).items():
            todo = [((section, name, "options"), (entry or {}).get("options"))]
            while todo:
                place, value = todo.pop()
                if isinstance(value, dict | list):
                    items = value.items() if isinstance(value, dict) else enumerate(value)
                    todo += [((*place, key), item) for key, item in items]
                elif _is_no_text(value):
                    instead = IN_A_FILE.format(key=section)
                    yield f"{_dotted(place)} is the text {_shown(value)}{instead}"


def _is_no_text(value):
    """Tell whether a value is text that YAML reads as something else, such as a number."""
    try:
        return isinstance(value, str) and not isinstance(yaml.safe_load(value), str)
    except yaml.YAMLError:
        return False


def _option_problems(config, schema, command_line):
    """Return what is wrong with options of attacks; each method has a schema of its own."""
    known = schema["$defs"]["options"]
    problems = []
    for name, attack in config["attacks"].items():
        rules = {"$ref": f"#/$defs/options/{attack['method']}"} if attack["method"] in known else {}
        where = ["attacks", name, "options"]
        problems += _below(where, attack["options"], rules, schema, command_line)
        for number, member in enumerate(
            attack["options"].get("members", []) if not problems else []
        ):
            if member["method"] in known:
                rules = {"$ref": f"#/$defs/options/{member['method']}"}
                where = ["attacks", name, "options", "members", number, "options"]
                options = member.get("options", {})
                problems += _below(where, options, rules, schema, command_line)
    return problems


def _below(where, value, rules, schema, command_line):
    """Return what a schema says of a value that lies somewhere below the top."""
    sentences = []
    for error in _errors(value, {"$defs": schema["$defs"], **rules}):
        error.path.extendleft(reversed(where))
        sentences += _sentences(error, command_line)
    return sentences


def _sentences(error, command_line):
    """Turn an error of the schema validator into sentences."""
    where = _dotted(error.absolute_path) or "the configuration"
    value, rule, expected = error.instance, error.validator, error.validator_value
    # An alternative is told by the one that the value comes nearest to.
    if rule == "anyOf":
        nested = [e for e in error.context if len(e.relative_path)] or error.context
        if ":" in str(value):
            nested = [e for e in nested if e.validator == "pattern"] or nested
        yield from _sentences(nested[0], command_line)
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
        hint += _instead(error.absolute_path, value, expected, command_line)
        yield f"{where} must be a number, not the text {_shown(value)}{hint}"
    elif rule == "type":
        names = {
            "object": "a mapping",
            "array": "a list",
            "string": "text",
            "boolean": "true or false",
        }
        names |= {"number": "a number", "integer": "a whole number"}
        hint = _instead(error.absolute_path, value, expected, command_line)
        yield f"{where} must be {names[expected]}, not {_shown(value)}{hint}"
    elif rule == "enum":
        known = ", ".join(map(str, expected))
        yield f"{where} is {_shown(value)}; known: {known}{nearest(value, expected)}"
    elif rule == "pattern":
        yield f"{where}: {_shown(value)} {error.schema['title']}"
    elif rule == "maxLength":
        yield f"{where}: {_shown(value)} is longer than {expected} characters"
    elif rule in ("minItems", "minProperties", "minLength"):
        yield (
            f"{where} is empty; give at least {expected}"
            if not value
            else f"{where} needs at least {expected} entries, not {len(value)}"
        )
    elif rule == "maxItems":
        yield f"{where} takes at most {expected} entries, not {len(value)}"
    elif rule == "uniqueItems":
        yield f"{where} names something twice: {_shown(value)}"
    elif rule in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        words = {
            "minimum": "at least",
            "exclusiveMinimum": "above",
            "maximum": "at most",
            "exclusiveMaximum": "below",
        }
        yield f"{where} must be {words[rule]} {expected}, not {_shown(value)}"
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

    for where, names in {
        "models": models,
        "splits.parts": splits,
        "attacks": attacks,
        "experiments": experiments,
        "tables": config["tables"],
        "figures.examples": config["figures"]["examples"],
    }.items():
        kept = {}
        for name in names:
            other = kept.setdefault(name.lower(), name)
            if other != name:
                yield (
                    f"{where}: {other} and {name} differ only in upper and lower case, which some "
                    "disks do not tell apart; rename one"
                )

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
            continue
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
        if name.lower() in RESERVED:
            yield f"{where}: the name is taken by rows without a source; choose another"
        yield from unknown(f"{where}.split", "split", model["split"], splits)
        kind = model["architecture"]
        allowed = ARCHITECTURE_KEYS.get(kind, ("options",))
        for key in sorted({k for keys in ARCHITECTURE_KEYS.values() for k in keys} | {"options"}):
            if key in model and key not in allowed:
                yield f"{where}.{key} does not go with architecture {kind}"
        needed = {
            "mlp": ["widths"],
            "autoencoder": ["units", "pretraining"],
            "conv": ["channels", "units"],
        }.get(kind, [])
        missing = [key for key in needed if key not in model]
        for key in missing:
            yield f"{where}.{key} is missing: architecture {kind} needs it"
        decays = model["weight_decay"]
        layers = {
            "softmax": 1,
            "autoencoder": 1,
            "mlp": len(model.get("widths", [])) + 1,
            "conv": len(model.get("channels", [])) + 2,
        }.get(kind)
        known = layers and not missing
        if known and isinstance(decays, list) and len(decays) not in (1, layers):
            yield f"{where}.weight_decay lists {len(decays)} numbers for {layers} trained layers"
        side = CATALOGUE[config["dataset"]].side
        if kind == "conv" and side >> len(model.get("channels", [])) == 0:
            yield f"{where}.channels: {side}x{side} images cannot be halved so often"

    labels = {}
    for name, model in models.items():
        label = model.get("label", name)
        if label in labels:
            yield f"models.{name}.label: {label!r} is the label of {labels[label]} too"
        if label.replace(" ", "_") in COLUMNS or label.endswith("_printed"):
            yield f"models.{name}.label: {label!r} is a column of the tables; choose another label"
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
        for key in ("amplify", "noise"):
            for level in experiment[key]:
                if float(f"{level:g}") != level:
                    yield (
                        f"{where}.{key}: level {level!r} has more than the six digits that names "
                        "hold; round it"
                    )

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
            file, column = table["printed"], ROW_NAMES[table["kind"]]
            yield from unknown(
                f"{where}.printed", "file in workflow/reference", file, reference_files
            )
            if file in reference_files and column not in reference_files[file]:
                yield (
                    f"{where}.printed: {file} has no column {column}, so it is no table of kind "
                    f"{table['kind']}"
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


def _shown(value):
    """Return a value as text for a sentence: shortened, for it may be of any length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:70]}..."


def _dotted(path):
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}" if text else _key(part)
    return text


def _joined(where, key):
    return _key(key) if where == "the configuration" else f"{where}.{_key(key)}"


def _key(key):
    """Return a key as it is or, where it would not be seen for what it is, in quotes."""
    return key if re.fullmatch(r"[\w-]{1,64}", key) else _shown(key)
