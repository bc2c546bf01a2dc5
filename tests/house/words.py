"""What names in the code mean, in a line each, for the generated pages. A name without a line fails a test."""

from __future__ import annotations

POLICY = {
    "launch_timeout_s": "a launch that the cloud has not shown as a machine by then is given up",
    "boot_timeout_s": "a machine whose agent was not heard by then is ended",
    "relaunch_after_s": "how soon a launch without an answer is asked again, under the same name",
    "silence_s": "an agent not heard for this long, while the controller was listening, is lost",
    "drain_s": "how long a machine may take to end its job and deliver what it has",
    "terminate_again_s": "how soon a terminate is repeated while the machine is still there",
    "idle_default_s": "how long a machine without work is kept when the job did not say",
    "settle_s": "how long a machine without work waits for the next job at least, so that quick successions share it",
    "lifetime_default_s": "the longest that a machine lives when the job did not say",
    "deadman_bound_s": "how much longer than its lifetime a machine may live if its controller is gone; reserved for",
    "cancel_grace_s": "from the kind signal to the unkind one",
    "list_every_s": "how often each provider is asked what exists",
    "collect_every_s": "how often listings and rows are compared both ways",
    "collect_min_age_s": "younger machines are left alone by the collector",
    "collect_forget_s": "how long the collector remembers having seen a machine that should not exist",
    "lease_s": "how long a claim on a row lasts without being renewed",
    "retry_backoff_s": "the first pause after a failed call; it doubles",
    "retry_backoff_max_s": "the longest such pause",
    "refused_s": "how long refused capacity is remembered the first time; it doubles",
    "refused_max_s": "the longest that it is remembered, whatever the cloud's own table says",
    "agent_poll_s": "how long an agent's sync is held open while there is nothing new to say",
    "agent_answer_s": "how long an agent waits for an answer, the poll itself aside, before it asks elsewhere",
    "agent_idle_s": "how long an agent without work waits, beyond its controller's limit, before it ends its machine",
    "agent_silence_s": "how long an agent with nothing to run waits for a silent controller before it ends its machine",
    "orphan_s": "how long a job goes on when its controller is silent",
    "hold_unsent_s": "how long data that was not delivered holds off the end of a machine",
    "outputs_every_s": "how often outputs go up while the job runs",
    "embedded_idle_s": "an embedded controller with nothing to look after leaves then",
    "notice_s": "how long draining may take once the cloud has announced the machine's end",
    "console_s": "how long the end of a machine waits at most for what its cloud can tell of it",
    "hard_limit_s": "how long after its maximum lifetime the cloud itself ends a machine (`aws.hard_limit`)",
    "runners_every_s": "how often a forge is asked which runners are there, if those and sites are not very many",
    "listing_call_s": "for how long a page of runners is not asked for again, at all sites, beyond 300 at once",
    "runners_linger_s": "how long a site is looked at after our last runner there has gone: a late call may make one",
    "awaited_s": "after how long a launch that waits for its runner, and has not said so again, is given up",
    "runner_stuck_s": "after how long a forge that does not remove a runner's record holds its machine up no more",
    "runner_busy_s": "how long a forge's word that a runner has a job keeps it, when nobody else says so",
    "runner_refused_soon_s": "how long before a forge refuses a version of its runner program that is said",
    "poll_every_s": "how often each site of a pool is asked which jobs wait there",
    "poll_silent_s": "the same where jobs are under way and webhooks have fallen silent",
    "webhooks_silent_s": "webhooks that tell nothing for so long have fallen silent",
    "redeliver_every_s": "how often a forge is asked to send webhooks again that did not arrive",
    "redeliver_back_s": "how far back that goes",
    "rerun_within_s": "how long it is tried to have a CI job run again that its machine cut short",
    "reruns_most": "how often one CI job of a run is run again for that",
    "leftovers_every_s": "how often clouds are asked for what machines left behind",
    "unused_group_s": "what was made for all machines of a region goes once none has been there for so long",
    "collect_share": "the largest share of a controller's machines that one pass of the collector may end",
    "max_instances": "machines at once (`max_instances` of the settings)",
    "max_usd_per_hour": "prices of all machines together (`max_usd_per_hour` of the settings)",
    "on_demand_after_interruptions": "after this many interruptions a spot-first job goes on-demand",
    "workspace_limit_bytes": "a larger working directory is refused unless asked for",
    "events_keep_s": "how long events are kept (`retention.events_days`)",
    "readings_keep_s": "how long readings are kept (`retention.readings_days`)",
    "logs_keep_s": "how long logs are kept (`retention.logs_days`)",
    "objects_keep_s": "how long results and checkpoints are kept (`retention.objects_days`)",
}

