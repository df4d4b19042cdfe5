"""What a JSON schema finds wrong with a configuration, in sentences."""

import difflib
import re

import yaml

IN_A_FILE = (
    "; --config takes single numbers, True, False and text, and makes text of all within brackets "
    "and braces: write {key} into a YAML file, and name that behind --configfile"
)


def nearest(name, known):
    """Return `` (did you mean ...?)`` for the known name nearest to a mistyped one, or nothing."""
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {found[0]}?)" if found else ""


def unknown(where, kind, name, known):
    """Yield a sentence if a name is not among those that are known."""
    if name not in known:
        yield f"{where}: there is no {kind} {name!r}{nearest(name, known)}"


def shown(value):
    """Return a value as text for a sentence: shortened, for it may be of any length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:70]}..."


def dotted(path):
    """Return where a value stands in a configuration, as one writes it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}" if text else _key(part)
    return text


def _joined(where, key):
    return _key(key) if where == "the configuration" else f"{where}.{_key(key)}"


def _key(key):
    """Return a key as it is or, where it would not be seen for what it is, in quotes."""
    return key if re.fullmatch(r"[\w-]{1,64}", key) else shown(key)


def _errors(value, schema):
    """Return the errors that a schema finds; unlike in JSON schema, 2.0 is no whole number."""
    from jsonschema import Draft202012Validator, validators

    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return validators.extend(Draft202012Validator, type_checker=types)(schema).iter_errors(value)


def schema_problems(config, schema, command_line):
    """Return what a schema says of a whole configuration."""
    errors = _errors(config, schema)
    ordered = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    # The validator reports each missing key with the list of all that are required.
    sentences = [sentence for error in ordered for sentence in _sentences(error, command_line)]
    return list(dict.fromkeys(sentences))


def problems_below(where, value, rules, schema, command_line):
    """Return what a schema says of a value that lies somewhere below the top."""
    sentences = []
    for error in _errors(value, {"$defs": schema["$defs"], **rules}):
        error.path.extendleft(reversed(where))
        sentences += _sentences(error, command_line)
    return sentences


def _sentences(error, command_line):
    """Turn an error of the schema validator into sentences."""
    where = dotted(error.absolute_path) or "the configuration"
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
            number = mantissa if "." in mantissa else f"{mantissa}.0"
            sign = "" if exponent[0] in "+-" else "+"
            hint = f"; YAML reads {value} as text, write {number}e{sign}{exponent}"
        hint += _instead(error.absolute_path, value, expected, command_line)
        yield f"{where} must be a number, not the text {shown(value)}{hint}"
    elif rule == "type":
        names = {
            "object": "a mapping",
            "array": "a list",
            "string": "text",
            "boolean": "true or false",
        }
        names |= {"number": "a number", "integer": "a whole number"}
        hint = _instead(error.absolute_path, value, expected, command_line)
        yield f"{where} must be {names[expected]}, not {shown(value)}{hint}"
    elif rule == "enum":
        known = ", ".join(map(str, expected))
        yield f"{where} is {shown(value)}; known: {known}{nearest(value, expected)}"
    elif rule == "pattern":
        yield f"{where}: {shown(value)} {error.schema['title']}"
    elif rule == "maxLength":
        yield f"{where}: {shown(value)} is longer than {expected} characters"
    elif rule in ("minItems", "minProperties", "minLength"):
        yield (
            f"{where} is empty; give at least {expected}"
            if not value
            else f"{where} needs at least {expected} entries, not {len(value)}"
        )
    elif rule == "maxItems":
        yield f"{where} takes at most {expected} entries, not {len(value)}"
    elif rule == "uniqueItems":
        yield f"{where} names something twice: {shown(value)}"
    elif rule in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        words = {
            "minimum": "at least",
            "exclusiveMinimum": "above",
            "maximum": "at most",
            "exclusiveMaximum": "below",
        }
        yield f"{where} must be {words[rule]} {expected}, not {shown(value)}"
    else:
        yield f"{where}: {error.message}"


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
    if len(place) > 1 or wanted in ("string", "array", "object") or is_no_text(value):
        return IN_A_FILE.format(key=key)
    return ""


def is_no_text(value):
    """Tell whether a value is text that YAML reads as something else, such as a number."""
    try:
        return isinstance(value, str) and not isinstance(yaml.safe_load(value), str)
    except yaml.YAMLError:
        return False
