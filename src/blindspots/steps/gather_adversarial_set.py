"""Join the parts of an adversarial set that several jobs have made."""

from blindspots.steps.job import run
from blindspots.steps.sets import gather, write_set


def main(job, files):
    write_set(job, files.adversarial, **gather(job, files.parts))


if __name__ == "__main__":
    run(main, reads="parts*", writes="adversarial")
