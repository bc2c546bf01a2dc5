"""What an agent is told to do with one attempt: the order to run it, and how far its log is safe."""

from __future__ import annotations

import structlog

from agent import wire
from provisioner.domain.errors import ForgeError
from provisioner.domain.job import Attempt, AttemptPhase, Instance, Job
from provisioner.domain.ports import WantedAttempt

from ..services import Services
from .messages import program_told

_log = structlog.get_logger()


class Orders:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def ought(self, instance_id: str, one: WantedAttempt, reported: set[tuple[str, int]]) -> wire.AttemptOught:
        job_id, number = one.attempt.job_id, one.attempt.number
        received, safe = 0, 0
        if one.job is not None and one.attempt.instance_id == instance_id:
            received, safe = await self._services.logs.offsets(job_id, number)
        if one.forget:
            await self._services.logs.rest(job_id, number)
        order = None
        if one.job is not None and not one.forget and (job_id, number) not in reported:
            if not await self._is_live(one.attempt):
                return wire.AttemptOught(job_id, number, forget=True)
            order = await self._order_or_none(one.job, one.attempt)
        return wire.AttemptOught(job_id, number, order, one.cancel, one.forget, received, safe)

    async def _is_live(self, attempt: Attempt) -> bool:
        """What runs must be ordered once: where several controllers share the store, the desk may not know yet that
        another has seen the attempt's end."""
        now = await self._services.store.jobs.attempt(attempt.job_id, attempt.number)
        if now.phase is not AttemptPhase.ENDED:
            return True
        self._services.desk.poke()
        return False

    async def _order_or_none(self, job: Job, attempt: Attempt) -> wire.Order | None:
        """None while a forge does not say which program to run: the agent asks again."""
        try:
            return await self._order(job, attempt)
        except ForgeError as error:
            _log.warning("order.waits", attempt=attempt.key, error=error.message)
            return None

    async def _order(self, job: Job, attempt: Attempt) -> wire.Order:
        """All that it takes to run one attempt; the only message with a job's secrets in it."""
        spec, records, policy = job.spec, self._services.store.records, self._services.policy
        secrets = await records.secrets(job.owner, spec.secrets, job_id=job.id) if spec.secrets else {}
        checkpoints = await records.manifests(job.id, "checkpoints") if spec.checkpoint else []
        instance = await self._services.store.instances.get(attempt.instance_id)
        return wire.Order(
            job=job.id,
            number=attempt.number,
            run=spec.run if isinstance(spec.run, str) else list(spec.run),
            setup=spec.setup,
            env={**spec.env, **spec.params},
            shell_env=dict(spec.shell_env) if instance.offer.provider == "local" else {},
            secrets=secrets,
            workspace=spec.workspace.sha256 if spec.workspace else "",
            workspace_size=spec.workspace.size if spec.workspace else 0,
            inputs=[wire.InputOrder(one.source, one.to) for one in spec.inputs],
            outputs=list(spec.outputs),
            outputs_every_s=policy.outputs_every_s,
            checkpoint_path=spec.checkpoint.path if spec.checkpoint else "",
            checkpoint_every_s=spec.checkpoint.every_s if spec.checkpoint else 300.0,
            checkpoint=dict(checkpoints[-1].body) if checkpoints else None,
            timeout_s=spec.timeout_s,
            grace_s=policy.cancel_grace_s,
            tty=spec.tty,
            sudo=spec.sudo,
            log_limit_bytes=spec.log_limit_bytes,
            runner=await self._runner_order(job, attempt, instance) if spec.runner is not None else None,
        )

    async def _runner_order(self, job: Job, attempt: Attempt, instance: Instance) -> wire.RunnerOrder:
        program = await self._services.registrar.program(job, attempt, instance)
        return wire.RunnerOrder(
            forge=str(program.site.kind),
            name=program.name,
            url=program.site.url,
            base=program.site.base,
            labels=list(program.labels),
            software=program.software.name,
            version=program.software.version,
            software_url=program.software.url,
            sha256=program.software.sha256,
            preinstalled=list(program.preinstalled),
            program=program_told(self._services.kinds.program(program.site.kind, program.software.name)),
        )
