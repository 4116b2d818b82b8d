"""Stands in for gcloud: notes every call, and keeps a slice in a folder.

$SLICE/calls.jsonl has the calls, $SLICE/state the state of the slice, and
$SLICE/vm is the disk of its machine, on which the commands of `ssh` run.
$SLICE/down makes it fail, as a network does, and $SLICE/fails has words of
calls each of which is to fail once.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SLICE = pathlib.Path(os.environ["SLICE"])
STATE, VM = SLICE / "state", SLICE / "vm"


def main(words: list[str]) -> int:
    with (SLICE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    if (SLICE / "down").exists() or fails_once(words):
        print("ERROR: could not connect", file=sys.stderr)
        return 1
    if words[:2] == ["storage", "rsync"]:
        return 0
    assert words[:2] == ["compute", "tpus"], words
    return ACTIONS[tuple(words[2:4])](words[4:])


def fails_once(words: list[str]) -> bool:
    """Whether the next failure that is planned is of such a call."""
    planned = SLICE / "fails"
    if not planned.exists():
        return False
    now, *later = planned.read_text().split() or [""]
    if now not in words:
        return False
    planned.write_text(" ".join(later))
    return True


def create(words: list[str]) -> int:
    requests = SLICE / "requests"
    if STATE.exists():
        print("ERROR: (gcloud) ALREADY_EXISTS", file=sys.stderr)
        return 1
    VM.mkdir()
    STATE.write_text("READY")
    requests.write_text("WAITING_FOR_RESOURCES")
    return 0


def describe_request(words: list[str]) -> int:
    """It waits once, then is active, unless it is to fail or to be gone."""
    requests = SLICE / "requests"
    if os.environ.get("REQUEST") == "GONE":
        print("ERROR: (gcloud) NOT_FOUND", file=sys.stderr)
        return 1
    print(requests.read_text())
    requests.write_text(os.environ.get("REQUEST", "ACTIVE"))
    return 0


def delete(words: list[str]) -> int:
    if not STATE.exists():
        print("ERROR: (gcloud) NOT_FOUND", file=sys.stderr)
        return 1
    STATE.unlink()
    # At once, for a training that is not dead yet may still write to it.
    gone = VM.rename(tempfile.mkdtemp(dir=SLICE))
    shutil.rmtree(gone, ignore_errors=True)
    return 0


def describe(words: list[str]) -> int:
    if not STATE.exists():
        print("ERROR: (gcloud) NOT_FOUND: no such node", file=sys.stderr)
        return 1
    print(STATE.read_text())
    return 0


def scp(words: list[str]) -> int:
    shutil.copy(words[0], VM)
    return 0


def ssh(words: list[str]) -> int:
    if STATE.read_text() != "READY":
        return 255
    (command,) = (
        word.removeprefix("--command=")
        for word in words
        if word.startswith("--command=")
    )
    return subprocess.run(["bash", "-c", command], cwd=VM).returncode


ACTIONS = {
    ("queued-resources", "create"): create,
    ("queued-resources", "describe"): describe_request,
    ("queued-resources", "delete"): delete,
    ("tpu-vm", "describe"): describe,
    ("tpu-vm", "scp"): scp,
    ("tpu-vm", "ssh"): ssh,
}
sys.exit(main(sys.argv[1:]))
