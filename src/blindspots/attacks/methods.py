"""The registry of attack methods: the name in a configuration and the function behind it."""

from blindspots.attacks.lbfgs import lbfgs

METHODS = {"lbfgs": lbfgs}
