"""Jobs of data, models and adversarial sets, on which every kind of experiment builds."""

from blindspots.artifacts import canonical_json
from blindspots.models.makers.registry import maker_of
from blindspots.parts import part_spec
from blindspots.study.jobs import Job, makes, table
from blindspots.study.libraries import PEERS, TABLES, peer_versions, versions

SET = "adversarial/{model}/seed{seed}/{attack}.safetensors"


@makes(data="data.safetensors")
def prepare_data(study):
    """The data set: pixels and labels of both base sets."""
    source, dataset = study.source, study.config["dataset"]
    named = dataset if isinstance(dataset, str) else source.KEY
    content = study.facts.content
    settings = {"dataset": named, "versions": versions(source.PACKAGES)}
    users = getattr(source, "references", None)
    return Job(
        module=source.__name__,
        settings=settings | ({"content": content} if content else {}),
        options=source.options(study.config, study.data_root),
        references=users(study.config) if users else (),
    )


@makes(model="models/{model}/seed{seed}.safetensors")
def train_model(study, model, seed):
    """A model, in the way of its maker."""
    entry = study.config["models"][model]
    maker = maker_of(entry)
    return Job(
        module=maker.MODULE,
        inputs=maker.inputs(study, entry, seed),
        settings=maker.settings(study, entry, seed),
        options=maker.options(study, entry),
        references=maker.references(entry),
    )


@makes(adversarial=SET)
def generate_adversarial_set(study, model, seed, attack):
    """The images of a split that a model gets right, and what fools it beside each."""
    entry = study.config["attacks"][attack]
    compute = study.compute("attack")
    compute["versions"] |= peer_versions([method for method, _ in _engines(entry)])
    return Job(
        inputs={"data": study.job("prepare_data"), "model": study.model(model, seed)},
        settings={
            "attack": {k: value for k, value in entry.items() if k not in ("images", "parts")},
            "images": study.split(entry["images"]),
            "seed": seed,
            "chunk": study.config["chunk"],
            **compute,
        },
        references=_users_methods([entry]),
    )


@makes(adversarial="adversarial/{model}/seed{seed}/{attack}.parts/{part}.safetensors")
def generate_part_of_adversarial_set(study, model, seed, attack, part):
    """Some chunks of the images of a set."""
    whole = study.set(model, attack, seed)
    return Job(
        module=whole.module,
        inputs=whole.inputs,
        settings=part_spec(whole.settings, part, study.config["attacks"][attack]["parts"]),
        references=whole.references,
    )


@makes(adversarial=SET)
def gather_adversarial_set(study, model, seed, attack):
    """A set, from its parts: the one that a single job would have made."""
    wildcards = {"model": model, "seed": seed, "attack": attack}
    count = study.config["attacks"][attack]["parts"]
    return Job(
        inputs={
            "parts": [
                study.job("generate_part_of_adversarial_set", **wildcards, part=part)
                for part in range(count)
            ]
        },
        like=study.set(model, attack, seed),
    )


@makes(**table("engines", "html"))
def check_engines(study):
    """Every engine of the study against the closed form on a linear softmax."""
    attacks = [study.config["attacks"][name] for name in study.used_attacks]
    engines = {canonical_json(e): e for attack in attacks for e in _engines(attack)}
    compute = study.compute("attack", TABLES)
    compute["versions"] |= peer_versions([method for method, _ in engines.values()])
    return Job(
        settings={"engines": [list(engine) for _, engine in sorted(engines.items())], **compute},
        references=_users_methods(attacks),
    )


RULES = (
    prepare_data,
    train_model,
    generate_adversarial_set,
    generate_part_of_adversarial_set,
    gather_adversarial_set,
    check_engines,
)


def attacks_in_parts(study, several):
    """Return the names of the attacks whose sets several jobs make, or one job."""
    return [n for n, entry in study.config["attacks"].items() if (entry["parts"] > 1) == several]


def _engines(attack):
    """Return (method, options) of an attack's own engine, or of the members of best_of."""
    members = attack["options"].get("members") or [attack]
    return [(member["method"], member.get("options", {})) for member in members]


def _users_methods(attacks):
    """Return the users' functions among the methods of some attacks."""
    methods = sorted({method for attack in attacks for method, _ in _engines(attack)})
    return tuple(m for m in methods if ":" in m and m.partition(":")[0] not in PEERS)
