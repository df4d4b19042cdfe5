"""Which seeds of a victim a set is shown to: ``victim_seeds`` of an experiment.

Imports nothing, so that plans and light steps can use it.
"""

SAME, OTHER, ALL = CHOICES = ("same", "other", "all")
IN_WORDS = {
    SAME: "",
    OTHER: "victims of every other seed than the source's",
    ALL: "victims of every seed",
}


def seeds_of_victims(choice, seed, seeds):
    """Return the seeds of the victims that the set of a source of one seed is shown to."""
    return {SAME: [seed], OTHER: [s for s in seeds if s != seed], ALL: seeds}[choice]


def named(victim, seed, own):
    """Return the name of a victim in a row whose source has the seed ``own``."""
    return victim if seed == own else f"{victim}/{seed}"


def parsed(name, own):
    """Return (victim, seed) of what `named` returned."""
    victim, _, seed = name.partition("/")
    return victim, int(seed) if seed else own


def chosen(cells, choice):
    """Return the cells whose victims have the seeds that are asked for, and those of noise.

    Parameters
    ----------
    cells : pandas.DataFrame
        The tidy transfer table, columns as in `blindspots.experiments.transfer.fields.FIELDS`.
    choice : str
        One of `CHOICES`.
    """
    if choice == ALL:
        return cells
    same = cells["seed"] == cells["victim_seed"]
    return cells[(cells["source"] == "noise") | (same if choice == SAME else ~same)]
