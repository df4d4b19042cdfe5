"""How what an artifact was made from differs from what it would be made from now, in words."""

import json


def difference(found, spec, code):
    """Return in words how what an artifact was made from differs from what it would be made from.

    Parameters
    ----------
    found : dict
        Its provenance.
    spec : dict
    code : str
    """
    causes = [*_changes(found["spec"], spec)]
    step, modules, users = _parts(found["code"])
    new_step, new_modules, new_users = _parts(code)
    causes += ["the code of the step"] if step != new_step else []
    changed = [n for n in modules.keys() & new_modules.keys() if modules[n] != new_modules[n]]
    causes += [f"the code of {name.replace('_', ' ')}" for name in sorted(changed)]
    causes += ["your own module"] if users != new_users else []
    return "; ".join(causes)


def _parts(code):
    """Return the fingerprints of a step, of modules that it looks up by name, of users' modules."""
    step, *others = code.split("-")
    modules = dict(part.split("=") for part in others if "=" in part)
    return step, modules, [part for part in others if "=" not in part]


def _changes(old, new, where=""):
    """Yield in words how two specifications differ."""
    for key in sorted({*old, *new}):
        name = f"{where}{key}"
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if name == "upstream" and isinstance(before, dict) and isinstance(now, dict):
            inputs = [*_changed_inputs(before, now)]
            if inputs:
                yield f"changed input: {', '.join(inputs)}"
        elif isinstance(before, dict) and isinstance(now, dict):
            yield from _changes(before, now, f"{name}.")
        elif key not in old:
            yield f"{name} {_text(now)} is new"
        elif key not in new:
            yield f"{name} {_text(before)} is gone"
        elif _names(before) and _names(now) and (added_or_gone := [*_entries(before, now)]):
            yield f"{name}: {', '.join(added_or_gone)}"
        else:
            yield f"{name} {_text(before)} -> {_text(now)}"


def _changed_inputs(old, new, where=""):
    """Yield the inputs that are there before and now, and were made by other jobs."""
    for key in sorted(old.keys() & new.keys()):
        if isinstance(old[key], dict) and isinstance(new[key], dict):
            yield from _changed_inputs(old[key], new[key], f"{key} ")
        elif old[key] != new[key]:
            yield f"{where}{key}"


def _names(value):
    """Tell whether a value is a list of things that have names, not of numbers."""
    return isinstance(value, list) and not any(isinstance(item, int | float) for item in value)


def _entries(old, new):
    yield from (f"{_text(item)} added" for item in new if item not in old)
    yield from (f"{_text(item)} removed" for item in old if item not in new)


def _text(value):
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
