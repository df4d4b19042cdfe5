"""What a run shows, from the records that Snakemake makes."""

import io
import logging
import os
import subprocess
import sys

import pytest

from blindspots.study.terminal import Display, PatientStream, duration, shorten


class Usual(logging.Formatter):
    """Stands for Snakemake's formatter."""

    def format(self, record):
        return f"usual {record.msg} {getattr(record, 'shellcmd', '')}".strip()


class Run:
    """A display, and a clock that is set by hand."""

    def __init__(self):
        self.now = 0
        self.display = Display("digits", Usual(), lambda: self.now)

    def say(self, event=None, message=None, level="INFO", **fields):
        """Return what is shown of a record, None if nothing is."""
        fields = {"msg": message, "levelno": getattr(logging, level), "event": event, **fields}
        record = logging.makeLogRecord(fields)
        return self.display.format(record) if self.display.filter(record) else None

    def start(self, jobid, rule, **wildcards):
        assert not self.say(
            "job_info", jobid=jobid, rule_name=rule, wildcards=wildcards, output=["x"]
        )

    def finish(self, jobid):
        return self.say("job_finished", job_id=jobid)


def test_a_line_for_each_job():
    run = Run()
    stats = {"train_model": 3, "tabulate": 1, "all": 1, "total": 5}
    assert run.say("run_info", stats=stats) == "study digits: 4 jobs (3 train model, 1 tabulate)"
    run.start(1, "train_model", model="A", seed="0")
    run.start(2, "train_model", model="B", seed="0")
    run.now = 30
    # 1.5 trainings of 30 s are left, two at a time; of tables nothing is known.
    assert run.finish(1) == "[1/4] train model A seed 0: 30 s, at least about 15 s left"
    run.start(3, "train_model", model="C", seed="0")
    run.now = 60
    assert run.finish(2) == "[2/4] train model B seed 0: 60 s, at least about 8 s left"
    assert run.finish(3) == "[3/4] train model C seed 0: 30 s"
    run.start(4, "tabulate", table="one")
    run.now = 61
    assert run.finish(4) == "[4/4] tabulate one: 1 s"


def test_time_left_is_known_once_each_rule_was_seen():
    run = Run()
    run.say("run_info", stats={"collect_transfer": 1, "tabulate": 9, "total": 10})
    run.start(1, "collect_transfer")
    run.now = 5
    assert run.finish(1) == "[ 1/10] collect transfer: 5 s"
    run.start(2, "tabulate", table="one")
    run.now = 305
    assert run.finish(2) == "[ 2/10] tabulate one: 5 min, about 40 min left"


def test_a_job_that_failed_is_told_shortly_and_counts_when_it_is_done():
    run = Run()
    run.say("run_info", stats={"tabulate": 1, "total": 1})
    run.start(1, "tabulate", table="one")
    error = {"jobid": 1, "rule_msg": "told", "input": ["x"] * 999, "shellcmd": "long"}
    assert run.say("job_error", "Error in rule", "ERROR", **error) == "usual told None"
    command = "CalledProcessError in file x: Command 'long'"
    assert run.say("error", command, "ERROR") is None
    assert run.say("error", "WorkflowError: no", "ERROR") == "usual WorkflowError: no"
    run.start(1, "tabulate", table="one")
    assert run.finish(1) == "[1/1] tabulate one: 0 s"


def test_messages_that_tell_nothing_of_the_study_are_left_out():
    run = Run()
    assert run.say(message="Building DAG of jobs...") is None
    assert run.say("progress", done=1, total=2) is None
    assert run.say(message="study digits", study=object()) is None
    assert run.say(message="Job 3 was submitted") == "usual Job 3 was submitted"
    assert run.say(message="Using shell: no", level="WARNING") == "usual Using shell: no"
    assert run.finish(7) is None  # rule all, which makes nothing


def test_lists_of_rule_all_are_cut():
    names = [f"file{number}" for number in range(99)]
    record = logging.makeLogRecord(
        {"event": "job_info", "output": [], "input": names}
        | {"reason": f"Input files updated by another job: {', '.join(names)}"}
    )
    assert shorten(record)
    assert record.input == ["file0, file1, file2 and 96 more"]
    assert record.reason == ("Input files updated by another job: file0, file1, file2 and 96 more")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (99, "99 s"), (150, "2 min"), (9000, "2.5 h")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_a_stream_whose_reader_has_gone_is_given_up():
    """And what was to be written to it does not fail at the end, either."""
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "w") as pipe:
        stream = PatientStream(pipe)
        for _ in range(2):
            stream.write("text\n")
            stream.flush()
        assert not stream.isatty()
    PatientStream(None).write("text\n")
    text = io.StringIO()
    PatientStream(text).write("text\n")
    assert text.getvalue() == "text\n"


SAY = "from blindspots.study.terminal import say; say('é' * 100_000)"


@pytest.mark.parametrize(
    ("redirection", "status", "told"),
    [
        (">/dev/full", 1, "error: standard output: No space left on device"),
        (">&-", 0, ""),
        ("2>&- >/dev/full", 1, ""),
        ("| :", 141, ""),
    ],
)
def test_what_cannot_be_printed(root, redirection, status, told):
    command = f'"$0" -c "$1" {redirection}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, SAY],
        env={**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.strip()) == (status, told)
