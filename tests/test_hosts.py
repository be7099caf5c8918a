"""Two hosts with a cable between them: a run crosses it, outlives hosts and cable, and says who is missing.

The hosts are network namespaces with a disk each (see `two_hosts`); elsewhere than as root, these tests are skipped.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from multiprocessing import Process
from pathlib import Path

import psutil
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from conftest import free_port, until
from cutting import Fault, Job, flags, outcome, run
from safetensors.torch import load_file
from transformers import BertConfig, DistilBertConfig
from two_hosts import Host, ended, possible, start_launcher, two_hosts

from distilnb import scales
from distilnb.distillation.estimate import counted
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.machine import hosts, processes
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
def still(still_teacher_folder, text_file) -> tuple[str, ...]:
    """Flags of a run without dropout, but for the rows of a forward pass."""
    return flags(still_teacher_folder, text_file, updates=UPDATES)


@pytest.fixture(scope="module")
def undisturbed(given, tmp_path_factory) -> dict:
    """What two processes of one host come to."""
    job = Job(tmp_path_factory.mktemp("undisturbed") / "run", given, 2)
    assert run(job, SLOW) == [0, 0], job.said()
    return outcome(job.out)


def log(host: Host) -> Path:
    """What is printed on a host."""
    return host.disk / "log"


def distil(given: tuple[str, ...], out: Path) -> list[str]:
    """The words of a run that writes to this folder."""
    return ["distil", *given, "--out", str(out), "--name", "run"]


def launch(pair: tuple[Host, Host], which: int, given: tuple[str, ...], patience: float = 120.0) -> Process:
    """`distilnb launch` on one of the hosts."""
    where = ["--hosts", "2", "--head", f"{pair[0].address}:29400", "--restarts", "3"]
    return pair[which].launch([*where, "--", *distil(given, pair[which].disk / "run")], log(pair[which]), patience)


def asked_of_torchrun(folder: Path, *words: str) -> list[str]:
    """What the launch file asks of torchrun, given these words: the variable that it sets, then the arguments."""
    told = folder / "torchrun"
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$TORCH_DISABLE_SHARE_RDZV_TCP_STORE" "$@"\n')
    told.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PROCESSES": "1"}
    script = ["bash", ROOT / "launch" / "torchrun.sh", *words]
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def trained(host: Host) -> bool:
    """Whether the run has made its first updates."""
    return (host.disk / "run" / "checkpoints" / "latest").exists()


def newest(out: Path) -> dict[str, torch.Tensor]:
    """The weights of the newest checkpoint."""
    return load_file(out / "checkpoints" / (out / "checkpoints" / "latest").read_text() / "model.safetensors")


def said(pair: Sequence[Host]) -> str:
    """What hosts have printed."""
    return "\n".join(log(host).read_text() for host in pair)


@needs_hosts
def test_torchrun_crosses_the_wire_and_starts_a_lost_process_again(pair, given, undisturbed, tmp_path):
    """Process 0 is killed; each host has a disk of its own; weights are those of an undisturbed run, to the bit."""
    jobs = []
    for host in pair:
        _, *words = asked_of_torchrun(tmp_path, pair[0].name, *distil(given, host.disk / "run"))
        jobs.append(host.launch(["torchrun", *words], log(host)))
    until(lambda: all(map(trained, pair)), SLOW)
    (trainer,) = psutil.Process(jobs[0].pid).children()
    trainer.kill()
    assert ended(jobs, SLOW) == [0, 0], said(pair)
    assert "going on from update" in log(pair[0]).read_text(), said(pair)
    assert all(outcome(host.disk / "run") == undisturbed for host in pair)
    weights = next((pair[0].disk / "run" / "checkpoints").glob("step-*/model.safetensors")).stat().st_size
    assert all(host.sent() > UPDATES * weights for host in pair), "gradients crossed the wire"


@needs_hosts
def test_accelerate_crosses_the_wire_by_its_launch_file(pair, given, undisturbed):
    """Two hosts, here with a process each; the record names them."""
    file = ["accelerate", "launch", "--config_file", ROOT / "launch" / "two_nodes.yaml", "--num_processes", "2"]
    jobs = []
    for rank, host in enumerate(pair):
        where = ["--machine_rank", rank, "--main_process_ip", pair[0].name, "-m", "distilnb"]
        jobs.append(host.launch([*file, *where, *distil(given, host.disk / "run")], log(host)))
    assert ended(jobs, SLOW) == [0, 0], said(pair)
    assert all(outcome(host.disk / "run") == undisturbed for host in pair)
    record = json.loads((pair[0].disk / "run" / "model" / "record.json").read_text())
    assert record["worlds"] == [{"step": 0, "processes": 2, "hosts": {host.name: 1 for host in pair}}]


@needs_hosts
def test_two_hosts_compute_what_one_process_does(pair, still, tmp_path):
    """The same batch without dropout, which processes draw for themselves.

    To the bit where one process sums the same halves; of the batch in one pass, sums are taken in another order.
    """
    assert ended([launch(pair, which, (*still, "--micro_batch_size", "4")) for which in (0, 1)], SLOW) == [0, 0]
    halves, whole = (
        Job(tmp_path / name, (*still, "--micro_batch_size", rows)) for name, rows in (("4", "4"), ("8", "8"))
    )
    assert run(halves, SLOW) == run(whole, SLOW) == [0], whole.said()
    assert outcome(pair[0].disk / "run") == outcome(pair[1].disk / "run") == outcome(halves.out)
    assert outcome(whole.out) != outcome(halves.out), "else this says nothing about the tolerance"
    torch.testing.assert_close(newest(pair[0].disk / "run"), newest(whole.out), rtol=0, atol=1e-4)


@needs_hosts
@pytest.mark.parametrize("differing", [("--learning_rate", "1e-4"), ("--text", "other.txt")])
def test_hosts_that_differ_are_named_before_training(pair, given, differing, text_file):
    """On both, with what differs; what was refused is not tried again."""
    (pair[1].disk / "other.txt").write_text(text_file.read_text().replace("a", "e"))
    given = [given, (*given, differing[0], differing[1].replace("other", f"{pair[1].disk}/other"))]
    assert ended([launch(pair, which, given[which]) for which in (0, 1)], SLOW) == [2, 2], said(pair)
    for host in pair:
        assert f"{pair[1].name} is not as {pair[0].name} is" in log(host).read_text()
        assert not trained(host)


def test_other_libraries_are_named_before_the_text_is_prepared(given, tmp_path):
    """By all processes; preparing may take hours."""
    fault = Fault("distilnb.distillation.training.versions", 1, "other libraries", rank=1)
    job = Job(tmp_path / "run", (*given, "--seq_length", "31"), 2, (fault,))
    assert run(job, SLOW) == [2, 2]
    for rank in (0, 1):
        assert "versions.transformers" in job.said(rank)
        assert "tokenizing" not in job.said(rank)


@needs_hosts
@pytest.mark.parametrize("alone", [0, 1])
def test_fewer_hosts_than_promised(pair, given, alone):
    """The one that came says so within its patience."""
    began = time.monotonic()
    assert ended([launch(pair, alone, given, patience=6)], SLOW) == [2 if alone else 1], said(pair[alone : alone + 1])
    assert time.monotonic() - began < SLOW / 4
    assert pair[0].address in log(pair[alone]).read_text().strip().splitlines()[-1]


@needs_hosts
@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_is_lost_and_the_run_goes_on_when_it_is_back(pair, given, undisturbed, lost):
    """A power cut on the host of process 0, or on the other; the launcher of the host that is left needs no hand."""
    jobs = [launch(pair, which, given) for which in (0, 1)]
    until(lambda: all(map(trained, pair)), SLOW)
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
    until(lambda: all(map(trained, pair)), SLOW)
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


def test_a_dry_run_waits_for_no_host(monkeypatch):
    """The command takes the launcher's place, and is told of all the processes that there would be."""

    def execve(program: str, words: list[str], environment: dict[str, str]) -> None:
        raise SystemExit(f"{words[-2:]} {environment['WORLD_SIZE']}")

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(SystemExit, match="--dry-run.* 16"):
        hosts.main(["--hosts", "2", "--processes", "8", "--", "distil", "--dry-run"])


