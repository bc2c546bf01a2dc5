"""What a job that is to be a runner may ask for: a refusal says what was wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.domain.errors import InvalidRequest
from provisioner.domain.job import JobSpec, RunnerSpec
from provisioner.forges.registry import known
from provisioner.web.runner_spec import check_runner

GOOD = RunnerSpec("https://github.com/acme/vision", "github", ("run-7",), online_within_s=1230.0)


def of(runner: RunnerSpec) -> JobSpec:
    return JobSpec(run=(), kind="ci-runner", runner=runner)


def test_what_a_launch_asks_for_is_taken() -> None:
    check_runner(of(GOOD), known())
    check_runner(of(replace(GOOD, online_within_s=None)), known())


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        (replace(GOOD, jobs="some"), "spec.runner.jobs: 'some' is neither one nor many"),
        (replace(GOOD, labels=()), "spec.runner.labels: give 1 to 100 labels"),
        (replace(GOOD, idle_s=0.0), "spec.runner.idle_s: 0.0 is not above zero"),
        (replace(GOOD, online_within_s=0.0), "spec.runner.online_within_s: 0.0 is not above zero"),
        (replace(GOOD, online_within_s=float("inf")), "spec.runner.online_within_s: inf is not above zero"),
    ],
)
def test_what_cannot_be_is_refused(runner: RunnerSpec, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_runner(of(runner), known())
    assert refused.value.message == said
