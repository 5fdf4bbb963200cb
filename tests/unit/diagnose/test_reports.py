"""Reports of a diagnosis, each against the rules of the program that reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from baoha_cli.client.address import parse_address
from baoha_cli.diagnose.evidence import Certificate, Evidence, TlsLook
from baoha_cli.diagnose.report.formats import (
    KINDS,
    nagios_verdict,
    parse_reports,
    read_baseline,
    render,
    write_reports,
)
from baoha_cli.diagnose.run import Choice, Diagnosis, assemble
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.survey.look import NodeLook, Reply
from hypothesis import given
from hypothesis import strategies as st

from baoha.diagnostics.catalogue import CODES
from baoha.diagnostics.code import Finding

NOW = 1_795_441_199.0
SEAL = {"initialized": True, "sealed": False, "version": "2.7.2", "cluster_id": "c1"}


def node(name: str, *, leads: bool = False, forwards: bool = True) -> NodeLook:
    leader = {
        "ha_enabled": True,
        "is_self": leads,
        "leader_address": "https://a:8200",
        "leader_cluster_address": "https://a:8201",
    }
    return NodeLook(
        parse_address(f"https://{name}:8200"),
        name,
        Reply(200, body=SEAL, took_s=0.004),
        Reply(200, body=leader),
        Reply(200 if leads else 429, body={"server_time_utc": int(NOW)}, ended_at=NOW + 0.5),
        Reply(403 if forwards or leads else 307, took_s=0.006),
        Reply(403 if leads else 307),
    )


CERTIFICATE = Certificate("CN=a", "CN=ca", ("a",), NOW - 9, NOW + 864_000)
EVIDENCE = Evidence(
    rounds=((node("a", leads=True), node("b"), node("c")),),
    tls={"https://a:8200": TlsLook(parse_address("https://a:8200"), chain=(CERTIFICATE,))},
)
CHOICE = Choice("forwarding")
FAULTS = (
    CODES["BH-401"].at(
        "b -> a",
        'forwarding is off: 307, "quoted" <tag> & | # : ,',
        cause=CODES["BH-601"],
    ),
    CODES["BH-903"].at("", "versions 2.7.1, 2.7.2"),
    CODES["BH-102"].at("n.hcl", "api_addr is localhost", file="deploy/n.hcl", line=3),
)


def result(*faults: Finding, choice: Choice = CHOICE) -> Diagnosis:
    return assemble(
        faults, choice, {"BH-318": "no token"}, evidence=EVIDENCE, took_s=2.1, nodes_total=3
    )


# --- JUnit: the rules of Jenkins' junit-10.xsd ----------------------------------------------------

SUITES = {"name", "time", "tests", "failures", "disabled", "errors"}
SUITE = {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp"}
SUITE |= {"hostname", "id", "package", "file", "log", "url", "version"}
CASE = {"name", "assertions", "time", "classname", "status", "class", "file", "line", "log"}
CASE |= {"group", "url"}
CHILDREN = {"skipped", "error", "failure", "system-out", "system-err", "properties"}


def check_junit(text: str) -> ElementTree.Element:
    """Assert what the schema demands; return the root."""
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites"
    assert set(root.attrib) <= SUITES
    for suite in root:
        assert suite.tag == "testsuite"
        assert set(suite.attrib) <= SUITE
        assert {"name", "tests", "failures", "errors"} <= set(suite.attrib)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        assert int(suite.attrib["tests"]) == len(suite)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
        names = [(case.get("classname"), case.get("name")) for case in suite]
        assert len(set(names)) == len(names)
        for case in suite:
            assert case.tag == "testcase"
            assert {"name", "classname"} <= set(case.attrib) <= CASE
            float(case.attrib["time"])
            assert {child.tag for child in case} <= CHILDREN
            for child in case.findall("failure"):
                assert set(child.attrib) <= {"type", "message"}
            for child in case.findall("skipped"):
                assert set(child.attrib) <= {"type", "message"}
    return root


def test_junit_follows_the_schema_and_fails_what_counts() -> None:
    root = check_junit(render("junit", result(*FAULTS), NOW))
    failed = [
        case.get("name", "") for case in root.iter("testcase") if case.find("failure") is not None
    ]
    assert [name[:6] for name in sorted(failed)] == ["BH-102", "BH-401"]
    out = next(case for case in root.iter("testcase") if "BH-903" in (case.get("name") or ""))
    assert out.find("system-out") is not None


def test_junit_of_a_healthy_cluster_passes_everything() -> None:
    root = check_junit(render("junit", result(), NOW))
    assert root.get("failures") == "0"


# --- Nagios plug-in guidelines --------------------------------------------------------------------

PERFDATA = re.compile(r"[A-Za-z_]+=-?\d+(\.\d+)?(us|ms|s|%|B|c)?(;\d*){0,4}")


@pytest.mark.parametrize(
    ("faults", "word", "verdict"),
    [
        ((), "OK", Verdict.OK),
        ((FAULTS[1],), "WARNING", Verdict.DEGRADED),
        (FAULTS, "CRITICAL", Verdict.NO),
        ((CODES["BH-309"].at("a", "changing"),), "OK", Verdict.OK),
    ],
    ids=["well", "warning", "error", "info"],
)
def test_nagios_first_line_says_state_and_perfdata(
    faults: tuple[Finding, ...], word: str, verdict: Verdict
) -> None:
    made = result(*faults)
    first, *_ = render("nagios", made, NOW).splitlines()
    head, sign, perfdata = first.partition(" | ")
    assert sign
    assert head.startswith(f"BAOHA {word} - ")
    assert "|" not in head
    assert all(PERFDATA.fullmatch(part) for part in perfdata.split())
    assert nagios_verdict(made) is verdict


def test_nagios_line_of_a_healthy_cluster_is_as_documented() -> None:
    line = render("nagios", result(), NOW).splitlines()[0]
    assert line.startswith("BAOHA OK - leader a, 2/2 standbys forward | ")
    assert "leaders=1 standby=2 forward_ms=6;200;1000" in line


# --- Prometheus text format -----------------------------------------------------------------------

SAMPLE = re.compile(
    r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?P<labels>([a-z]+="([^"\\\n]|\\[\\"n])*",?)*)\})? '
    r"(?P<value>[-+0-9.e]+)"
)


def check_prometheus(text: str) -> dict[str, float]:
    """Parse the text format; return samples by name and labels."""
    assert text.endswith("\n")
    samples: dict[str, float] = {}
    typed: set[str] = set()
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind == "gauge"
            assert name not in typed
            typed.add(name)
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match["name"] in typed
            key = f"{match['name']}{{{match['labels'] or ''}}}"
            assert key not in samples
            samples[key] = float(match["value"])
    return samples


def test_prometheus_text_can_be_parsed_and_holds_the_documented_names() -> None:
    samples = check_prometheus(render("prometheus", result(*FAULTS), NOW))
    assert samples["baoha_leader_count{}"] == 1
    assert samples['baoha_standby_link{node="b"}'] == 1
    assert samples['baoha_check_status{code="BH-401",node="b -> a"}'] == 3
    assert samples['baoha_check_status{code="BH-903",node=""}'] == 2
    assert samples['baoha_check_status{code="BH-301",node=""}'] == 0
    assert samples['baoha_cert_expiry_seconds{addr="https://a:8200"}'] == 864_000
    assert abs(samples['baoha_clock_skew_seconds{node="a"}']) < 1


# --- GitHub, GitLab, TAP --------------------------------------------------------------------------


def test_github_commands_are_one_line_each_and_escaped() -> None:
    lines = render("github", result(*FAULTS), NOW).splitlines()
    assert len(lines) == 3
    for line in lines:
        match = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", line)
        assert match, line
        assert set(re.findall(r"(?:^|,)(\w+)=", match[2])) <= {"file", "line", "title"}
    assert lines[2].startswith("::error file=deploy/n.hcl,line=3,title=BH-102 ")
    assert "%0Awhy" in lines[0]


def test_gitlab_report_has_the_required_keys() -> None:
    records = json.loads(render("gitlab", result(*FAULTS), NOW))
    assert len({record["fingerprint"] for record in records}) == 3
    for record in records:
        assert set(record) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert record["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert record["location"]["lines"]["begin"] >= 1
        assert not record["location"]["path"].startswith(("/", "./"))


@pytest.mark.parametrize(("kind", "version"), [("tap", 14), ("tap13", 13)])
def test_tap_has_a_plan_and_numbers_its_points(kind: str, version: int) -> None:
    lines = render(kind, result(*FAULTS), NOW).splitlines()
    assert lines[0] == f"TAP version {version}"
    total = int(lines[1].removeprefix("1.."))
    points = [line for line in lines if re.match(r"(not )?ok \d", line)]
    assert [int(re.findall(r"\d+", line)[0]) for line in points] == list(range(1, total + 1))
    assert sum(line.startswith("not ok") for line in points) == 2
    assert sum(" # SKIP " in line for line in points) == 1
    assert lines.count("  ---") == lines.count("  ...") == 3


def test_json_and_ndjson_say_the_same() -> None:
    made = result(*FAULTS)
    data = json.loads(render("json", made, NOW))
    *findings, summary = map(json.loads, render("ndjson", made, NOW).splitlines())
    assert data["schema"] == "baoha.diagnose/v1"
    assert [item["code"] for item in findings] == [item["code"] for item in data["findings"]]
    assert summary["summary"] == data["summary"]


# --- all of them ----------------------------------------------------------------------------------

CHECKERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "gitlab": json.loads,
    "baseline": json.loads,
    "junit": check_junit,
    "prometheus": check_prometheus,
}


@given(st.text(), st.text(max_size=40))
def test_report_of_any_text_stays_well_formed(text: str, place: str) -> None:
    made = result(CODES["BH-401"].at(place, text), CODES["BH-903"].at("", text))
    for kind in KINDS:
        rendered = render(kind, made, NOW)
        if kind in CHECKERS:
            CHECKERS[kind](rendered)
    assert len(render("github", made, NOW).split("\n")) == 3


def test_baseline_remembers_findings_and_older_reports_serve_as_one(tmp_path: Path) -> None:
    made = result(*FAULTS)
    for kind in ("baseline", "json"):
        path = tmp_path / kind
        write_reports([(kind, path)], made, NOW)
        known = read_baseline(path)
        again = result(*FAULTS, choice=Choice("forwarding", known=known))
        assert again.faults == ()
        assert len(again.baselined) == 3
        assert again.verdict is Verdict.OK


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"findings": 3}'])
def test_baseline_that_is_none_is_an_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline"
    path.write_text(content)
    with pytest.raises(CommandFailed):
        read_baseline(path)


@pytest.mark.parametrize("text", ["junit", "junit=", "nosuch=x", "=x"])
def test_report_option_that_cannot_be_read_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageFailed):
        parse_reports([text])


def test_report_to_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot write"):
        write_reports([("json", tmp_path / "nosuch" / "file")], result(), NOW)
