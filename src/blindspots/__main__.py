"""The command ``blindspots``: what make offers, from the folder of a checkout.

It starts Snakemake, or a module of the checkout, in its own place: exit codes and Ctrl-C are
theirs, and the code that runs is the checkout's, wherever this file is installed.
"""

import argparse
import os
import sys
from pathlib import Path

from blindspots import __version__
from blindspots.errors import UserError
from blindspots.escapes import printable

DEFAULT = "digits"
# Arguments of Snakemake by which users say themselves how much runs at one time.
WIDTHS = ("-c", "-j", "--jobs", "--profile", "--workflow-profile")
CONFIGURATIONS = ("--configfile", "--configfiles")


def main(arguments=None):
    """Run the command; it ends in another program, or with a sentence and exit code 1.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    told, further = parser.parse_known_args(_with_study(arguments))
    if told.command is None:
        parser.print_help()
        return
    if further and told.command != "run":
        parser.error(f"unknown arguments: {' '.join(further)}")
    try:
        command = _command(told, further)
    except UserError as error:
        sys.exit(printable(f"error: {error}"))
    path = [str(Path("src").resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    os.execve(sys.executable, [sys.executable, "-m", *command], environment)


def _parser():
    parser = argparse.ArgumentParser(
        prog="blindspots",
        description="Which small changes fool a neural network, and which other networks they "
        "fool: run studies, in the folder of a checkout.",
        epilog="A study is a file of studies/, named without .yaml. In Python: import blindspots.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"blindspots {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = _subparser(commands, "run", "make what is missing of a study", DEFAULT)
    run.usage = "blindspots run [STUDY] [--cores N] [arguments of snakemake]"
    run.epilog = (
        "All else goes to snakemake: `blindspots run digits --dry-run`, `blindspots run mnist "
        "--workflow-profile profiles/slurm`. `snakemake --help` lists it."
    )
    run.add_argument("--cores", type=_positive, metavar="N", help="default: all that there are")
    _subparser(commands, "plan", "say what the next run will do, and why", DEFAULT)
    for name, does in (
        ("report", "make the report of a finished study"),
        ("bundle", "pack a finished study into one archive"),
    ):
        _subparser(commands, name, does).usage = f"blindspots {name} STUDY"
    return parser


def _subparser(commands, name, does, default=None):
    # What looks like the beginning of an option of ours is Snakemake's.
    parser = commands.add_parser(
        name, help=does, description=f"{does.capitalize()}.", allow_abbrev=False
    )
    said = f"; default: {default}" if default else ""
    # Missing where there is no default: then those that there are are told.
    parser.add_argument(
        "study", metavar="STUDY", nargs="?", help=f"a file of studies/, without .yaml{said}"
    )
    return parser


def _with_study(arguments):
    """Return arguments with the study that is meant where none is named, before any option."""
    command, *rest = arguments or [None]
    if command in ("run", "plan") and (not rest or rest[0].startswith("-")):
        return [command, DEFAULT, *rest]
    return arguments


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def _command(told, further):
    """Return the module that is to run, and its arguments.

    Raises
    ------
    UserError
        If this is no checkout, or there is no such study.
    """
    if not (Path("Snakefile").is_file() and Path("src/blindspots").is_dir()):
        raise UserError(
            f"{Path.cwd()} is no checkout of blindspots; go to the folder that holds its "
            "Snakefile and studies/, and type it there"
        )
    known = sorted(path.stem for path in Path("studies").glob("*.yaml"))
    if told.study not in known:
        what = f"there is no studies/{told.study}.yaml" if told.study else "no study is named"
        raise UserError(f"{what}; known studies: {' '.join(known)}")
    study = f"studies/{told.study}.yaml"
    if told.command == "plan":
        return ["blindspots.study.explain", "--configfile", study]
    if told.command == "bundle":
        return ["blindspots.study.bundle", told.study]
    snakemake = ["snakemake", f"--configfile={study}"]
    if told.command == "report":
        report = f"results/{told.study}/report.html"
        return [*snakemake, f"--cores={_cores()}", "--report", report]
    if any(_is_one_of(CONFIGURATIONS, word) for word in further):
        raise UserError(
            "--configfile would take the place of the study's own; to change some of its keys "
            f"run `snakemake --cores {_cores()} --configfile {study}` with the other file behind it"
        )
    if told.cores or not any(_is_one_of(WIDTHS, word) for word in further):
        snakemake.append(f"--cores={told.cores or _cores()}")
    return [*snakemake, *further]


def _is_one_of(options, word):
    """Tell whether a word is one of some options, with or without its value."""
    name = word.partition("=")[0] if word.startswith("--") else word[:2]
    return name in options


def _cores():
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    main()
