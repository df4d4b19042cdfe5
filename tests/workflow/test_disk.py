"""A full or read-only disk: one clear sentence, nothing half-written, and then the run goes on."""

import subprocess

import pytest
from project import Project


@pytest.fixture
def mount():
    """A function that mounts something on a folder, or mounts it anew with other options."""
    mounted = []

    def run(*arguments, on):
        done = subprocess.run(["mount", *arguments, str(on)], capture_output=True, text=True)
        if done.returncode != 0 and not mounted:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted.append(on)

    yield run
    for folder in dict.fromkeys(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(fresh, finished_template, mount):
    """First with room for the log, which Snakemake shows, and then without."""
    wanted = Project(finished_template).contents()
    fresh.results.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", on=fresh.results)
    for size in (64, 250):
        mount("-o", f"remount,size={size}k", on=fresh.results)
        done = fresh.snakemake()
        assert done.returncode == 1
        assert ": the disk is full" in done.stdout
        assert "Traceback" not in done.stdout
        assert fresh.contents().items() <= wanted.items()
    mount("-o", "remount,size=100m", on=fresh.results)
    fresh.make()
    assert fresh.contents() == wanted


def test_read_only_results(finished, mount):
    """Snakemake names outputs that it would replace; the rest is told before anything runs."""
    mount("--bind", str(finished.results), on=finished.results)
    finished.edit_config(lambda config: config["models"]["A"].update(label="changed"))
    for removed, sentence in (
        ([], "Write-protected output files for rule"),
        (finished.results.glob("figures/**/pairs.*"), "results/tiny cannot be written to; make it"),
    ):
        for path in list(removed):
            path.unlink()
        before = finished.contents()
        mount("-o", "remount,bind,ro", on=finished.results)
        done = finished.snakemake("--until", "plot_distortions")
        assert done.returncode == 1
        assert sentence in done.stdout
        assert "Traceback" not in done.stdout
        assert finished.contents() == before
        mount("-o", "remount,bind,rw", on=finished.results)
    finished.make("--until", "plot_distortions")
