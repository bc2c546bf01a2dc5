"""`agent.pyz run STATE`: one agent from start to end. Exit code 0 only when the machine's work is over for good.

Whatever it was doing when it was last killed is on the disk and is gone on with.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time

from . import probes, wire, workload
from .checkpoint import Checkpoints
from .config import ConfigError, Home, load, with_jobs
from .deadman import Deadman
from .ending import Identity, end_machine
from .logs import Logs
from .machine import Machine
from .prepare import Prepare
from .results import Results
from .say import say
from .session import Session
from .tend import Tend

_USAGE, _ALREADY = 2, 3
_KILL_PATIENCE_S = 5.0


def main(state: str, program: list[str]) -> int:
    """0: ended as it ought to; 2: the configuration cannot be used; 3: another agent has this folder; else: again."""
    home = Home(os.path.abspath(state))
    try:
        config = load(home)
        home = with_jobs(home, config)
        home.make()
        lock = os.open(home.file("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ConfigError as error:
        say("config.unusable", error=str(error))
        return _USAGE
    except BlockingIOError:
        say("agent.already_runs", state=state)
        return _ALREADY
    return run(home, config, program)


def run(home: Home, config: wire.AgentConfig, program: list[str]) -> int:
    """Until it is over, or until this process alone is told to end: supervisors then go on, as will the next agent."""
    machine = Machine(home, config, program)
    machine.facts = probes.facts()
    _make_user(machine)
    told: list[int] = []

    def end(number: int, _: object) -> None:
        told.append(number)
        threading.Thread(target=machine.duties.end).start()  # what it interrupts may hold one of their locks just then

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    machine.signals.begin(home.path)
    _add_duties(machine)
    say("agent.started", attempts=[attempt.key for attempt in machine.attempts], pid=os.getpid())
    machine.duties.start()
    machine.duties.wait()
    if not machine.ending:
        return 128 + told[0]
    _kill_all(machine)
    say("agent.ended", why=machine.ending)
    end_machine(home, config)
    return 0


def _make_user(machine: Machine) -> None:
    """Whom jobs run as; without one this machine is of no use."""
    if not machine.config.user:
        return
    from .account import AccountError, make

    try:
        account = make(machine.config.user)
    except (AccountError, OSError) as error:
        say("user.not_made", error=str(error))
        machine.unhealthy, machine.tested = machine.unhealthy or str(error), True
        return
    machine.facts["user"] = account.name


def _add_duties(machine: Machine) -> None:
    duties = machine.duties
    duties.add("deadman", Deadman(machine).run)
    if machine.config.on_end == "poweroff":
        duties.add("identity", Identity(machine.home, machine.config).run)
    if machine.config.gpu_count:
        from .gate import Gate

        duties.add("gate", Gate(machine).run)
    if machine.config.provider == "aws":
        from .notices import Notices

        duties.add("notices", Notices(machine).run)
    duties.add("session", Session(machine).run)
    duties.add("tend", Tend(machine).run)
    duties.add("prepare", Prepare(machine).run)
    duties.add("logs", Logs(machine).run)
    duties.add("results", Results(machine).run)
    duties.add("checkpoints", Checkpoints(machine).run)
    hot = None
    if machine.config.gpu_count or shutil.which(probes.TOOL):
        from .gpu_watch import GpuWatch

        watch = GpuWatch(machine)
        machine.look_at_gpus, hot = watch.look, watch.hot
        duties.add("gpus", watch.run)
    duties.add("probes", probes.Probes(machine, hot).run)


def _kill_all(machine: Machine) -> None:
    """Nothing of any job outlives the machine's end, rented or not."""
    for attempt in machine.attempts:
        if attempt.producing and attempt.living:
            attempt.control("now")
    deadline = time.monotonic() + _KILL_PATIENCE_S
    while time.monotonic() < deadline and any(one.producing and one.living for one in machine.attempts):
        time.sleep(0.01)
    for attempt in machine.attempts:
        if attempt.mark is not None and attempt.living:
            workload.signal_all([attempt.mark["pid"]], signal.SIGKILL)
        workload.kill_attempt(attempt.key)
