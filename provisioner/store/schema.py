"""The tables. Times are UTC seconds (float), money is text, specs and facts are JSON text: the same on both databases.

The partial unique indexes are the last line of S4 and S7: whatever a bug does, the database refuses it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
    text,
)

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("spec", Text, nullable=False),
    Column("phase", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("outcome", String),
    Column("why", String, nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("exit_code", Integer),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("attempts", Integer, nullable=False, default=0),
    Column("failures", Integer, nullable=False, default=0),
    Column("cancel_asked_at", Double),
    Column("cancel_now", Boolean, nullable=False, default=False),
    Index("jobs_phase", "phase", "created_at"),
    Index("jobs_name", "name"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("instance_id", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("assigned_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("exit_code", Integer),
    Column("why", String, nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("results_complete", Boolean, nullable=False, default=False),
    Column("log_complete", Boolean, nullable=False, default=False),
    Column("facts", Text, nullable=False, default="{}"),
)
_live = text("phase <> 'ended'")
Index("one_live_attempt_a_job", attempts.c.job_id, unique=True, sqlite_where=_live, postgresql_where=_live)
Index("one_live_attempt_an_instance", attempts.c.instance_id, unique=True, sqlite_where=_live, postgresql_where=_live)

instances = Table(
    "instances",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("owner", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("offer", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("why", String, nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("planned_for", String, nullable=False, default=""),
    Column("ref", String, nullable=False, default=""),
    Column("launch_calls", Integer, nullable=False, default=0),
    Column("terminate_calls", Integer, nullable=False, default=0),
    Column("created_at", Double, nullable=False),
    Column("phase_at", Double, nullable=False),
    Column("launched_at", Double),
    Column("ready_at", Double),
    Column("gone_at", Double),
    Column("terminated_at", Double),
    Column("stop_asked_at", Double),
    Column("idle_timeout_s", Double),
    Column("max_lifetime_s", Double, nullable=False),
    Column("image", String, nullable=False, default=""),
    Column("disk_gib", Double, nullable=False, default=0),
    Column("reserved_usd_per_hour", String, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("fence", Integer, nullable=False, default=0),
    Column("lease_holder", String, nullable=False, default=""),
    Column("lease_until", Double, nullable=False, default=0),
    Index("instances_due", "phase", "due_at"),
)
_short_of_gone = text("phase <> 'gone' and planned_for <> ''")
Index(
    "one_instance_a_job",
    instances.c.planned_for,
    unique=True,
    sqlite_where=_short_of_gone,
    postgresql_where=_short_of_gone,
)

LIVING = instances.c.phase != literal_column("'gone'")  # no parameter: only so is the index used
# What every plan adds up.
Index(
    "instances_living",
    *(instances.c.owner, instances.c.reserved_usd_per_hour, instances.c.launched_at, instances.c.max_lifetime_s),
    sqlite_where=LIVING,
    postgresql_where=LIVING,
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("what", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("message", Text, nullable=False),
    Column("job_id", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("instance_id", String, nullable=False),
    Column("data", Text, nullable=False),
    Index("events_job", "job_id", "id"),
    Index("events_instance", "instance_id", "id"),
    sqlite_autoincrement=True,
)

charges = Table(
    "charges",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("instance_id", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("closed_at", Double),
    Column("usd_per_hour", String),
    Column("source", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Index("charges_instance", "instance_id"),
    Index("charges_job", "job_id"),
)
_open = text("closed_at is null")
Index("one_open_charge", charges.c.instance_id, unique=True, sqlite_where=_open, postgresql_where=_open)

# What machines that are gone have cost, by owner and by each day (2026-01-31) and month (2026-01) of UTC; in 10^-9 USD,
# so that the database adds it up.
spending = Table(
    "spending",
    metadata,
    Column("period", String, primary_key=True),
    Column("owner", String, primary_key=True),
    Column("nano_usd", BigInteger, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("scope", String, primary_key=True),
    Column("until", Double, nullable=False),
    Column("why", Text, nullable=False),
    Column("times", Integer, nullable=False),
)

joins = Table(
    "joins",
    metadata,
    Column("instance_id", String, primary_key=True),
    Column("token_sha256", String, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("nonce_sha256", String),
    Column("session_sha256", String, unique=True),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("sha256", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
)

secrets = Table(
    "secrets",
    metadata,
    Column("owner", String, primary_key=True),
    Column("job_id", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("set_at", Double, nullable=False),
)

manifests = Table(
    "manifests",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("area", String, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("final", Boolean, nullable=False),
    Column("at", Double, nullable=False),
    Column("body", Text, nullable=False),
)

readings = Table(
    "readings",
    metadata,
    Column("job_id", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("instance_id", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("values", Text, nullable=False),
    Index("readings_attempt", "job_id", "number", "at"),
)

segments = Table(
    "log_segments",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("length", BigInteger, nullable=False),
    Column("spans", LargeBinary, nullable=False),
    Column("key", String, nullable=False),
)

# Of controllers that share this database: where agents find each, and since when and until when it was seen.
controllers = Table(
    "controllers",
    metadata,
    Column("holder", String, primary_key=True),
    Column("urls", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

# When an agent was last heard by any of them, by the database's clock.
heard = Table(
    "heard",
    metadata,
    Column("instance_id", String, primary_key=True),
    Column("at", Double, nullable=False),
)

# Computers that somebody already has; `body` is a JSON object, which says who has given one up or else what it is.
hosts = Table("hosts", metadata, Column("name", String, primary_key=True), Column("body", Text, nullable=False))

# SSH host keys of machines that are reached over SSH, from before their launch on.
machine_keys = Table(
    "machine_keys",
    metadata,
    Column("instance_id", String, primary_key=True),
    Column("public", String, nullable=False),
    Column("settled", Boolean, nullable=False),
)

# Records of runners at forges, from before they are asked for until their forge confirms that they are gone.
runners = Table(
    "runners",
    metadata,
    Column("name", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("base", String, nullable=False),
    Column("path", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("instance_id", String, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("forge_id", String, nullable=False, default=""),
    Column("online_at", Double),
    Column("busy_at", Double),
    Column("gone_at", Double),
    Column("why", String, nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("unwanted_at", Double),
    Index("runners_attempt", "job_id", "number", unique=True),
    Index("runners_instance", "instance_id"),
)
_there = text("gone_at is null")
Index("runners_there", runners.c.name, sqlite_where=_there, postgresql_where=_there)

# When somebody last said that they wait for a job's runner; null: they saw that it is online.
awaited = Table("awaited", metadata, Column("job_id", String, primary_key=True), Column("at", Double))

# Jobs of forges' workflows and pipelines, whoever told of them. `fork` null: nobody has said.
ci_jobs = Table(
    "ci_jobs",
    metadata,
    Column("base", String, primary_key=True),
    Column("job_id", String, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("path", String, nullable=False),
    Column("repository", String, nullable=False),
    Column("state", String, nullable=False),
    Column("labels", Text, nullable=False),
    Column("fork", Boolean),
    Column("created_at", Double, nullable=False),
    Column("run_id", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("runner_name", String, nullable=False),
    Column("conclusion", String, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("unseen", Integer, nullable=False),
    Column("refused", Text, nullable=False),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Index("ci_jobs_runner", "runner_name"),
    Index("ci_jobs_seen", "seen_at"),
    Index("ci_jobs_changed", "changed"),
)
_queued = text("state = 'queued'")
Index("ci_jobs_queued", ci_jobs.c.created_at, sqlite_where=_queued, postgresql_where=_queued)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String, primary_key=True),
    Column("seen_at", Double, nullable=False),
)

# The CI job that each runner was given, and whether it is to be run again because its machine cut it short.
reruns = Table(
    "reruns",
    metadata,
    Column("runner", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("base", String, nullable=False),
    Column("path", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("forge_id", String, nullable=False, default=""),
    Column("repository", String, nullable=False, default=""),
    Column("run_id", String, nullable=False, default=""),
    Column("ci_id", String, nullable=False, default=""),
    Column("ci_attempt", Integer, nullable=False, default=0),
    Column("ci_name", Text, nullable=False, default=""),
    Column("lost_at", Double),
    Column("tries", Integer, nullable=False, default=0),
    Column("done_at", Double),
    Column("outcome", String, nullable=False, default=""),
    Index("reruns_job", "job_id"),
    Index("reruns_run", "run_id"),
)
_pending = text("lost_at is not null and done_at is null")
Index("reruns_pending", reruns.c.lost_at, sqlite_where=_pending, postgresql_where=_pending)

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))
