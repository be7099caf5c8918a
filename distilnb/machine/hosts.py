"""Several hosts that run as one: each starts torchrun's agent, and all start again when a process or host is lost.

    distilnb launch --hosts 2 --processes 8 --head node1:29400 -- distil --scale paper        on each of the two

The agents meet at a port of the first host and start the processes. When a process, a host or the cable fails, all end
and meet again, and the run goes on from its last checkpoint; input that a process refused (status 2) ends it at once.
"""

import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass
from functools import partial
from types import FrameType

import psutil

from .processes import die_with_the_parent

REFUSED, LOST, ALONE = 2, 75, 76  # exit statuses: bad input; a process or host was lost; the hosts did not meet
FREED = 10.0  # seconds until the port of a killed launcher is free again
GRACE = 5.0  # seconds for torch to give up by itself


@dataclass(frozen=True)
class Meeting:
    """The number of hosts, their meeting place, the processes on each, the restarts, and the patience in seconds."""

    hosts: int
    processes: int
    head: str
    restarts: int
    patience: float

    def __post_init__(self) -> None:
        for name in ("hosts", "processes", "patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name} is {getattr(self, name)}; it must be above 0")
        if not self.port.isdecimal() or not 0 < int(self.port) < 2**16:
            raise ValueError(f"--head is '{self.head}'; give the first host and a port, such as node1:29400")

    @property
    def name(self) -> str:
        """The first host, as it was given."""
        return self.head.rpartition(":")[0]

    @property
    def port(self) -> str:
        """The port where the hosts meet."""
        return self.head.rpartition(":")[2]

    def address(self) -> str:
        """The numeric address of the first host; ValueError for a name that this host does not know."""
        try:
            return socket.gethostbyname(self.name)
        except OSError as error:
            raise ValueError(
                f"{socket.gethostname()} knows no host '{self.name}' ({error.strerror}): mend --head, or its /etc/hosts"
            ) from error


def is_here(address: str) -> bool:
    """Whether an address belongs to this host, tested by listening at it."""
    with socket.socket() as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            return False
    return True


def check_head(meeting: Meeting, seconds: float) -> None:
    """Raise ValueError when the head's port is taken, or when this host cannot reach it within `seconds`."""
    address, until, reason = meeting.address(), time.monotonic() + seconds, None
    here = is_here(address)
    until = min(until, time.monotonic() + FREED) if here else until
    while reason is None or time.monotonic() < until:
        try:
            if here:
                with socket.create_server((address, int(meeting.port))):
                    return
            with socket.create_connection((address, int(meeting.port)), timeout=min(5.0, seconds)):
                return
        except OSError as error:
            reason = error
            time.sleep(0.5)
    if here:
        raise ValueError(
            f"port {meeting.port} of this host, {meeting.name}, is taken ({reason.strerror}): end what uses it, or "
            "choose another --head on all hosts"
        )
    raise ValueError(
        f"{socket.gethostname()} has not reached {meeting.head} for {seconds:.0f} s ({reason}): start the same command "
        "there, or mend --head or what lies between (cable, firewall)"
    )


def choose_network(meeting: Meeting) -> str:
    """Set gloo's and NCCL's network device unless the environment names one, and return this host's address on it.

    The device is set because both would look up the host's name, which many systems map to the loopback device.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # it sends nothing, but knows the way to the head
        probe.connect((meeting.address(), int(meeting.port)))
        address = probe.getsockname()[0]
    networks = psutil.net_if_addrs().items()
    device = next((name for name, ways in networks if any(way.address == address for way in ways)), None)
    if device and meeting.hosts > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", device)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", device)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // meeting.processes)))
    os.environ["DISTILNB_PATIENCE"] = str(meeting.patience)
    return address


def attempt(meeting: Meeting, address: str, command: list[str]) -> None:
    """Meet, run the command in all processes, and exit with a status: 0, REFUSED, LOST, ALONE or 128 + a signal."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    die_with_the_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the launcher's own handlers do not suit its processes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    waits = {"join_timeout": round(meeting.patience), "read_timeout": round(min(60, meeting.patience))}
    config = LaunchConfig(
        min_nodes=meeting.hosts,
        max_nodes=meeting.hosts,
        nproc_per_node=meeting.processes,
        run_id="distilnb",
        rdzv_backend="c10d",
        rdzv_endpoint=meeting.head,
        rdzv_configs=waits | {"is_host": is_here(meeting.address()), "last_call_timeout": 1},
        max_restarts=0,
        monitor_interval=0.2,
        local_addr=address,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "distilnb", *command)
    except ChildFailedError as error:
        sys.exit(REFUSED if any(f.exitcode == REFUSED for f in error.failures.values()) else LOST)
    except RendezvousError:
        sys.exit(ALONE)
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
    except (RuntimeError, OSError):  # the head went away while its agent was being asked
        sys.exit(LOST)


