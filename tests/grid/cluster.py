"""A Slurm of one node, started by hand, and gone with the block that asked for it."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo")
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
_SLURM_CONF = """\
ClusterName=grid
SlurmctldHost={host}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} CPUs=2 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# Two "GPUs" that every machine has; nothing is computed on them.
_GRES_CONF = "NodeName={host} Name=gpu File=/dev/null\nNodeName={host} Name=gpu File=/dev/zero\n"


def missing():
    """The programs of Slurm that are not installed."""
    return [name for name in PROGRAMS if not _find(name)]


def install():
    """Install Slurm from Debian's packages, and say what went wrong if that cannot be done."""
    become = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    apt = [*become, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        try:
            done = subprocess.run([*apt, *command], capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["apt-get failed"])[-1]
    return ""


@contextmanager
def slurm():
    """The environment in which Slurm's commands talk to a cluster of this machine alone."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="slurm"))  # a socket's path must be short
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        names = {
            "folder": folder,
            "host": socket.gethostname().split(".")[0],
            "user": getpass.getuser(),
            "controller_port": _free_port(),
            "node_port": _free_port(),
        }
        folder.chmod(0o755)
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        (folder / "slurm.conf").write_text(_SLURM_CONF.format(**names))
        (folder / "gres.conf").write_text(_GRES_CONF.format(**names))
        (folder / "cgroup.conf").write_text(f"CgroupPlugin={_cgroups()}\n")
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        # Within a job, Snakemake takes out Slurm's variables, and srun would look in /etc.
        wrapper = folder / "bin" / "srun"
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {_find("srun")} "$@"\n')
        wrapper.chmod(0o755)
        environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "key-file")]
        munge += [f"--{name}={folder}/munged.{name}" for name in ("pid-file", "seed-file")]
        munge += [f"--log-file={folder}/munged.log", "--foreground", "--force"]
        _start(stack, folder, environment, "munged", *munge)
        _wait(lambda: (folder / "munge.socket").exists(), folder)
        _start(stack, folder, environment, "slurmctld", "-D")
        _start(stack, folder, environment, "slurmd", "-D")
        idle = ["sinfo", "--noheader", "--format=%t"]

        def is_ready():
            shown = subprocess.run(
                idle, env=os.environ | environment, capture_output=True, text=True
            )
            return shown.stdout.strip() == "idle"

        _wait(is_ready, folder)
        yield environment


def _start(stack, folder, environment, name, *arguments):
    said = stack.enter_context((folder / f"{name}.said").open("wb"))
    process = subprocess.Popen(
        [_find(name), *arguments], env=os.environ | environment, stdout=said, stderr=said
    )
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)


def _wait(is_there, folder, seconds=60):
    until = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > until:
            said = [f"{path.name}:\n{path.read_text()}" for path in sorted(folder.glob("*.said"))]
            raise TimeoutError("Slurm did not start.\n" + "\n".join(said))
        time.sleep(0.5)


def _find(name):
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))


def _cgroups():
    told = subprocess.run([_find("slurmd"), "-V"], capture_output=True, text=True).stdout
    year, month = map(int, re.search(r"(\d+)\.(\d+)", told).groups())
    return "disabled" if (year, month) >= (23, 2) else "cgroup/v1"


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
