"""Which work a machine that is there may be given."""

from __future__ import annotations

from dataclasses import replace

from provisioner.domain.job import Need
from provisioner.engine.scene import fits

from .test_attempts import trial

MACHINE = trial().instance


def test_a_machine_is_its_owners_for_good() -> None:
    """What one owner's job left on it is no other's to find, with sudo or without."""
    assert fits("ada", Need(), MACHINE)
    assert not fits("bob", Need(), MACHINE)
    assert not fits("bob", Need(), replace(MACHINE, planned_for=""))


def test_an_image_that_was_asked_for_is_the_one_that_is_given() -> None:
    assert not fits("ada", Need(image="ami-1"), MACHINE)
    assert fits("ada", Need(image="ami-1"), replace(MACHINE, image="ami-1"))
