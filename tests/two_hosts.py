"""Two machines in one: network namespaces joined by a cable (a veth pair), each with its own name, address and disk.

A process in them sees its host's network alone; `/etc/hosts` names both, and each has a folder of its own, as two
machines without a shared disk have it. Needs root and iproute2.
"""

import ctypes
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cutting import CONTEXT


@dataclass(frozen=True)
class Host:
    """One of the machines: its namespace is called `name`, its end of the cable `wire`, its disk is `disk`."""

    name: str
    address: str
    disk: Path
    addresses: Path

    @property
    def wire(self) -> str:
        """The network interface."""
        return f"{self.name[-8:]}-w"

    def launch(self, argv: Sequence[str], log: Path, patience: float = 600.0) -> multiprocessing.Process:
        """Start a launcher on this host, as `start_launcher` does."""
        return start_launcher(argv, log, patience, self)

    def kill(self) -> None:
        """Kill every process of this host, as a power cut does."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True).stdout
        for pid in map(int, pids.split()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def cable(self, plugged: bool) -> None:
        """Pull the cable out, or plug it in."""
        _ip("-n", self.name, "link", "set", self.wire, "up" if plugged else "down")

    def limit(self, megabits: int) -> None:
        """Let no more than this through the cable in a second, from here (0: no limit)."""
        tc = ["tc", "-n", self.name, "qdisc"]
        subprocess.run([*tc, "del", "dev", self.wire, "root"], capture_output=True)
        if megabits:
            burst = max(128, megabits // 8)  # kilobytes that go by at once: those of a millisecond
            shape = ["rate", f"{megabits}mbit", "burst", f"{burst}kb", "latency", "100ms"]
            subprocess.run([*tc, "add", "dev", self.wire, "root", "tbf", *shape], check=True)

    def sent(self) -> int:
        """Bytes that this host has sent over the cable so far."""
        counter = f"/sys/class/net/{self.wire}/statistics/tx_bytes"
        return int(subprocess.run(["ip", "netns", "exec", self.name, "cat", counter], capture_output=True).stdout)


def start_launcher(
    argv: Sequence[str], log: Path, patience: float = 600.0, host: Host | None = None
) -> multiprocessing.Process:
    """Start `distilnb launch`, or `torchrun` or `accelerate launch` where `argv` begins so, and by it processes.

    They are forks of a process that has imported torch already, and that is all that is other: arguments, agents
    and rendezvous are those of the launcher.
    """
    process = CONTEXT.Process(target=live_on, args=(host, [str(word) for word in argv], log, patience))
    process.start()
    return process


def live_on(host: Host | None, argv: list[str], log: Path, patience: float) -> None:
    """The life of a launcher on a host, or on this machine."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import run
    from torch.distributed.launcher import api

    from distilnb.cli import main
    from distilnb.machine import processes

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    os.setsid()
    if host:
        move_to(host)
        os.environ |= {"DISTILNB_HOME": str(host.disk / "home"), "DISTILNB_CACHE": str(host.disk / "cache")}
    multiprocessing.set_start_method("fork", force=True)
    processes.PATIENCE, real = patience, api.elastic_launch

    def forked(config: api.LaunchConfig, entrypoint: str) -> Callable:
        config.start_method = "fork"
        return lambda *command: real(config, run_command)(list(command[command.index("distilnb") + 1 :]))

    api.elastic_launch = run.elastic_launch = forked
    if argv[0] == "torchrun":
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # as in launch/torchrun.sh
        run.main(argv[1:])
    elif argv[:2] == ["accelerate", "launch"]:
        launch_command(launch_command_parser().parse_args(argv[2:]))
    else:
        sys.exit(main.main(["launch", "--patience", str(patience), *argv]))


def move_to(host: Host) -> None:
    """Let this process see the network, the name and the `/etc/hosts` of a host."""
    libc, uts, mounts = ctypes.CDLL(None, use_errno=True), 0x04000000, 0x00020000
    network = os.open(f"/run/netns/{host.name}", os.O_RDONLY)
    if libc.setns(network, 0x40000000) or libc.unshare(uts | mounts):
        raise OSError(ctypes.get_errno(), "this process cannot move to the host")
    socket.sethostname(host.name)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", str(host.addresses), "/etc/hosts"], check=True)


def run_command(argv: list[str]) -> None:
    """One process of the run."""
    import torch

    from distilnb.cli import main

    torch.set_num_threads(1)
    sys.exit(main.main(argv))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def possible() -> str:
    """Why no hosts can be made here; nothing when they can."""
    if os.geteuid() or not shutil.which("ip"):
        return "two hosts need root and Debian's iproute2"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True)
    return tried.stderr.strip() and f"this kernel gives no namespaces ({tried.stderr.strip()})"


@contextmanager
def two_hosts(root: Path) -> Iterator[tuple[Host, Host]]:
    """Make the two, cable plugged in; with the end of the block their processes and they are gone."""
    key = f"{os.getpid():x}"
    addresses = root / "addresses"
    ends = (("a", "10.77.0.1"), ("b", "10.77.0.2"))
    made = [Host(f"{end}{key}", address, root / f"disk-{end}", addresses) for end, address in ends]
    addresses.write_text("127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}\n" for host in made))
    try:
        for host in made:
            host.disk.mkdir(exist_ok=True)
            _ip("netns", "add", host.name)
        one, other = made
        _ip("link", "add", one.wire, "netns", one.name, "type", "veth", "peer", "name", other.wire, "netns", other.name)
        for host in made:
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.wire)
            _ip("-n", host.name, "link", "set", "lo", "up")
            host.cable(plugged=True)
        yield one, other
    finally:
        for host in made:
            if host.name in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout:
                host.kill()
                _ip("netns", "del", host.name)


def ended(jobs: Sequence[multiprocessing.Process], seconds: float) -> list[int | None]:
    """Wait for launchers; their exit statuses, None for one that had to be killed after `seconds`."""
    until = time.monotonic() + seconds
    for job in jobs:
        job.join(max(0.1, until - time.monotonic()))
    statuses = [job.exitcode for job in jobs]
    for job in jobs:
        job.kill()
        job.join()
    return statuses
