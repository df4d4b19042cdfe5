"""Versions of libraries, which may change the bytes of what is made with them."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from blindspots.errors import UserError

# Libraries whose version may change an output's bytes, called by us or by those that we call.
NUMERIC = ("numpy", "torch")
TABLES = ("numpy", "pandas")
QUANTILES = ("scipy",)  # of the intervals over seeds; violins take it too
MARKUP = ("tabulate",)  # Markdown
# fonttools: fonts in PDF; pillow: pixels, in SVG too
PLOTS = ("fonttools", "matplotlib", "numpy", "pandas", "pillow", "seaborn", *QUANTILES)
PEERS = {"adv-lib": "adv-lib", "foolbox": "foolbox"}  # method prefix and package


def versions(packages):
    """Return the versions of some packages, by name.

    Raises
    ------
    UserError
        If one is not installed.
    """
    return {package: _version(package) for package in packages}


def peer_versions(methods):
    """Return the versions of the libraries that attack methods come from."""
    found = {}
    for method in methods:
        package = PEERS.get(method.partition(":")[0])
        if package and ":" in method:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                raise UserError(
                    f"method {method} needs {package}, which is not installed; envs/peers.txt says "
                    "how to install it"
                ) from None
    return found


def refuse_other_versions(pins):
    """Raise UserError unless packages are installed in these versions, whatever their build."""
    for package, pin in pins.items():
        found = _version(package)
        if found.partition("+")[0] != pin:
            raise UserError(
                f"envs/blindspots.yaml asks for {package} {pin}, and beside snakemake there is "
                f"{found}; with conda both must be the same"
            )


@cache
def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        raise UserError(
            f"{package} is not installed beside snakemake, which asks for its version; "
            "install the packages of envs/requirements.txt there"
        ) from None
