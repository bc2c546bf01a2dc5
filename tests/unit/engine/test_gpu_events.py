"""What agents tell of their GPUs again and again is recorded once, whoever was controller before."""

from __future__ import annotations

from pathlib import Path

from agent import wire
from provisioner.domain.facts import AttemptReport, GpuEvent
from provisioner.engine.gpu_events import GpuEvents
from tests.unit.web.served import serve

OFF = GpuEvent("xid", "PCI:0000:00:1e", "79", "the driver reported Xid 79; this machine gets no other job")
HOT = GpuEvent("thermal", "0", "hardware", "GPU 0 was slowed down by heat")


async def test_each_is_recorded_once_and_shown(tmp_path: Path) -> None:
    web = await serve(tmp_path)
    try:
        agent, attempt = await web.running()
        state = wire.AttemptState(attempt.job_id, 1, "running", gpu_events=[wire.GpuEvent("xid", "g", "79", "m")])
        await agent.sync(attempts=[state])
        (report,) = web.desk.reports[attempt.instance_id]
        assert report.attempts[0].gpu_events == (GpuEvent("xid", "g", "79", "m"),)

        events = GpuEvents(web.store, web.services.clock)
        told = AttemptReport(attempt.job_id, 1, "running", gpu_events=(OFF,))
        await events.note(attempt, told)
        await events.note(attempt, told)
        after_a_restart = GpuEvents(web.store, web.services.clock)
        both = AttemptReport(attempt.job_id, 1, "ended", gpu_events=(OFF, HOT, GpuEvent("?", "", "", "")))
        await after_a_restart.note(attempt, both)
        recorded = [one for one in await web.store.records.events(job_id=attempt.job_id) if one.what.startswith("gpu.")]
        assert [(one.what, one.attempt, one.message) for one in recorded] == [
            ("gpu.xid", 1, OFF.message),
            ("gpu.thermal", 1, HOT.message),
        ]
        why = (await web.control.get(f"/api/v1/jobs/{attempt.job_id}/why")).json
        assert f"attempt 1: {OFF.message}" in why["lines"]
        shown = (await web.control.get(f"/api/v1/jobs/{attempt.job_id}")).json
        assert shown["attempts_list"][0]["gpu_events"] == [OFF.message, HOT.message]
    finally:
        await web.close()
