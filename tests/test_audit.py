"""`make audit`: what is said of what pip-audit finds, and where it cannot."""

import json
import pathlib
import runpy
import subprocess
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PINS = "# Made by: make lock\nabsl-py==2.3\nurllib3==1.0 ; python_version<'4'\n"
KNOWN = {"name": "absl-py", "version": "2.3", "vulns": []}
SKIPPED = {"name": "absl-py", "skip_reason": "not found"}


def bad(*fixes):
    """Returns what pip-audit says of a package with a vulnerability."""
    found = {"id": "PYSEC-1", "fix_versions": [*fixes], "aliases": []}
    return {"name": "urllib3", "version": "1.0", "vulns": [found]}


@pytest.fixture
def audit(tmp_path, monkeypatch, capsys):
    """A function that runs the tool where pip-audit finds something.

    It returns the status and what is printed.
    """
    tool = runpy.run_path(str(ROOT / "tools" / "audit.py"))
    (tmp_path / "constraints.txt").write_text(PINS)

    def run(found, service="pypi"):
        def answer(command, **kwargs):
            assert 0 < kwargs["timeout"] <= tool["LIMIT"]
            assert f"--constraints={tmp_path / 'constraints.txt'}" in command
            if found is None:
                raise subprocess.TimeoutExpired(command, 1)
            options = dict(
                option.split("=", 1) for option in command if "=" in option
            )
            asked = pathlib.Path(options["--requirement"]).read_text()
            names = {line.partition("=")[0] for line in asked.splitlines()}
            some = [x for x in found if x["name"] in names]
            if options["--vulnerability-service"] != service:
                some = [SKIPPED]
            report = json.dumps({"dependencies": some, "fixes": []})
            pathlib.Path(options["--output"]).write_text(report)
            return types.SimpleNamespace(returncode=1)

        monkeypatch.setattr(subprocess, "run", answer)
        status = tool["main"](str(tmp_path / "constraints.txt"))
        return status, capsys.readouterr().out

    return run


@pytest.mark.parametrize("service", ["pypi", "osv"])
def test_what_a_release_mends_is_a_failure(audit, service):
    status, said = audit([KNOWN, bad("1.1", "2.0")], service=service)
    assert status == 1
    assert "urllib3 1.0 has PYSEC-1; mended in 1.1, 2.0\n" in said
    assert "2 of 2 packages checked, 1 known to be vulnerable" in said


def test_what_no_release_mends_is_told(audit):
    status, said = audit([KNOWN, bad()])
    assert status == 0
    assert "urllib3 1.0 has PYSEC-1; mended in no release\n" in said


def test_nothing_found(audit):
    status, said = audit([KNOWN])
    assert status == 0
    assert said == (
        "audit: 1 of 2 packages checked, 0 known to be vulnerable\n"
    )


@pytest.mark.parametrize("found", [[SKIPPED], None, []])
def test_what_cannot_be_checked_is_said_and_no_failure(audit, found):
    status, said = audit(found)
    assert status == 0
    assert said.startswith("audit: dependencies were not checked")
    assert said.count("\n") == 1


def test_without_uv_it_is_said_and_no_failure(capsys):
    tool = runpy.run_path(str(ROOT / "tools" / "audit.py"))
    tool["main"].__globals__["UV"] = pathlib.Path("no/such/uv")
    assert tool["main"](str(ROOT / "constraints.txt")) == 0
    assert capsys.readouterr().out.startswith("audit: dependencies were not")


def test_ci_runs_it():
    text = (ROOT / ".ci" / "run").read_text()
    assert "\nmake docs\nmake audit\n" in text