def _pass_on(agent: multiprocessing.Process, number: int, frame: FrameType | None) -> None:
    os.kill(agent.pid, number)


def watched(agent: multiprocessing.Process, until: float, patience: float) -> int:
    """The exit status of an agent, which is killed when no process has started by `until` (ALONE) or when none has
    been left for longer than `patience` (LOST).

    The watch is needed because torch waits for ever when another program listens at the port, and when the cable to
    the first host is cut.
    """
    started = False
    while agent.exitcode is None:
        agent.join(1.0)
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(agent.pid).children()
            if any(child.status() != psutil.STATUS_ZOMBIE for child in children):  # dead, and not yet noticed
                started, until = True, time.monotonic() + patience + GRACE
        if time.monotonic() > until:
            agent.kill()
            agent.join()
            return LOST if started else ALONE
    return agent.exitcode


def launch(meeting: Meeting, command: list[str]) -> int:
    """Run a distilnb command on all hosts, start it again after each loss, and return its exit status.

    Raises ValueError when this host cannot take part, and RuntimeError when the other hosts stay away longer than
    `patience` or when more than `restarts` attempts have failed.
    """
    check_head(meeting, meeting.patience)
    address = choose_network(meeting)
    importlib.import_module("torch.distributed.launcher.api")  # once for all attempts
    fork = multiprocessing.get_context("fork")
    failures, until = 0, time.monotonic() + meeting.patience
    while True:
        agent = fork.Process(target=attempt, args=(meeting, address, command))
        agent.start()
        signal.signal(signal.SIGTERM, partial(_pass_on, agent))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on the terminal reaches the agent directly
        status = watched(agent, until + GRACE, meeting.patience)
        if status not in (LOST, ALONE):
            return status
        if status == LOST:
            failures, until = failures + 1, time.monotonic() + meeting.patience
        if failures > meeting.restarts:
            raise RuntimeError(
                f"{failures} attempts have failed, more than --restarts {meeting.restarts}; see above why"
            )
        if time.monotonic() > until:
            raise RuntimeError(
                f"fewer than {meeting.hosts} hosts came to {meeting.head} within {meeting.patience:.0f} s: start the "
                "same command on each of the others, or say how many there are with --hosts"
            )
        print(f"distilnb: {socket.gethostname()} meets the other hosts again", file=sys.stderr, flush=True)
        time.sleep(1)
        if not is_here(meeting.address()):
            try:
                check_head(meeting, max(1.0, until - time.monotonic()))
            except ValueError as error:  # the head was reached before, so the user's input is right
                raise RuntimeError(str(error)) from error


def main(argv: list[str]) -> None:
    """Run a command in several processes, on this host or several: start the same on each host.

    The hosts meet at a port of the first one. When a process, a host or the cable fails, all end, meet again, and the
    run goes on from its last checkpoint; what a process refuses (status 2) ends it at once. Hosts need no shared disk.
    With --dry-run behind `distil`, what the run would be is printed at once, by any one of them.

    examples:
      distilnb launch --processes 8 -- distil --scale paper
      distilnb launch --hosts 2 --processes 8 --head node1:29400 -- distil --scale paper         on each of the two
    """
    own, command = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = ArgumentParser(
        prog="distilnb launch", description=main.__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=1, help="hosts that take part (default: 1)")
    parser.add_argument("--processes", type=int, default=1, help="processes on each, one a GPU (default: 1)")
    parser.add_argument("--head", default="localhost:29400", help="the first and a port (default: localhost:29400)")
    parser.add_argument("--restarts", type=int, default=100, help="failures after which it gives up (default: 100)")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds to wait for a host (default: 600)")
    options = parser.parse_args(own)
    if not command:
        raise ValueError("launch what? Put -- and a command behind the options, such as -- distil --scale toy")
    meeting = Meeting(**vars(options))
    if "--dry-run" in command or "--dry_run" in command:  # counts from configurations: no other host is needed
        in_all = {"WORLD_SIZE": str(meeting.hosts * meeting.processes)}
        os.execve(sys.executable, [sys.executable, "-m", "distilnb", *command], os.environ | in_all)
    sys.exit(launch(meeting, command))
