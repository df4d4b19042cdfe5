"""What a run shows: a line for each job, how far the study is, and about the time left.

Snakemake says everything that it does by records of `logging` whose ``event`` and fields tell what
they are about. Its log file keeps all of it; the terminal gets what a person reads.
"""

import copy
import logging
import sys
import time
from collections import Counter, defaultdict

from snakemake.exceptions import CliException

from blindspots.progress import duration, lead_nowhere
from blindspots.study.check import check, in_a_line, some

# Events that the terminal does without, and how messages without an event begin that tell
# nothing of the study.
HIDDEN = {
    *("workflow_started", "resources_info", "job_started", "job_info", "group_info"),
    *("shellcmd", "progress"),
}
CHATTER = (
    *("Assuming unrestricted shared filesystem", "Building DAG of jobs", "Using shell: "),
    *("Conda environments: ", "Singularity containers: ", "Group jobs: ", "Select jobs to execute"),
)
FAILED_COMMAND = "CalledProcessError in file"  # told again, shorter, as the job's error
NOTHING_TO_DO = "Nothing to be done"
REPORT = "Creating report..."


def attend(logger, study, folder, settings):
    """Let a run of Snakemake say what concerns its study, and show that alone.

    Parameters
    ----------
    logger : logging.Logger
        Snakemake's.
    study : blindspots.study.study.Study
    folder : pathlib.Path
        Where its artifacts lie.
    settings : snakemake.settings.types.OutputSettings
        What Snakemake is asked to print: where details are asked for, its own words are left.
    """

    def add_state(record):
        if str(record.msg).startswith(NOTHING_TO_DO):
            record.msg += "\n" + in_a_line(study, check(study, folder, tensors=False))
        return True

    logger.addFilter(shorten)
    logger.addFilter(add_state)
    details = settings.dryrun or settings.verbose or settings.printshellcmds or settings.debug_dag
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.setStream(PatientStream(handler.stream))
            if not details:
                display = Display(study.name, handler.formatter)
                handler.filters.insert(0, display.filter)
                handler.setFormatter(display)
    # What `make plan` and `make bundle` know the study from.
    logger.info(f"study {study.name} in {folder}", extra={"study": study, "folder": folder})


def guard_report(logger, study, folder):
    """Have Snakemake refuse a report that would show what is not of the study.

    Of what it is about to do, a message is the only sign.
    """

    def refuse(record):
        if record.msg == REPORT:
            artifacts = check(study, folder)
            if any(artifact.stray for artifact in artifacts):
                raise CliException(f"no report is made: {in_a_line(study, artifacts)}")
        return True

    logger.addFilter(refuse)


def shorten(record):
    """Cut the lists of a job that makes nothing: `rule all` asks for every artifact, twice."""
    if getattr(record, "event", None) == "job_info" and not record.output:
        record.input = [some(record.input)]
        what, colon, names = record.reason.partition(": ")
        record.reason = what + colon + some(names.split(", "))
    return True


def job_name(wildcards):
    """Return the values of wildcards as a person would say them."""
    return " ".join(f"seed {v}" if k == "seed" else str(v) for k, v in wildcards.items())


