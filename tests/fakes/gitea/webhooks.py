"""What Gitea sends along with a webhook, and of a job. Forgejo has no webhooks of jobs.

Source: docs.gitea.com, usage/webhooks (delivery headers); go-gitea/gitea services/webhook/deliver.go, services/convert
(ToActionsStatus), modules/structs/hook.go, 2026.
"""

from __future__ import annotations

import hashlib
import hmac

from tests.fakes.hooks import Sent

EVENTS = ("workflow_job",)


def headers(one: Sent) -> dict[str, str]:
    """With those of the forges that it is like."""
    of_256 = hmac.new(one.hook.secret.encode(), one.body, hashlib.sha256).hexdigest()
    of_1 = hmac.new(one.hook.secret.encode(), one.body, hashlib.sha1).hexdigest()
    told = {"Content-Type": "application/json", "User-Agent": "Go-http-client/1.1"}
    for family in ("Gitea", "Gogs", "GitHub"):
        told |= {f"X-{family}-Delivery": one.guid, f"X-{family}-Event": one.event, f"X-{family}-Event-Type": one.event}
    told |= {"X-Gitea-Signature": of_256, "X-Gogs-Signature": of_256}
    return {**told, "X-Hub-Signature": f"sha1={of_1}", "X-Hub-Signature-256": f"sha256={of_256}"}
