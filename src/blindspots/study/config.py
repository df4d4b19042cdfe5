"""A configuration, checked: every problem in a sentence that says where it is and what to do."""

import sys

from blindspots.chunk import AUTO
from blindspots.data.sources import registry as sources
from blindspots.errors import UserError
from blindspots.models.makers.registry import maker_of
from blindspots.study.checks import cross_problems
from blindspots.study.files import data_root
from blindspots.study.kinds import DEFAULT, KINDS
from blindspots.study.sentences import (
    IN_A_FILE,
    dotted,
    is_no_text,
    problems_below,
    schema_problems,
    shown,
)


def validated(config, schema, reference_files, command_line=None):
    """Check a configuration, fill in the defaults of the schema, and open its data set.

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
    config : dict
        A new configuration with every default filled in.
    facts : blindspots.data.facts.Facts
        Of its data set.

    Raises
    ------
    UserError
        One line for each problem found; or that of a file of the data set that is not what it
        should be.
    """
    config = _in_full(_without_removed(config))
    problems = list(_unplain(config))
    if not problems:
        schema = _composed(schema, config if isinstance(config, dict) else {})
        problems = schema_problems(config, schema, command_line or {})
        # Before the function of a data set is called with them.
        problems = problems or list(_untyped(("dataset",), (command_line or {}).get("dataset")))
    if not problems:
        config = _with_defaults(config, schema, schema)
        problems = _option_problems(config, schema, command_line or {})
        problems = problems or list(_untyped_options(command_line or {}))
        facts = sources.source_of(config["dataset"]).facts(config, data_root(config))
        config.setdefault("chunk", AUTO)
        problems += cross_problems(config, facts, reference_files)
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise UserError(f"the configuration has {count}:\n{lines}")
    return config, facts


def _composed(schema, config):
    """Return the schema of one configuration: the core's, and a fragment for each of its entries.

    Which one, an entry says itself: an experiment by its kind, a model by the key that chooses its
    maker, the data set by its name or the key of its source.
    """
    rules = schema["properties"]
    models = rules["models"]["additionalProperties"]
    experiments = rules["experiments"]["additionalProperties"]
    kinds = {
        **experiments["properties"]["kind"],
        "enum": list(KINDS),
        "default": DEFAULT,
    }
    experiments = _joined(experiments, {"properties": {"kind": kinds}})

    def of_model(entry):
        return _joined(models, maker_of(entry).SCHEMA)

    def of_experiment(entry):
        plan = KINDS.get(str(entry.get("kind", DEFAULT)))
        return _joined(experiments, plan.SCHEMA) if plan else experiments

    composed = {"dataset": {**rules["dataset"], **_of_dataset(config.get("dataset"))}}
    for section, of in (("models", of_model), ("experiments", of_experiment)):
        entries = config.get(section)
        named = entries if isinstance(entries, dict) else {}
        composed[section] = rules[section] | {
            "properties": {n: of(e) for n, e in named.items() if isinstance(e, dict)}
        }
    return {**schema, "properties": {**rules, **composed}}


def _of_dataset(value):
    """Return the schema of the data set: a name, or a mapping with the keys of one source."""
    if not isinstance(value, dict):
        return {"enum": [name for s in sources.SOURCES for name in getattr(s, "NAMES", ())]}
    keyed = [source for source in sources.SOURCES if hasattr(source, "KEY")]
    chosen = next((source.SCHEMA for source in keyed if source.KEY in value), None)
    return {
        "type": "object",
        # Else the keys that choose, so that a mistyped one is told beside them.
        "properties": chosen or {source.KEY: source.SCHEMA[source.KEY] for source in keyed},
        "additionalProperties": False,
        "minProperties": 1,
    }


def _joined(core, fragment):
    """Return the schema of an entry that may have the keys of two; others are refused."""
    return {
        **core,
        **fragment,
        "additionalProperties": False,
        "properties": {**core.get("properties", {}), **fragment.get("properties", {})},
        "required": [*core.get("required", []), *fragment.get("required", [])],
    }


def _without_removed(value):
    """Return a copy without the entries that an overlay removed by setting them to null."""
    if isinstance(value, dict):
        return {key: _without_removed(item) for key, item in value.items() if item is not None}
    return value


def _in_full(config):
    """Return a configuration without what is said in short or by default.

    A data set may be given by a function alone, and the chunk as what it is unless given.
    """
    if not isinstance(config, dict):
        return config
    if config.get("chunk") == AUTO:
        config = {key: value for key, value in config.items() if key != "chunk"}
    dataset = config.get("dataset")
    if isinstance(dataset, str) and ":" in dataset:
        return {**config, "dataset": {"module": dataset}}
    return config


def _unplain(value, place=()):
    """Yield what no JSON can hold: keys that are no text, dates, numbers without an end."""
    where = dotted(place) or "the configuration"
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
            yield f"{where} must be a finite number, not {shown(value)}"
    elif not isinstance(value, str | None):
        yield (
            f"{where} is read as the {type(value).__name__} {value}; put it in quotes if it is text"
        )


def _option_problems(config, schema, command_line):
    """Return what is wrong with options of attacks; each method has a schema of its own."""
    known = schema["$defs"]["options"]
    problems = []
    for name, attack in config["attacks"].items():
        rules = {"$ref": f"#/$defs/options/{attack['method']}"} if attack["method"] in known else {}
        where = ["attacks", name, "options"]
        problems += problems_below(where, attack["options"], rules, schema, command_line)
        for number, member in enumerate(
            attack["options"].get("members", []) if not problems else []
        ):
            if member["method"] in known:
                rules = {"$ref": f"#/$defs/options/{member['method']}"}
                where = ["attacks", name, "options", "members", number, "options"]
                options = member.get("options", {})
                problems += problems_below(where, options, rules, schema, command_line)
    return problems


def _untyped_options(command_line):
    """Yield what is wrong with options of users' own code that ``--config`` made text of."""
    for section in ("models", "attacks"):
        for name, entry in (command_line.get(section) or {}).items():
            yield from _untyped((section, name), entry)


def _untyped(where, entry):
    """Yield what is wrong with the options of one entry of which ``--config`` made text."""
    todo = [((*where, "options"), entry.get("options"))] if isinstance(entry, dict) else []
    while todo:
        place, value = todo.pop()
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            todo += [((*place, key), item) for key, item in items]
        elif is_no_text(value):
            instead = IN_A_FILE.format(key=where[0])
            yield f"{dotted(place)} is the text {shown(value)}{instead}"


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
