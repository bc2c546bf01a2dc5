"""The wire's messages and what they mean here, each way; what cannot be meant is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import datetime
from typing import Any, TypeVar

from starlette.responses import Response

from agent import wire
from provisioner.domain import strict_json
from provisioner.domain.errors import InvalidRequest, NotFound
from provisioner.domain.facts import AttemptReport, GpuEvent, Report, RunnerTold
from provisioner.domain.handing import HandedOver, HandOver
from provisioner.domain.ports import LogSpan
from provisioner.domain.program import Program

from ..grants import Granted
from ..submit import JOB_ID

PROTOCOL = wire.PROTOCOL
T = TypeVar("T")

_MOST_GPU_EVENTS, _MOST_FACTS = 100, 20
_LONGEST_TEXT, _LONGEST_NAME = 4000, 300
_OLDEST_READING_S = 30 * 86400.0


def decoded(kind: type[T], body: bytes) -> T:
    """Raises: InvalidRequest."""
    try:
        message = wire.build(kind, strict_json.loads(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"not a {kind.__name__}: {str(error)[:200]}") from error
    if not dataclasses.is_dataclass(message):
        raise InvalidRequest(f"not a {kind.__name__}")
    return message


def answer(message: Any) -> Response:
    return Response(wire.encode(message), media_type="application/json")


def check_protocol(number: int) -> None:
    if number not in (PROTOCOL, PROTOCOL - 1):
        raise InvalidRequest(f"this controller speaks protocol {PROTOCOL}, not {number}")


def report_of(message: wire.Sync, now: datetime) -> Report:
    return Report(
        heard_at=now,
        boot_id=message.boot_id[:200],
        healthy=message.healthy,
        unhealthy_why=message.unhealthy_why[:_LONGEST_TEXT],
        unhealthy_code=message.unhealthy_code[:80],
        drained=message.drained,
        notice=message.notice[:_LONGEST_TEXT],
        attempts=tuple(_attempt_report(told) for told in message.attempts),
        unsent_bytes=message.unsent_bytes,
        sequence=message.sequence,
        handed_over=_handed_over(message.handed_over),
    )


def _handed_over(said: wire.HandedOver | None) -> HandedOver | None:
    if said is None:
        return None
    one = said.order
    order = HandOver(one.job, one.number, one.idle_s, one.lifetime_s, one.job_s, one.grace_s)
    return HandedOver(order, said.runner[:_LONGEST_NAME], said.on_end[:40])


def hand_over_of(order: HandOver | None) -> wire.HandOver | None:
    if order is None:
        return None
    return wire.HandOver(order.job_id, order.number, order.idle_s, order.lifetime_s, order.job_s, order.grace_s)


def _attempt_report(told: wire.AttemptState) -> AttemptReport:
    if not JOB_ID.fullmatch(told.job) or told.number < 1:
        raise InvalidRequest("an attempt names a job and a number from 1")
    complete = {"results_complete": told.results_complete, "log_complete": told.log_complete}
    return AttemptReport(
        told.job,
        told.number,
        told.phase[:40],
        told.exit_code,
        told.why[:80],
        told.detail[:_LONGEST_TEXT],
        told.log_size,
        {**told.facts, **complete},
        tuple(_gpu_event(one) for one in told.gpu_events[:_MOST_GPU_EVENTS]),
        _runner_told(told.runner),
    )


def _runner_told(told: wire.RunnerState | None) -> RunnerTold | None:
    if told is None:
        return None
    job = {key[:40]: text[:_LONGEST_NAME] for key, text in list(told.job.items())[:_MOST_FACTS]}
    return RunnerTold(told.phase[:40], max(0.0, told.idle_s), max(0, told.jobs), job)


def _gpu_event(told: wire.GpuEvent) -> GpuEvent:
    return GpuEvent(told.what[:40], told.gpu[:80], told.code[:40], told.message[:_LONGEST_TEXT])


def unpacked(body: bytes, offset: int) -> tuple[list[LogSpan], memoryview]:
    """Raises: InvalidRequest unless the spans cover the bytes from `offset` on without a gap."""
    try:
        spans, data = wire.unpack_log(body)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    expected = offset
    for start, length, stream, at in spans:
        if start != expected or stream not in (wire.STDOUT, wire.STDERR) or not math.isfinite(at):
            raise InvalidRequest("the log's index has a gap, or an unknown stream")
        expected += length
    return [LogSpan(*span) for span in spans], data


def reading(row: list[Any]) -> tuple[float, dict[str, Any]]:
    match row:
        case [int() | float() as ago_s, dict() as values] if 0 <= ago_s <= _OLDEST_READING_S:
            return float(ago_s), values
    raise InvalidRequest("a reading is [seconds ago, {...}]")


def attempt_number(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise NotFound("no such attempt")
    return int(text)


def grant_of(one: Granted) -> wire.Grant:
    return wire.Grant(
        one.key,
        one.url,
        one.method,
        dict(one.headers),
        one.exists,
        one.size,
        one.sha256,
        one.part_size,
        list(one.parts),
        one.upload_id,
    )


def program_told(program: Program | None) -> dict[str, Any]:
    """What an order says of how its program is run, as `wire.Program` has it: JSON has texts for keys, and lists. {}
    where nothing is known of that."""
    told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(program))) if program is not None else {}
    return told