SETTINGS = {
    "store_url": "the database; see `RUNNER_STORE_URL`",
    "objects_url": "the object store; see `RUNNER_OBJECTS_URL`",
    "public_url": "where machines reach a served controller, as http(s)://HOST:PORT; this computer's own need none",
    "max_usd_per_hour": "the hourly prices of all machines together stay within this",
    "max_instances": "there are never more machines at once than this",
    "policy_scale": "multiplies every time-out of the policy; for tests",
    "local.usd_per_hour": "what an hour of this computer is said to cost",
    "local.machines": "folder of this computer's machines; name one for all of its controllers that share a database",
    "aws.enabled": "rent machines of AWS for jobs that name no provider, too; a served controller uses AWS only then",
    "aws.profile": "a profile of the AWS SDK, before AWS_PROFILE; empty: whatever its own chain of credentials finds",
    "aws.regions": "where machines are launched; empty: every region that the account has enabled",
    "aws.image": "AMI id, or path of an SSM parameter that holds one; empty: AWS's deep-learning base image, or Ubuntu",
    "aws.disk_gib": "root disk of a machine whose job asks for none, in GiB",
    "aws.subnets": "subnets by region; where none is named, those of the default VPC",
    "aws.security_groups": "a security group by region; where none is named, one that lets nothing in is made",
    "aws.ssh_from": "addresses (CIDR) that may come to machines by SSH; empty: the one that AWS sees this one at",
    "aws.instance_profile": "name of the IAM instance profile that machines are given; empty: none",
    "forges": "where runners may be made; see [whose rights](../how-to/launch-from-ci.md#the-right-to-make-runners)",
    "ci": "which CI runs may come without a token of yours; see [how](../how-to/launch-from-ci.md#with-a-controller)",
    "hosts": "computers that you have already, a list; see [how to use them](../how-to/hosts.md)",
    "pools": "runners for a forge's CI jobs, a list; see [how to keep them](../how-to/pools.md)",
    "aws.startup": "a shell script that each machine runs once, as root, before it takes work; the job fails with it",
    "aws.hard_limit": "also have EventBridge end each machine, 15 minutes after its maximum lifetime",
    "aws.hard_limit_role": "ARN of the role under which EventBridge ends machines; it needs `ec2:TerminateInstances`",
    "retention.logs_days": "days that a job's log is kept after its end",
    "retention.events_days": "days that events are kept",
    "retention.readings_days": "days that readings are kept",
    "retention.objects_days": "days that results and checkpoints are kept",
    "policy": "single values of the [policy](policy.md), by name",
}

EVENTS = {
    "job.queued": "it was accepted and waits for a machine",
    "job.waits": "why it still waits; recorded when the reason changes",
    "job.held": "it waits for a person",
    "job.assigned": "an attempt was given to a machine",
    "job.requeued": "its attempt ended, and another will follow",
    "job.cancel_asked": "somebody asked to cancel it, kindly or at once",
    "job.done": "it is over; the message says how",
    "attempt.started": "the command, or its set-up, began",
    "attempt.waits": "what it writes waits for room; the message says where",
    "attempt.goes_on": "there is room again",
    "attempt.ended": "it is over; the message says how",
    "gpu.xid": "the driver reported an error of a GPU while the attempt ran; the message has its number and words",
    "gpu.thermal": "a GPU was slowed down by heat while the attempt ran; recorded once a GPU and kind",
    "attempt.interrupted": "its machine was taken back: seconds that this lived, and seconds of work that are lost",
    "instance.planned": "a machine is wanted on this offer; its price is reserved",
    "instance.launching": "the cloud is being asked",
    "instance.launch_unanswered": "the call had no answer; it is made again under the same name",
    "instance.booting": "the cloud shows the machine",
    "instance.joined": "its agent came in with the join token",
    "instance.join_refused": "somebody else tried to use its join token",
    "instance.reached": "this controller has a connection to it, over which its agent finds the way home",
    "instance.unreached": "no connection to it could be made, and why; tried again for as long as it is wanted",
    "instance.ready": "its agent reports; it takes work",
    "instance.console": "it failed before it came to work; `lines` of its data are the last that it printed",
    "instance.interrupted": "its cloud took it back; whether in its first hour, and whether its time is billed",
    "instance.handed_over": "its machine acknowledged that it looks after itself, without a controller",
    "instance.limit_refused": "the cloud did not take its hard limit yet; it is asked again",
    "pool.grew": "runners were submitted for a pool; the message says for whose jobs",
    "pool.shrank": "runners of a pool are too many; those that have no job go",
    "pool.refused": "a job that a pool could serve is not: it comes from a fork; recorded once a job",
    "webhook.refused": "a webhook was not genuine, or not understood; it had no effect. Once a minute at most",
    "runner.registered": "its forge knows the runner that an attempt is to be; it has not come yet",
    "runner.online": "the runner has come to its forge, and waits for a job",
    "runner.late": "it was not online in the time that its launch waits, and is cancelled",
    "runner.busy": "the runner was given a job; which, if its program said so",
    "runner.not_removed": "its forge would not remove the runner's record, or did not answer; it is asked again",
    "runner.stuck": "its forge has not let it go for so long that its machine goes first, unless it works",
    "runner.gone": "its forge has no record of the runner any more",
    "ci.rerun_waits": "a machine cut a CI job short; its forge is asked to run it again once its whole run has ended",
    "ci.rerun": "the forge runs the CI job again",
    "ci.rerun_refused": "the CI job that was cut short is not run again; the message says why",
    "runner.collected": "an offline runner under a name of ours, with no machine, was removed from its forge",
    "ci.admitted": "a CI run showed its forge's token, and got a session for an hour",
    "ci.refused": "a CI run was not let in; the message says why",
    "forge.trouble": "a forge does not answer, or refuses our rights; nothing is made for it, removals go on",
    "forge.answers": "the forge answers again",
    "forge.version_refused": "the forge did not take the version of its runner program; nothing is made there with it",
    "forge.version_ends": "the forge will soon refuse the version of its runner program that is used",
    "instance.draining": "no new work; the last data goes up",
    "instance.stop_asked": "somebody asked to stop it",
    "instance.stopping": "terminate is asked, until the machine is absent",
    "instance.terminate_accepted": "the cloud accepted the terminate",
    "instance.terminate_unanswered": "the call had no answer; it is made again",
    "instance.gone": "it is absent, and the bill is closed",
    "instance.stumbled": "looking after it failed in a way that nobody foresaw; it is tried again later",
    "host.given_up": "somebody said that it is gone for good; what was on it is closed without a word from it",
    "provider.paused": "a cloud can be asked nothing: its credentials are missing or over; the message says what to do",
    "provider.resumed": "credentials were handed over, and it goes on",
    "machine.collected": "the collector ended a machine that should not exist; the message says why",
    "leftover.collected": "the collector removed what a machine left behind; the message says what and why",
    "charge.adjusted": "an amount is taken off a machine's charges, or added: `usd` of its data; kept as they are",
}

