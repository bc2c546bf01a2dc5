"""What GitHub sends along with a webhook."""

from __future__ import annotations

import hashlib
import hmac

from tests.fakes.hooks import Sent

EVENTS = ("workflow_job", "workflow_run")


def headers(one: Sent) -> dict[str, str]:
    digest = hmac.new(one.hook.secret.encode(), one.body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/fake",
        "X-GitHub-Event": one.event,
        "X-GitHub-Delivery": one.guid,
        "X-GitHub-Hook-ID": str(one.hook.id),
        "X-Hub-Signature-256": f"sha256={digest}",
    }
