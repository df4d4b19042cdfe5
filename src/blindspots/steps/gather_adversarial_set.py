"""Join the parts of an adversarial set that several jobs have made."""

from blindspots.steps.job import run
from blindspots.steps.sets import gather, write_set


def main(job, options):
    write_set(job, options.output, **gather(job, options.parts))


if __name__ == "__main__":
    run(
        main,
        {
            "parts*": "parts of the set, in order",
            "output": "adversarial set to write",
        },
    )
