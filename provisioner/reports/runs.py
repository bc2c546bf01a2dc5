"""What a job's run was, from the controller's record: cost, time by phase, the machine, its GPUs, interruptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from .found import Found
from .markdown import Section, code, head, row, words

_GIB = 2**30
_BEFORE = ("software_s", "workspace_s", "inputs_s", "checkpoint_s", "setup_s")  # timings of what precedes a command
_OFFERED = ("provider", "zone", "instance_type", "market")


def run_section(found: Found) -> Iterator[Section]:
    """A table of one job."""
    record = found.record or {}
    spec = record.get("spec") or {}
    facts = [
        ("state", words(_state(record))),
        ("command", code(_command(spec))),
        ("cost", _cost(record)),
        ("time", words(_times(record))),
        *(("machine", words(one)) for one in dict.fromkeys(map(_machine, _attempts(record))) if one),
        *(("GPU", words(one)) for one in gpu_use(found.readings)),
        *(("interrupted", words(one)) for one in _interruptions(record)),
        *(("GPU event", words(str(e))) for attempt in _attempts(record) for e in attempt.get("gpu_events") or ()),
    ]
    rows = [row([name, value]) for name, value in facts if value]
    title = f"Run {code(str(record.get('id', '')))}"
    if spec.get("name"):
        title += f" {code(str(spec['name']))}"
    yield Section(title, rows, before=head(["", ""], numbers_from=2), rank=6, noun="line")


def _state(record: Mapping[str, Any]) -> str:
    state = str(record.get("outcome") or record.get("phase") or "")
    reason = record.get("reason") or {}
    detail = str(reason.get("detail") or reason.get("why") or "")
    attempts = int(record.get("attempts") or 0)
    tries = f", attempt {attempts}" if attempts > 1 else ""
    return f"{state}{tries}" + (f": {detail}" if detail else "")


def _command(spec: Mapping[str, Any]) -> str:
    run = spec.get("run") or ""
    return run if isinstance(run, str) else " ".join(map(str, run))


def _cost(record: Mapping[str, Any]) -> str:
    usd = record.get("cost_usd")
    if usd is None:
        return "unknown"
    amount = float(usd)
    shown = f"${amount:.4f}" if 0 < amount < 0.01 else f"${amount:.2f}"
    unknown = " plus an unknown part" if record.get("cost_unknown") else ""
    return f"{shown}{unknown}, estimated"


def _times(record: Mapping[str, Any]) -> str:
    """Waiting first (for its machine: an attempt has begun when its command has, and what was made ready for that has
    times of its own), then what the attempts' timings add up to by phase."""
    spans: dict[str, float] = {}
    attempts = _attempts(record)
    created = record.get("created_at")
    first = attempts[0].get("started_at") if attempts else None
    if created and first:
        waited = (datetime.fromisoformat(first) - datetime.fromisoformat(created)).total_seconds()
        spans["waiting"] = max(0.0, waited - sum(value for name, value in _timings(attempts[0]) if name in _BEFORE))
    for attempt in attempts:
        for name, value in _timings(attempt):
            phase = name.removesuffix("_s").replace("_", " ")
            spans[phase] = spans.get(phase, 0.0) + value
    return ", ".join(f"{phase} {span(seconds)}" for phase, seconds in spans.items() if seconds >= 0.05)


def _timings(attempt: Mapping[str, Any]) -> Sequence[tuple[str, float]]:
    timings = (attempt.get("facts") or {}).get("timings") or {}
    found = timings.items() if isinstance(timings, Mapping) else ()
    return [(str(name), value) for name, value in found if isinstance(value, int | float)]


def _machine(attempt: Mapping[str, Any]) -> str:
    facts = (attempt.get("facts") or {}).get("machine") or {}
    offer = (attempt.get("instance") or {}).get("offer") or {}
    price = offer.get("usd_per_hour")
    parts = [
        " ".join(dict.fromkeys(str(offer[key]) for key in _OFFERED if offer.get(key))),
        f"${price}/h" if price is not None else "",
        _gpus(facts.get("gpus")),
        f"{facts['cpus']} CPUs" if facts.get("cpus") else "",
        str(facts.get("cpu_model") or ""),
        f"{facts['memory_bytes'] / _GIB:.0f} GiB" if isinstance(facts.get("memory_bytes"), int | float) else "",
    ]
    return ", ".join(part for part in parts if part)


def _gpus(found: object) -> str:
    names = [str(one.get("name", "")) for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names) if name)


def gpu_use(readings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a GPU: mean and greatest use, greatest memory, greatest temperature; what was not told is not said."""
    lines = []
    for index in range(max((len(one.get("gpus") or ()) for one in readings), default=0)):
        seen = [one["gpus"][index] for one in readings if len(one.get("gpus") or ()) > index]
        use, memory, heat = (_numbers(seen, key) for key in ("utilization", "used_mib", "celsius"))
        total = _numbers(seen, "memory_mib")
        parts = []
        if use:
            parts.append(f"{sum(use) / len(use):.0f}% used on average, {max(use):.0f}% at most")
        if memory:
            of = f" of {max(total) / 1024:.1f}" if total else ""
            parts.append(f"{max(memory) / 1024:.1f}{of} GiB")
        if heat:
            parts.append(f"{max(heat):.0f} C")
        if parts:
            lines.append(f"{index}: {', '.join(parts)}")
    return lines


def _numbers(seen: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [float(one[key]) for one in seen if isinstance(one.get(key), int | float)]


def _interruptions(record: Mapping[str, Any]) -> Iterator[str]:
    for attempt in _attempts(record):
        if taken := attempt.get("interruption"):
            lived = f" after {span(taken['lived_s'])}" if "lived_s" in taken else ""
            lost = f", {span(taken['lost_s'])} of work lost" if "lost_s" in taken else ""
            yield f"attempt {attempt.get('number')}{lived}{lost}"


def _attempts(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return record.get("attempts_list") or ()


def span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
