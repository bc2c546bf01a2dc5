"""The agent's configuration for one machine, from the policy. The only secret in it is the single-use join token."""

from __future__ import annotations

from agent.wire import AgentConfig
from provisioner.domain.gpu import Gpu
from provisioner.domain.policy import Policy

# How a machine ends, by provider. No default: powering off a computer that we did not rent is never an option.
ON_END = {"local": "exit", "hosts": "exit", "aws": "poweroff"}
USER = "runner"  # whom jobs run as on a machine that is ours alone


def agent_config(
    *,
    instance: str,
    name: str,
    provider: str,
    urls: list[str],
    join_token: str,
    idle_s: float,
    lifetime_s: float,
    policy: Policy,
    gpu: Gpu | None = None,
    ca_pem: str = "",
) -> AgentConfig:
    """`idle_s` and `lifetime_s` are the controller's limits; the agent's own are longer, so that it acts second.

    `gpu` is what the offer says that the machine has. `ca_pem` is the one authority that the controller's certificate
    may be of; "" for those that the machine trusts."""
    return AgentConfig(
        instance=instance,
        name=name,
        urls=urls,
        join_token=join_token,
        on_end=ON_END[provider],
        provider=provider,
        ca_pem=ca_pem,
        boot_deadline_s=policy.boot_timeout_s,
        idle_s=idle_s + policy.agent_idle_s,
        lifetime_s=lifetime_s + policy.drain_s,
        silence_s=policy.agent_silence_s,
        orphan_s=policy.orphan_s,
        hold_unsent_s=policy.hold_unsent_s,
        poll_s=policy.agent_poll_s,
        answer_s=policy.agent_answer_s,
        gpu_name=gpu.name if gpu else "",
        gpu_count=gpu.count if gpu else 0,
        gpu_memory_gb=gpu.memory_gb if gpu else 0.0,
        user=USER if ON_END[provider] == "poweroff" else "",
    )
