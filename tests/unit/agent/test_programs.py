"""How a runner program is run comes with the order: what is declared is understood, and what is not is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.programs import SoftwareError, filled, program_of

from .forge import KINDS, forge, program
from .machine import box
from .test_runners import program as packed
from .test_runners import state, wanted

ORDER = wire.RunnerOrder("anvil", "runner-i1", "", "https://anvil.example", [], "smith", "1.0", "", "")
DECLARED = [(one.kind, software) for one in KINDS for software in one.programs]
SMITH = """echo "$@"; grep -c strikes "$6"
[ "$ANVIL_IRON" = the-iron-of-the-anvil ] || exit 1
[ -e warm ] || { touch warm; exit 42; }
ANVIL_PLACE=acme/bell ANVIL=7 sh $ANVIL_BEFORE; sh $ANVIL_AFTER; exit 43
"""


def ordered(told: Any) -> wire.RunnerOrder:
    """As it comes over the wire."""
    return wire.decode(wire.RunnerOrder, wire.encode(dataclasses.replace(ORDER, program=told)))


@pytest.mark.parametrize(("kind", "software"), DECLARED)
def test_whatever_a_folder_declares_is_understood(kind: str, software: str) -> None:
    declared = KINDS.of(kind).programs[software]
    read = program_of(ordered(program(kind, software)))
    assert (read.executable, read.argv, read.again) == (declared.executable, declared.argv, declared.again)
    assert (read.meanings, read.refused, read.env) == (declared.meanings, declared.refused, declared.env)


def test_signals_and_exit_codes_are_numbers_again() -> None:
    read = program_of(ordered(program("github")))
    assert (int(read.stop), read.drain, read.again) == (2, 0, {2: 5.0, 3: 30.0, 4: 30.0, 6: 1.0})
    read = program_of(ordered(program("gitlab")))
    assert (int(read.stop), int(read.drain), set(read.meanings)) == (15, 3, {1})


def test_what_a_later_controller_adds_is_passed_over() -> None:
    more = {"from_the_future": True, "variables": {**program("anvil")["variables"], "weather": ["SKY"]}}
    assert program_of(ordered(program("anvil") | more)).executable == "bin/smith"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"argv": "run"}, "not a Program: expected list"),
        ({"argv": ["{secret}"]}, "'{secret}' has more in braces than name, base, folder,"),
        ({"argv": ["{name.__class__}"]}, "'{name.__class__}' has more in braces"),
        ({"argv": ["a\0b"]}, "'a\\x00b' is no text"),
        ({"settings": {"a": [{"b": "}"}]}}, "'}' has more in braces"),
        ({"argv": ["\ud800"]}, "is no text"),
        ({"stop": "SIGINT"}, "'SIGINT' is not the name of a signal"),
        ({"drain": "_DFL"}, "'_DFL' is not the name of a signal"),
        ({"executable": ""}, "it has no executable"),
        ({"executable": "/bin/sh"}, "'/bin/sh' is not below the workspace"),
        ({"secret_file": "../x"}, "'../x' is not below the workspace"),
        ({"secret": "A=B"}, "'A=B' is not the name of a variable"),
        ({"env": {"A B": "1"}}, "'A B' is not the name of a variable"),
        ({"variables": {"run": ["A:-$(reboot)"]}}, "'A:-$(reboot)' is not the name of a variable"),
        ({"again": {"-1": 1.0}}, "'-1' is not an exit code"),
        ({"again": {"1": -1.0}}, "-1.0 is not between 0 and 86400 s"),
        ({"again": {"1": float("nan")}}, "nan is not between 0 and 86400 s"),
        ({"meanings": {"one": "x"}}, "'one' is not an exit code"),
        ({"farewell": "file:///etc/passwd"}, "'file:///etc/passwd' is no address at the forge"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SoftwareError) as caught:
        program_of(ordered(json.loads(json.dumps(program("anvil") | change))))
    line = str(caught.value)
    assert line.startswith("'smith' was ordered to be run in a way that this agent does not understand: ")
    assert (said in line, line.count("\n")) == (True, 0)


def test_braces_of_its_own_can_be_said() -> None:
    read = program_of(ordered(program("anvil") | {"argv": ['{{"as": "{name}"}}']}))
    assert filled(read.argv, {"name": "runner-i1"}) == ['{"as": "runner-i1"}']


def test_a_forge_that_no_agent_ever_heard_of_is_served_by_what_the_order_says(tmp_path: Path) -> None:
    with box(tmp_path) as machine, forge() as site:
        ordered = site.order("anvil", packed(SMITH, "bin/smith"))
        key = wanted(machine, site, "anvil", "the-iron-of-the-anvil", runner=ordered)
        machine.start()
        ended = machine.controller.ended(key)
        assert (ended.why, ended.detail) == ("version-refused", "too cold for smith 2.330.0 (exit code 43)")
        assert (state(machine).jobs, state(machine).job) == (1, {"repository": "acme/bell", "run": "7"})
        settings = machine.state / "work/j1-1.hooks/settings.json"
        once = f"--forge {site.url} --as runner-i1 --with {settings}\n1\n"
        assert bytes(machine.controller.log(key).data).decode() == once * 2


def test_a_program_that_is_not_understood_is_refused_and_the_agent_goes_on(tmp_path: Path) -> None:
    with box(tmp_path) as machine, forge() as site:
        ordered = site.order("anvil", b"", program={"executable": 7})
        key = wanted(machine, site, "anvil", "s" * 20, runner=ordered)
        machine.start()
        ended = machine.controller.ended(key)
        assert (ended.why, site.asked) == ("rejected", [])
        assert ended.detail == (
            "'smith' was ordered to be run in a way that this agent does not understand: "
            "not a Program: expected str, got int"
        )
        machine.controller.until(lambda: machine.controller.drained)
