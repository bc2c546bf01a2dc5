"""How Anvil's runner program is run: like no other forge's."""

from __future__ import annotations

from provisioner.domain.program import Program

NAME = "smith"
PROGRAMS = {
    NAME: Program(
        executable="bin/smith",
        argv=("--forge", "{base}", "--as", "{name}", "--with", "{settings}"),
        stop="HUP",
        secret="ANVIL_IRON",
        env={"ANVIL_BEFORE": "{started}", "ANVIL_AFTER": "{completed}"},
        settings={"strikes": 1, "work": "{folder}/work"},
        again={42: 0.01},
        meanings={43: "too cold for {software} {version}"},
        refused=(43,),
        at_work=False,
        variables={"repository": ("ANVIL_PLACE",), "run": ("ANVIL_STRIKE", "ANVIL")},
    )
}