SETTINGS_INTRO = """# Settings

One file, `settings.yaml` in the home folder (`~/.runner` unless `RUNNER_HOME` says otherwise). Every key is optional;
an unknown one is an error that names it."""

ENVIRONMENT_INTRO = """## Environment variables

Only these are read, whatever else begins with `RUNNER_`, because CI systems set variables of that kind in every step. A
variable wins over the file."""

POLICY_INTRO = """# Policy

Every time-out, cap and share that the engine uses. `policy:` in the [settings](settings.md) changes single values by
name. Names that end in `_s` are seconds, `_bytes` bytes, `_share` parts of one."""

EVENTS_INTRO = """# Events

What `runner events` and `runner why` read: a row for each change, kept as long as `retention.events_days` says."""

COMMANDS_INTRO = """# Command line

`runner COMMAND --help` says the same. The job's own output goes to standard output and standard error as the job wrote
it; everything of ours goes to standard error.

| exit code | means |
|---|---|
| 0 | fine |
| 1 | the work failed |
| 2 | usage: an unknown GPU, a malformed file, a missing secret |
| 3 | refused: budget, quota, impossible by the offers known |
| 4 | no controller could be reached |

An attached `runner run` that has a job exits with the command's own code, with 124 when it timed out, 130 when it was
cancelled, and 125 for anything of ours."""

API_INTRO = """# HTTP API

What people's programs may call, under the same roles as the command line. `/docs` on a controller shows it with every
field. Errors are `{"error": {"kind", "message", "hint"}}`. Amounts of money are strings, times ISO 8601 in UTC."""

JOB_FILE_INTRO = """# Job file

A YAML file, given with `runner run -f`. What the command line says wins over it. An unknown key is an error that names
its line. Durations are seconds, or a number with `s`, `m`, `h` or `d`."""

JOB_FILE_EXAMPLE = """## An example

```yaml
name: train-resnet
resources: {gpu: "A10G:1", market: spot-first, max_price: 1.20, disk: 200}
inputs: [{from: "s3://team-data/cifar", to: data/}]
setup: pip install -r requirements.txt
run: python train.py --epochs 20
env: {WANDB_MODE: offline}
secrets: [HF_TOKEN]
outputs: [metrics.json, plots/**, model.safetensors]
checkpoint: {path: ckpt/, every: 5m}
retries: 3
timeout: 8h
```

Another that works as it stands: [docs/examples/digits/job.yaml](../examples/digits/job.yaml)."""

JOB_ENVIRONMENT_INTRO = """## What a job finds in its environment

Besides `env`, `params` and `secrets`:"""

GIVEN_TO_JOBS = {
    "RUNNER_ATTEMPT": "the number of this attempt, from 1",
    "RUNNER_CKPT_DIR": "the checkpoint folder, where the job has one",
    "RUNNER_JOB_ID": "the job's id",
    "RUNNER_RESUMED": "`1` when a checkpoint was put back, otherwise `0`",
    "RUNNER_WORKSPACE": "the working directory",
}
