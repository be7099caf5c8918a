"""Two hosts with a cable between them: a run crosses it, outlives hosts and cable, and says who is missing.

The hosts are network namespaces with a disk each (see `two_hosts`); elsewhere than as root, these tests are skipped.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cutting import Job, flags, outcome, run
from two_hosts import Host, ends, possible, two_hosts

UPDATES = 12
needs_hosts = pytest.mark.skipif(bool(possible()), reason=possible() or "-")


@pytest.fixture
def pair(tmp_path):
    """Two hosts."""
    with two_hosts(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def given(teacher_folder, text_file) -> tuple[str, ...]:
    """Flags of a run whose batches two processes share."""
    return flags(teacher_folder, text_file, updates=UPDATES, micro_batch_size=4)


@pytest.fixture(scope="module")
def undisturbed(given, tmp_path_factory) -> dict:
    """What two processes of one host come to."""
    job = Job(tmp_path_factory.mktemp("undisturbed") / "run", given, 2)
    assert run(job, 120) == [0, 0], job.said()
    return outcome(job.out)


def start(host: Host, launcher: list[str], given: tuple[str, ...], *more: str) -> subprocess.Popen:
    """Start a run on one of the hosts, into its own disk."""
    command = ["distil", *given, *more, "--out", str(host.here / "run"), "--name", "run"]
    where = {"DISTILNB_HOME": host.here / "home", "DISTILNB_CACHE": host.here / "cache"}
    return host.start([sys.executable, "-m", *launcher, *command], log(host), **where)


def log(host: Host) -> Path:
    """What is printed on a host."""
    return host.disk / "log"


def launch(pair: tuple[Host, Host], patience: int = 60) -> list[str]:
    """Our launcher."""
    where = ["--hosts", "2", "--head", f"{pair[0].name}:29400", "--patience", str(patience)]
    return ["distilnb", "launch", *where, "--"]


def torchrun(pair: tuple[Host, Host]) -> list[str]:
    """torch's launcher, which the hosts find as they find each other."""
    where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{pair[0].name}:29400", "--max-restarts", "3"]
    return ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *where, "-m", "distilnb"]


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def trained(host: Host) -> bool:
    """Whether the run has made its first updates."""
    return (host.disk / "run" / "checkpoints" / "latest").exists()


def said(pair: tuple[Host, Host]) -> str:
    """What both have printed."""
    return "\n".join(log(host).read_text() for host in pair)


@needs_hosts
def test_a_process_is_killed_and_torchrun_starts_it_again(pair, given, undisturbed):
    """Over the wire, each host with a disk of its own, weights are those of two processes on one host, to the bit."""
    jobs = [start(host, torchrun(pair), given) for host in pair]
    until(lambda: trained(pair[1]))
    victim = next(pid for pid, line in pair[1].processes() if "distilnb distil" in line and "run --nnodes" not in line)
    os.kill(victim, signal.SIGKILL)
    assert ends(jobs, 180) == [0, 0], said(pair)
    assert "going on from update" in said(pair)
    assert all(outcome(host.disk / "run") == undisturbed for host in pair)
    assert all(host.sent() > UPDATES * 4 * 30_000 for host in pair), "gradients crossed the wire"
