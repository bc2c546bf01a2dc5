"""What a stand-in for GitHub's runner program says to the fake forge. GitHub's own protocol is not published: this one
is ours, as small as it can be, and its statuses lead to the exit codes of the real program.

The JIT configuration is, as GitHub's is, base64 of a JSON object {file name: base64 of the file}:

    .runner        {"AgentId": 7, "AgentName": "runner-i-1", "Ephemeral": true, "WorkFolder": "_work",
                    "GitHubUrl": "http://HOST/OWNER/REPO", "ServerUrl": "http://HOST/_runner"}
    .credentials   {"Scheme": "OAuth", "Data": {"token": "..."}}

It is good for one session: a second one with it is refused, as is one whose record was removed. Every request carries
`Authorization: Bearer <token>`, bodies and answers are JSON, paths are below ServerUrl:

    POST   /sessions {"version": "2.330.0"}
           201 {"session": "s-7", "name": "runner-i-1", "labels": ["gpu-t4"]}   online and idle from now on
           401 the configuration is not good (any more): exit 1      409 a session is open already: exit 5
           426 this version is refused: exit 7
    GET    /sessions/s-7/job?wait_s=20        long poll, 50 s at most
           200 {"id": "12", "run_id": "3", "attempt": 1, "name": "train", "repository": "acme/vision", "ref": "main",
                "labels": ["gpu-t4"], "steps": [{"name": "train", "run": "python train.py"}], "env": {"CI": "true"}}
               the job is this runner's, which is busy from now on; asked again it is told the same job
           204 none yet: ask again                           401 the record was removed at the forge: exit 1
    GET    /jobs/12?wait_s=5                  while it runs, so that the forge knows that the runner lives
           200 {"cancelled": false}           true: end it as a runner does (SIGINT, then kill), and report `cancelled`
    POST   /jobs/12/end {"conclusion": "success", "steps": [{"name": "train", "exit_code": 0}]}
           success, failure or cancelled. 204; the runner is ephemeral: its record is gone, its program ends with 0
    DELETE /sessions/s-7
           204 offline; the record stays (an unused ephemeral one for a day)

A session that has not asked for anything for `FakeGitHub.offline_after_s` shows as offline; a job whose runner has not
asked for `FakeGitHub.lost_after_s` fails with the conclusion `failure`, as GitHub ends one that lost its runner.

The program's archive is at the address that `actions/runners/downloads` gives, with its sha256; a test puts it there
with `FakeGitHub.publish(archive, version, system="linux", machine="x64")`. What is in it is the stand-in's business.
"""
