"""A throw-away Slurm on this machine: partitions cpu and gpu of one node each, the GPUs fakes.

Everything it writes lies in a temporary folder, and it listens on 127.0.0.1 alone. Its commands
lie in that folder, too, so nothing outside, such as /etc/slurm, says that it is there.
``python tests/workflow/slurm/cluster.py`` keeps one up to try things on.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGES = ["munge", "slurmctld", "slurmd", "slurm-client"]  # Debian's
COMMANDS = ["sacct", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun"]
GPUS = 2
CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
# Listen on the address above, not on all.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
# Neither cgroups nor systemd.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# A job that takes more memory than it asked for is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
KillWait=5
# The nodes have what is said below, whatever this machine has.
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,sched_interval=2
# What can never run is refused, and nothing that ran is forgotten.
EnforcePartLimits=ALL
MinJobAge=86400
NodeName=DEFAULT CPUs=16 RealMemory=64000
NodeName=cpu1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=gpu1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} Gres=gpu:{gpus}
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=1-00:00:00
PartitionName=gpu Nodes=gpu1 MaxTime=1-00:00:00
"""


class UnavailableError(Exception):
    """Slurm can't be had on this machine; the message says why."""


class Cluster:
    """What tests ask of a running cluster.

    Attributes
    ----------
    environment : dict of str to str
        The environment in which Slurm's commands speak to this cluster.
    """

    def __init__(self, commands):
        self.environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}

    def command(self, *words):
        """Run one of Slurm's commands and return what it printed."""
        return subprocess.run(
            words, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def jobs(self, run):
        """Return Slurm's own records of the jobs of a run of snakemake, oldest first."""
        lines = self.command("scontrol", "show", "job", "--details", "--oneliner").splitlines()
        records = [dict(word.partition("=")[::2] for word in line.split()) for line in lines]
        mine = [record for record in records if record.get("JobName") == run]
        return sorted(mine, key=lambda record: int(record["JobId"]))


@contextlib.contextmanager
def running_cluster():
    """Bring a cluster up, yield it as a `Cluster`, and take it down with all that it ran.

    Raises
    ------
    UnavailableError
        If there is no Slurm and it can't be installed.
    """
    install()
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, contextlib.ExitStack() as daemons:
        folder = Path(name)
        folder.chmod(0o755)  # munge insists
        cluster = Cluster(configure(folder))
        munge = ["munged", "--foreground", f"--key-file={folder}/munge.key"]
        munge += [f"--{file}-file={folder}/munge.{file}" for file in ("pid", "log", "seed")]
        conf = folder / "slurm.conf"
        start(daemons, folder, [*munge, f"--socket={folder}/munge.socket"])
        wait(folder, lambda: (folder / "munge.socket").exists())
        start(daemons, folder, ["slurmctld", "-D", "-f", conf])
        for node in ("cpu1", "gpu1"):
            start(daemons, folder, ["slurmd", "-D", "-f", conf, "-N", node])
        wait(folder, lambda: states(cluster) == {"idle"})
        daemons.callback(cancel_all, cluster, folder)
        yield cluster


def install():
    """Install Slurm's packages where they are missing."""
    if os.geteuid() != 0:
        raise UnavailableError("a Slurm for tests needs root")
    if all(map(shutil.which, ["munged", "slurmctld", "slurmd", *COMMANDS])):
        return
    if not shutil.which("apt-get"):
        raise UnavailableError("there is no Slurm, nor apt-get to install it")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "--quiet", "update"], env=environment, capture_output=True)
    done = subprocess.run(
        ["apt-get", "--quiet", "--yes", "install", "--no-install-recommends", *PACKAGES],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1]
        raise UnavailableError(f"Slurm can't be installed: {reason}")


def configure(folder):
    """Write what the daemons read, and return the folder of the commands."""
    for name in ("state", "spool-cpu1", "spool-gpu1", "devices", "bin"):
        (folder / name).mkdir()
    (folder / "munge.key").touch(mode=0o600)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    text = CONFIGURATION.format(folder=folder, ports=free_ports(3), gpus=GPUS)
    (folder / "slurm.conf").write_text(text)
    # Only for devices does Slurm set CUDA_VISIBLE_DEVICES; it never opens them here.
    for number in range(GPUS):
        (folder / f"devices/gpu{number}").symlink_to("/dev/null")
    devices = f"{folder}/devices/gpu[0-{GPUS - 1}]"
    (folder / "gres.conf").write_text(f"NodeName=gpu1 Name=gpu File={devices}\n")
    # Not by the environment alone: Snakemake clears what begins with SLURM_ around srun.
    for command in COMMANDS:
        script = folder / "bin" / command
        target = shutil.which(command)
        script.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {target} "$@"\n')
        script.chmod(0o755)
    return folder / "bin"


def free_ports(count):
    """Return ports on which nothing listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start(daemons, folder, command):
    """Start a daemon in the foreground, to be stopped with the others, the last one first."""
    with open(folder / "daemons.log", "a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    daemons.callback(stop, process)


def stop(process):
    """Ask a daemon to end, and make it if it does not."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait(folder, ready, seconds=30):
    """Wait until a condition holds; if it never does, say what the daemons said."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            log = (folder / "daemons.log").read_text()
            raise RuntimeError(f"Slurm did not get ready within {seconds} s:\n{log[-3000:]}")
        time.sleep(0.1)


def states(cluster):
    """Return the states of the nodes; nothing while the controller does not answer."""
    try:
        return set(cluster.command("sinfo", "--noheader", "--Node", "--format=%T").split())
    except subprocess.CalledProcessError:
        return set()


def cancel_all(cluster, folder):
    """Cancel what is left and wait until its processes are gone."""
    cluster.command("scancel", "--user=root")
    wait(folder, lambda: not cluster.command("squeue", "--noheader"))


if __name__ == "__main__":
    try:
        with running_cluster() as up:
            print(f"export PATH={up.environment['PATH'].partition(':')[0]}:$PATH", flush=True)
            print("Ctrl-C takes it down.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(1e6)
    except UnavailableError as error:
        sys.exit(f"error: {error}")
