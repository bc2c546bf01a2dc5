"""A loop that crashes is started again; one that returns is left alone."""

from __future__ import annotations

from provisioner.app.watch import watched


async def test_a_crash_is_followed_by_another_start() -> None:
    starts = []

    async def loop() -> None:
        starts.append(len(starts))
        if len(starts) < 3:
            raise RuntimeError("broken")

    heard: list[str] = []
    await watched("probe", loop, heard.append)
    assert starts == [0, 1, 2]
    assert heard == ["probe: broken"] * 2
