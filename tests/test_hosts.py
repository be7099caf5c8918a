"""Two hosts with a cable between them: a run crosses it, outlives hosts and cable, and says who is missing.

The hosts are network namespaces with a disk each (see `two_hosts`); elsewhere than as root, these tests are skipped.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import Process
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from conftest import free_port
from cutting import Job, flags, outcome, run
from two_hosts import Host, ended, ends, possible, two_hosts

from distilnb.machine import hosts
from distilnb.machine.hosts import Meeting

ROOT, UPDATES = Path(__file__).parents[1], 12
SLOW = 400  # seconds, for machines that do other things too
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
    assert run(job, SLOW) == [0, 0], job.said()
    return outcome(job.out)


def start(host: Host, launcher: list[str], given: tuple[str, ...], *more: str) -> subprocess.Popen:
    """Start a run on one of the hosts, into its own disk."""
    command = ["distil", *given, *more, "--out", str(host.here / "run"), "--name", "run"]
    where = {"DISTILNB_HOME": host.here / "home", "DISTILNB_CACHE": host.here / "cache"}
    return host.start([sys.executable, "-m", *launcher, *command], log(host), **where)


def log(host: Host) -> Path:
    """What is printed on a host."""
    return host.disk / "log"


def launch(pair: tuple[Host, Host], which: int, given: tuple[str, ...], patience: float = 120.0) -> Process:
    """`distilnb launch` on one of the hosts."""
    where = ["--hosts", "2", "--head", f"{pair[0].address}:29400", "--restarts", "3"]
    command = ["distil", *given, "--out", str(pair[which].disk / "run"), "--name", "run"]
    return pair[which].launch([*where, "--", *command], log(pair[which]), patience)


def torchrun(pair: tuple[Host, Host]) -> list[str]:
    """torch's launcher, which the hosts find as they find each other."""
    where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{pair[0].name}:29400", "--max-restarts", "3"]
    return ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *where, "-m", "distilnb"]


def until(condition: Callable[[], bool], seconds: float = SLOW) -> None:
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
def test_torchrun_crosses_the_wire(pair, given, undisturbed):
    """Each host with a disk of its own: weights are those of two processes on one host, to the bit."""
    jobs = [start(host, torchrun(pair), given) for host in pair]
    assert ends(jobs, SLOW) == [0, 0], said(pair)
    assert all(outcome(host.disk / "run") == undisturbed for host in pair)
    weights = next((pair[0].disk / "run" / "checkpoints").glob("step-*/model.safetensors")).stat().st_size
    assert all(host.sent() > UPDATES * weights for host in pair), "gradients crossed the wire"


@needs_hosts
@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_is_lost_and_the_run_goes_on_when_it_is_back(pair, given, undisturbed, lost):
    """A power cut on the host of process 0, or on the other; the launcher of the host that is left needs no hand."""
    jobs = [launch(pair, which, given) for which in (0, 1)]
    until(lambda: all(map(trained, pair)))
    pair[lost].kill()
    jobs[lost].join()
    jobs[lost] = launch(pair, lost, given)
    assert ended(jobs, SLOW) == [0, 0], said(pair)
    assert f"{pair[1 - lost].name} meets the other hosts again" in said(pair)
    assert all(outcome(host.disk / "run") == undisturbed for host in pair)


@needs_hosts
def test_the_cable_is_pulled_and_the_same_command_goes_on(pair, given):
    """Both ends say that the other is gone, in a sentence, within their patience; one disk alone is enough to go on."""
    given = (*given, "--tokens", "20480")
    jobs = [launch(pair, which, given, patience=15) for which in (0, 1)]
    until(lambda: all(map(trained, pair)))
    pair[0].cable(plugged=False)
    assert not {None, 0} & set(ended(jobs, SLOW)), said(pair)
    for host in pair:
        assert "another one has died or not answered for 15 s" in log(host).read_text(), said(pair)
        assert "Traceback" not in log(host).read_text(), said(pair)
    pair[0].cable(plugged=True)
    shutil.rmtree(pair[0].disk / "run")
    assert ended([launch(pair, which, given) for which in (0, 1)], SLOW) == [0, 0], said(pair)
    assert "going on from update" in log(pair[0]).read_text()
    assert outcome(pair[0].disk / "run") == outcome(pair[1].disk / "run")


def meeting(**given) -> Meeting:
    """At a port of this host."""
    return Meeting(**({"hosts": 2, "processes": 1, "head": "127.0.0.1:29400", "restarts": 1, "patience": 1.0} | given))


def test_a_host_that_nobody_knows():
    with pytest.raises(ValueError, match="nowhere.invalid"):
        hosts.check_head(meeting(head="nowhere.invalid:29400"), 1)


def test_a_port_that_is_taken(monkeypatch):
    """Told on the first host, whose port it is; a port that is free is not."""
    monkeypatch.setattr(hosts, "FREED", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match="taken"):
            hosts.check_head(meeting(head=f"127.0.0.1:{port}"), 1)
    hosts.check_head(meeting(head=f"127.0.0.1:{port}"), 1)


def test_a_first_host_that_does_not_listen(monkeypatch):
    """Of this host, said to be another one."""
    monkeypatch.setattr(hosts, "is_here", lambda _: False)
    with pytest.raises(ValueError, match="reached"):
        hosts.check_head(meeting(head=f"127.0.0.1:{free_port()}"), 0.2)


@pytest.mark.parametrize("wrong", [{"hosts": 0}, {"processes": 0}, {"patience": 0}, {"head": "node1"}, {"head": "a:b"}])
def test_a_meeting_that_makes_no_sense(wrong):
    with pytest.raises(ValueError):
        meeting(**wrong)


def test_a_launch_of_nothing():
    with pytest.raises(ValueError, match="launch"):
        hosts.main(["--hosts", "2"])


@pytest.mark.parametrize("name, machines, processes", [("one_gpu", 1, 1), ("eight_gpus", 1, 8), ("two_nodes", 2, 16)])
def test_accelerate_reads_the_launch_files(name, machines, processes):
    config = load_config_from_file(str(ROOT / "launch" / f"{name}.yaml"))
    assert (config.num_machines, config.num_processes) == (machines, processes)


def test_two_processes_on_a_cpu_by_their_launch_file(given, tmp_path, undisturbed):
    """accelerate starts two, which it does not for its own type MULTI_CPU; they train what two processes train."""
    file, port = ROOT / "launch" / "cpu.yaml", str(free_port())
    command = ["accelerate.commands.accelerate_cli", "launch", "--config_file", file, "--main_process_port", port]
    where = ["-m", "distilnb", "distil", *given, "--out", tmp_path / "run", "--name", "run"]
    subprocess.run([sys.executable, "-m", *command, *where], check=True, timeout=SLOW)
    assert outcome(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("script", ["slurm.sh", "torchrun.sh"])
def test_launch_scripts_are_shell(script):
    subprocess.run(["bash", "-n", ROOT / "launch" / script], check=True)
