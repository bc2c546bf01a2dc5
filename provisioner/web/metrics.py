"""Prometheus metrics, gathered when they are asked for. The library is imported then, not before."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from provisioner.domain.job import InstancePhase, JobPhase

from .health import Health
from .services import Services

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OPEN = (JobPhase.QUEUED, JobPhase.RUNNING, JobPhase.HELD)
_LIVE = tuple(phase for phase in InstancePhase if phase is not InstancePhase.GONE)


async def exposition(services: Services, health: Health) -> bytes:
    from prometheus_client import CollectorRegistry, Gauge, generate_latest
    from prometheus_client.core import CounterMetricFamily

    registry = CollectorRegistry()

    def gauge(name: str, what: str, value: float) -> None:
        Gauge(f"runner_{name}", what, registry=registry).set(value)

    def by_phase(name: str, what: str, counts: dict[str, int]) -> None:
        family = Gauge(f"runner_{name}", what, ["phase"], registry=registry)
        for phase, count in counts.items():
            family.labels(phase).set(count)

    jobs = Counter(job.phase for job in await services.store.jobs.find(phases=_OPEN, limit=1_000_000))
    instances = await services.store.instances.find(limit=1_000_000)
    phases = Counter(instance.phase for instance in instances)
    prices = (instance.offer.usd_per_hour or Decimal(0) for instance in instances)
    by_phase("jobs", "Jobs short of done, by phase", {phase: jobs[phase] for phase in _OPEN})
    by_phase("instances", "Instances short of gone, by phase", {phase: phases[phase] for phase in _LIVE})
    gauge("usd_per_hour", "Known hourly prices of all instances short of gone", float(sum(prices, Decimal(0))))
    age_s = health.last_pass_age_s()
    gauge("last_pass_age_seconds", "Age of the engine's last good pass", float("nan") if age_s is None else age_s)
    gauge("oldest_waiting_seconds", "How long the oldest queued job has waited", await health.oldest_waiting_s())

    paused = Gauge("runner_paused", "Clouds, and forges, at which nothing is launched", ["what"], registry=registry)
    for what in services.paused():
        paused.labels(what).set(1)

    waiting = services.demand.waiting()
    gauge("ci_jobs_queued", "CI jobs that wait for a runner of a pool", waiting.jobs)
    gauge("ci_jobs_oldest_seconds", "How long the oldest of them has waited", waiting.oldest_s)
    ages = Gauge("runner_ci_source_age_seconds", "Since a source of CI jobs last worked", ["source"], registry=registry)
    for source in waiting.sources:
        ages.labels(source.name).set(float("nan") if source.age_s is None else source.age_s)

    class Totals:
        def collect(self) -> list[CounterMetricFamily]:
            traffic = services.traffic
            return [
                CounterMetricFamily("runner_log_bytes", "Bytes of logs received from agents", value=traffic.log_bytes),
                CounterMetricFamily("runner_syncs", "Syncs answered to agents", value=traffic.syncs),
            ]

    registry.register(Totals())
    return generate_latest(registry)
