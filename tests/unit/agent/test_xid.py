"""Error reports of the driver in the kernel's log: whom they speak against, and that none is read twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.xid import KernelLog, Xid, parsed

LINE = "NVRM: Xid (PCI:0000:00:1e): "


@pytest.mark.parametrize(
    ("line", "xid"),
    [
        (
            f"{LINE}79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            Xid(79, "PCI:0000:00:1e", "GPU has fallen off the bus."),
        ),
        (f"{LINE}45, pid=12, name=python, Ch 00000008", Xid(45, "PCI:0000:00:1e", "Ch 00000008")),
        (f"{LINE}62, 223b6a66 00002100", Xid(62, "PCI:0000:00:1e", "223b6a66 00002100")),
        ("NVRM: Xid (0000:01:00): 31, Ch 0000000b", Xid(31, "0000:01:00", "Ch 0000000b")),
        ("NVRM: GPU 0000:00:1e.0: RmInitAdapter failed!", None),
    ],
)
def test_a_report_is_recognised(line: str, xid: Xid | None) -> None:
    assert parsed(line) == xid


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68, 109])
def test_what_an_application_can_cause_speaks_against_no_machine(number: int) -> None:
    assert (Xid(number, "g").fatal, Xid(number, "g").suspicious) == (False, False)


@pytest.mark.parametrize("number", [46, 48, 62, 64, 74, 79, 94, 95, 110, 119, 120, 136, 140, 143, 156, 158])
def test_a_gpu_that_is_gone_or_must_be_reset_speaks_against_its_machine(number: int) -> None:
    assert (Xid(number, "g").fatal, Xid(number, "g").suspicious) == (True, True)


@pytest.mark.parametrize("number", [63, 92, 32, 155])
def test_others_speak_only_against_a_machine_on_which_nothing_has_run(number: int) -> None:
    assert (Xid(number, "g").fatal, Xid(number, "g").suspicious) == (False, True)


@pytest.mark.parametrize(("action", "fatal"), [("0x0 (None)", False), ("0x1 (GPU Reset Required)", True)])
def test_the_drivers_own_recovery_action_is_believed(action: str, fatal: bool) -> None:
    xid = parsed(f"{LINE}154, GPU recovery action changed from 0x2 (Node Reboot Required) to {action}")
    assert xid is not None
    assert (xid.fatal, xid.suspicious) == (fatal, fatal)


def test_no_record_is_read_twice_and_none_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text("6,1,10,-;one\n SUBSYSTEM=usb\n4,2,20,-;two; and more\n")
    log = KernelLog(str(path))
    assert log.new() == ["one", "two; and more"]
    with path.open("a") as file:
        file.write("4,3,30,-;thr")
        file.flush()
        assert log.new() == []
        file.write("ee\n")
    assert log.new() == ["three"]
    assert KernelLog(str(path), position=2).new() == ["three"]
    assert KernelLog(str(tmp_path / "none")).new() == []