@pytest.mark.parametrize(
    "scale, processes, cost", [("base", 1, "0.2 h on one"), ("paper", 8, "2.4 h on 8"), ("paper", 16, "1.2 h on 16")]
)
def test_costs_in_the_page_are_those_of_a_dry_run(scale, processes, cost):
    recipe = PretrainingConfig(**scales.get(scale).pretraining)
    assert f" {cost} A100" in counted(DistilBertConfig(), BertConfig(), recipe, processes)
    assert f" {cost} |" in (ROOT / "docs" / "hosts.md").read_text()


@pytest.mark.parametrize("name, machines, processes", [("one_gpu", 1, 1), ("eight_gpus", 1, 8), ("two_nodes", 2, 16)])
def test_accelerate_reads_the_launch_files(name, machines, processes):
    config = load_config_from_file(str(ROOT / "launch" / f"{name}.yaml"))
    assert (config.num_machines, config.num_processes) == (machines, processes)


def test_two_processes_on_a_cpu_by_their_launch_file(given, tmp_path, undisturbed):
    """accelerate starts two, which it does not for its own type MULTI_CPU; they train what two processes train."""
    file = ["accelerate", "launch", "--config_file", ROOT / "launch" / "cpu.yaml", "--main_process_port", free_port()]
    job = start_launcher([*file, "-m", "distilnb", *distil(given, tmp_path / "run")], tmp_path / "log")
    assert ended([job], SLOW) == [0], (tmp_path / "log").read_text()
    assert outcome(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("shared, restarts, warned", [("True", "3", True), ("True", "0", False), ("False", "3", False)])
def test_restarts_that_would_ask_for_the_dead_are_announced(monkeypatch, shared, restarts, warned):
    """By process 0 of torchrun, whose agents keep one store for all starts unless they are told otherwise."""
    told = {"RANK": "0", "TORCHELASTIC_MAX_RESTARTS": restarts, "TORCHELASTIC_USE_AGENT_STORE": shared}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.warns(UserWarning, match="torchrun") if warned else contextlib.nullcontext(), processes.meeting():
        pass


@pytest.mark.parametrize("script", ["slurm.sh", "torchrun.sh"])
def test_launch_scripts_are_shell(script):
    subprocess.run(["bash", "-n", ROOT / "launch" / script], check=True)


def test_torchrun_is_told_to_keep_no_store_from_one_start_to_the_next(tmp_path):
    """By its launch file, which hands on what it is given."""
    kept, *words = asked_of_torchrun(tmp_path, "node1", "distil", "--name", "two words")
    assert kept == "1" and words[-4:] == ["distilnb", "distil", "--name", "two words"]
    assert "--rdzv-backend c10d --rdzv-endpoint node1:29400 -m distilnb" in " ".join(words)