class Display(logging.Formatter):
    """Shows the end of each job in a line; warnings, errors and messages as Snakemake would.

    Parameters
    ----------
    name : str
        Of the study.
    usual : logging.Formatter
        What formats all other records.
    clock : callable
        Seconds since any moment.
    """

    def __init__(self, name, usual, clock=time.monotonic):
        super().__init__()
        self.name, self.usual, self.clock = name, usual, clock
        self.begin = clock()
        self.waiting = Counter()  # jobs that are not finished, by rule
        self.total = 0
        self.running = {}  # rule, wildcards and start of each job, by its id
        self.seconds = defaultdict(list)  # that finished jobs took, by rule

    def filter(self, record):
        """Tell whether to show a record, and take note of it."""
        event = getattr(record, "event", None)
        if event == "run_info":
            self.waiting = Counter(record.stats)
            self.waiting -= Counter({"total": record.stats["total"], "all": 1})
            self.total = self.waiting.total()
        elif event == "job_info" and record.output:
            self.running[record.jobid] = (record.rule_name, record.wildcards, self.clock())
        elif event == "job_error":
            self.running.pop(record.jobid, None)
        elif event == "job_finished":
            return record.job_id in self.running
        if event in HIDDEN or hasattr(record, "study"):
            return False
        if event == "error" and FAILED_COMMAND in str(record.msg):
            return False
        return record.levelno > logging.INFO or not str(record.msg).startswith(CHATTER)

    def format(self, record):
        """Return the text of a record that is shown."""
        event = getattr(record, "event", None)
        if event == "run_info":
            counts = (f"{n} {rule.replace('_', ' ')}" for rule, n in self.waiting.items())
            jobs = "1 job" if self.total == 1 else f"{self.total} jobs"
            return f"study {self.name}: {jobs} ({', '.join(counts)})"
        if event == "job_finished":
            return self._finished(record.job_id)
        if event == "job_error":  # without what may be as long as its inputs are many
            record = copy.copy(record)
            record.input, record.shellcmd, record.msg = [], None, record.rule_msg
        return self.usual.format(record)

    def _finished(self, jobid):
        rule, wildcards, start = self.running.pop(jobid)
        took = self.clock() - start
        self.seconds[rule].append(took)
        self.waiting -= Counter([rule])
        done = f"{self.total - self.waiting.total():{len(str(self.total))}}/{self.total}"
        name = f"{rule.replace('_', ' ')} {job_name(wildcards)}".strip()
        return f"[{done}] {name}: {', '.join([duration(took), *self._left()])}"

    def _left(self):
        """Yield about the time left, if jobs of a kind that has been seen wait or run.

        A waiting job takes as long as the others of its rule have taken in this run, and as many
        run side by side as until now. Of rules of which none has finished nothing is known.
        """
        now = self.clock()
        took = {rule: sum(all_) / len(all_) for rule, all_ in self.seconds.items()}
        runs = [(rule, now - start) for rule, _, start in self.running.values()]
        work = sum(took[rule] * n for rule, n in self.waiting.items() if rule in took)
        work -= sum(min(took[rule], since) for rule, since in runs if rule in took)
        done = sum(map(sum, self.seconds.values())) + sum(since for _, since in runs)
        if work > 0 and done > 0:
            least = "" if self.waiting.keys() <= took.keys() else "at least "
            yield f"{least}about {duration(work * (now - self.begin) / done)} left"


class PatientStream:
    """A stream that may fail: what a reader who has gone, or a full disk, does not take is lost.

    The run goes on, and its log file has every line.

    Parameters
    ----------
    stream : text stream or None
    """

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        """Write a text, if it can be written."""
        self._try("write", text)

    def flush(self):
        """Flush the stream, if it can be flushed."""
        self._try("flush")

    def isatty(self):
        """Tell whether the stream is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def _try(self, method, *arguments):
        if self.stream is not None:
            try:
                getattr(self.stream, method)(*arguments)
            except OSError as error:
                lead_nowhere(self.stream)
                if self.stream is sys.stdout and not isinstance(error, BrokenPipeError):
                    print(f"error: standard output: {error.strerror}", file=sys.stderr)
                self.stream = None


def say(text):
    """Print a text; end quietly if its reader has gone, with a sentence if it cannot be written."""
    if sys.stdout is None:
        return
    sys.stdout.reconfigure(errors="backslashreplace")  # locales that lack a character
    try:
        print(text, flush=True)
    except OSError as error:
        lead_nowhere(sys.stdout)
        if isinstance(error, BrokenPipeError):
            sys.exit(141)  # as of a process that SIGPIPE ends
        sys.exit(f"error: standard output: {error.strerror}")
