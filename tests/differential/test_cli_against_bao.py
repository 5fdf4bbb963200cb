"""
`baoha` and the real `bao` beside each other: same server, same words, same output, same exit code.

What differs on purpose is written down here: usage errors (64), `schema` in our own documents, the
name of the program, and that nothing is followed or sent to addresses that were not given.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.cli_lab import Ran
from tests.support.forked_cli import run_forked

pytestmark = pytest.mark.differential

BAO = shutil.which("bao", path=str(Path(sys.executable).parent)) or "bao"
READY_S = 20.0


def free_port() -> int:
    """Return a port on which nobody listens, with the next one free too (the cluster port)."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@dataclass
class Server:
    """A running `bao server` and how to talk to it."""

    process: subprocess.Popen[bytes]
    url: str
    home: Path
    token: str = ""

    @property
    def environ(self) -> dict[str, str]:
        """What both commands see."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "BAO_ADDR": self.url}
        environ["BAO_MAX_RETRIES"] = "0"  # both know it; their pauses are of no interest here
        return {**environ, "BAO_TOKEN": self.token} if self.token else environ

    def bao(self, *argv: str, stdin: str = "") -> Ran:
        """Run the real command."""
        argv = (BAO, *argv)
        ran = subprocess.run(
            argv, input=stdin, env=self.environ, capture_output=True, text=True, timeout=60
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def baoha(self, *argv: str, stdin: str = "") -> Ran:
        """Run ours."""
        return run_forked(argv, self.environ, stdin=stdin)

    def both(self, *argv: str, stdin: str = "") -> tuple[Ran, Ran]:
        """Run the same with both, `bao` first."""
        return self.bao(*argv, stdin=stdin), self.baoha(*argv, stdin=stdin)


def start(argv: list[str], url: str, home: Path) -> Server:
    log = (home / "server.log").open("wb")
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    process = subprocess.Popen([BAO, *argv], stdout=log, stderr=log, env=environ)
    log.close()
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{url}/v1/sys/seal-status", timeout=1).close()
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, (home / "server.log").read_text()
            time.sleep(0.05)
        else:
            return Server(process, url, home)
    process.kill()
    raise AssertionError("the server did not start")


def stop(server: Server) -> None:
    server.process.terminate()
    server.process.wait(20)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A development server with some data."""
    home = tmp_path_factory.mktemp("dev")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = ["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]
    server = start([*argv, f"-dev-listen-address=127.0.0.1:{port}"], url, home)
    server.token = "root"
    (home / "p.hcl").write_text('path "x" {}\n')
    server.bao("secrets", "enable", "-path=kv", "-version=1", "kv")
    server.bao("kv", "put", "secret/a", "x=1", "y=<&>")
    server.bao(
        "kv", "put", "secret/deep", "-", stdin='{"m": {"k": [1, null]}, "b": true, "f": 1.5}'
    )
    server.bao("kv", "put", "secret/gone", "a=b")
    server.bao("kv", "delete", "secret/gone")
    server.bao("kv", "put", "kv/one", "a=b")
    server.bao("write", "cubbyhole/x", "a=b")
    server.bao("policy", "write", "p", str(home / "p.hcl"))
    yield server
    stop(server)


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Server]:
    """A server that is not initialised."""
    port = free_port()
    config = tmp_path / "config.hcl"
    config.write_text(
        'storage "inmem" {}\ndisable_mlock = true\n'
        f'listener "tcp" {{ address = "127.0.0.1:{port}"  tls_disable = true }}\n'
        f'api_addr = "http://127.0.0.1:{port}"\n'
    )
    server = start(["server", f"-config={config}"], f"http://127.0.0.1:{port}", tmp_path)
    yield server
    stop(server)


EQUAL = [
    "status",
    "status -field=sealed",
    "kv get secret/a",
    "kv get -mount=secret a",
    "kv get secret/deep",
    "kv get -field=x secret/a",
    "kv get -field=m secret/deep",
    "kv get -format=json -field=m secret/deep",
    "kv get -field=nope secret/a",
    "kv get secret/gone",
    "kv get secret/none",
    "kv get -version=9 secret/a",
    "kv get nomount/x",
    "kv get kv/one",
    "kv get kv/none",
    "kv get -format=json -field=y secret/a",
    "kv list secret",
    "kv list secret/",
    "kv list secret/none",
    "kv list -format=json secret",
    "kv list -format=json secret/none",
    "kv list kv",
    "kv metadata get secret/a",
    "kv metadata get secret/none",
    "kv metadata get kv/one",
    "kv undelete -versions=1 kv/one",
    "kv patch kv/one a=b",
    "kv patch secret/none a=b",
    "kv patch -method=rw secret/none a=b",
    "kv put kv/two a=b",
    "kv put -cas=0 secret/a a=b",
    "kv undelete -versions=1 secret/gone",
    "kv delete secret/gone",
    "kv metadata put -max-versions=7 secret/gone",
    "read cubbyhole/x",
    "read cubbyhole/none",
    "read secret/data/a",
    "read -field=nope secret/data/a",
    "read -field=data secret/data/a",
    "list cubbyhole",
    "list -format=json cubbyhole",
    "list cubbyhole/none",
    "write cubbyhole/y a=b c=d",
    "write -force sys/rotate",
    "delete cubbyhole/y",
    "token lookup",
    "token lookup nope",
    "token renew",
    "token revoke nope",
    "policy list",
    "policy list -format=json",
    "policy read p",
    "policy read none",
    "policy read -format=json p",
    "policy write q p.hcl",
    "policy delete q",
    "secrets list",
    "secrets list -detailed",
    "secrets list -format=json",
    "secrets enable kv",
    "secrets enable nope",
    "secrets disable nope",
    "secrets disable /nope/",
    "secrets list -output-curl-string",
    "secrets disable -output-curl-string kv/",
    "auth list",
    "auth list -detailed",
    "auth list -format=json",
    "login -token-only root",
    "login -no-print root",
    "login -method=userpass username=a password=b",
    "operator key-status",
    "operator members",
    "operator members -format=json",
    "operator raft list-peers",
    "operator init -status",
    "operator init",
    "operator step-down",
    "status -output-curl-string",
    "kv get -output-curl-string secret/a",
    "read -output-curl-string cubbyhole/x",
]
# Ours has no token there, because status needs none; theirs shows one that it would send.
CURL_TOKEN = ' -H "X-Vault-Token: $(bao print token)"'


@pytest.mark.parametrize("line", EQUAL)
def test_output_and_exit_code_are_those_of_bao(
    dev: Server, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dev.home)
    theirs, ours = dev.both(*line.split())
    if line == "status -output-curl-string":
        theirs.out = theirs.out.replace(CURL_TOKEN, "")
    if "-output-curl-string" in line:  # Go prints the headers in any order
        theirs.out, ours.out = (" ".join(sorted(shlex.split(ran.out))) for ran in (theirs, ours))
    if line.startswith("login"):  # both warn that BAO_TOKEN is set, in their own words
        theirs.err = ours.err = ""
    assert ours.out == theirs.out
    assert ours.err.rstrip() == theirs.err.rstrip()
    assert ours.code == theirs.code


@pytest.mark.parametrize(
    "line",
    [
        "kv get -format=json secret/deep",
        "kv get -format=yaml secret/deep",
        "kv get -format=json secret/gone",
        "kv metadata get -format=json secret/a",
        "read -format=json sys/mounts",
        "read -format=yaml cubbyhole/x",
        "kv put -format=json secret/b a=b",
        "token create -format=json",
        "token create -format=json -policy=default -ttl=1h -metadata=a=b -orphan",
        "login -format=json -no-store root",
        "operator rotate -format=json",
        "secrets list -format=yaml",
        "status -format=json",
        "status -format=yaml",
    ],
)
def test_document_has_the_keys_and_types_of_bao(dev: Server, line: str) -> None:
    theirs, ours = dev.both(*line.split())
    parse = yaml.safe_load if "yaml" in line else json.loads
    expected, got = parse(theirs.out), parse(ours.out)
    got.pop("schema", None)
    assert shape(got) == shape(expected)
    assert ours.code == theirs.code


def test_engine_is_enabled_and_disabled_as_by_bao(dev: Server) -> None:
    options = "-version=2 -description=hi -default-lease-ttl=1h -options=a=b -path"
    made = [
        dev.bao("secrets", "enable", *options.split(), "theirs", "kv"),
        dev.baoha("secrets", "enable", *options.split(), "ours", "kv"),
    ]
    assert made[0].out == "Success! Enabled the kv secrets engine at: theirs/\n"
    assert made[1].out == "Success! Enabled the kv secrets engine at: ours/\n"
    mounts = json.loads(dev.bao("secrets", "list", "-format=json").out)
    for mount in (mounts["theirs/"], mounts["ours/"]):
        del mount["uuid"], mount["accessor"]
    assert mounts["ours/"] == mounts["theirs/"]
    theirs, ours = dev.both("secrets", "list", "-detailed")
    assert ours.out == theirs.out
    for name in ("theirs", "ours"):
        ran = dev.baoha("secrets", "disable", name)
        assert ran.out == f"Success! Disabled the secrets engine (if it existed) at: {name}/\n"
    assert "ours/" not in dev.bao("secrets", "list").out


def shape(value: object) -> object:
    """Return a document with what changes from call to call blanked out."""
    if isinstance(value, dict):
        return {str(key): shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, str):
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z?", "TIME", value)
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text)
        return re.sub(r"^(s\.)?[A-Za-z0-9]{24}$", "TOKEN", text)
    if isinstance(value, int) and not isinstance(value, bool):
        return "NUMBER" if value > 1000 else "SMALL"
    return value


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("status extra", 1),
        ("status -bogus", 1),
        ("status -format=bogus", 1),
        ("bogus", 127),
        ("kv bogus", 1),
        ("kv get", 1),
        ("kv put secret/a", 1),
        ("kv put secret/a novalue", 1),
        ("write cubbyhole/x", 1),
        ("server", 1),
        ("login -no-print -no-store root", 1),
        ("secrets enable", 1),
        ("secrets enable a b", 1),
        ("auth list x", 1),
    ],
)
def test_usage_errors_are_64_where_bao_has_several_codes(dev: Server, line: str, code: int) -> None:
    theirs, ours = dev.both(*line.split())
    assert (theirs.code, ours.code) == (code, 64)
    assert ours.out == ""


def test_dead_server_is_reported_in_the_same_words(dev: Server, tmp_path: Path) -> None:
    dead = Server(dev.process, f"http://127.0.0.1:{free_port()}", tmp_path, "root")
    for line in ("status", "operator step-down", "kv get secret/a", "read a/b", "operator seal"):
        theirs, ours = dead.both(*line.split())
        assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err)


def test_https_to_a_plain_port_is_reported_in_the_same_words(dev: Server, tmp_path: Path) -> None:
    wrong = Server(dev.process, dev.url.replace("http:", "https:"), tmp_path)
    theirs, ours = wrong.both("status")
    assert (ours.code, ours.err) == (theirs.code, theirs.err) == (1, theirs.err)


def test_token_kept_by_one_login_is_used_by_the_other(dev: Server, tmp_path: Path) -> None:
    shared = Server(dev.process, dev.url, tmp_path)
    assert shared.baoha("login", "-", stdin="root\n").code == 0
    assert shared.bao("token", "lookup", "-field=id").out == "root"
    (tmp_path / ".vault-token").unlink()
    assert shared.bao("login", "-", stdin="root\n").code == 0
    assert shared.baoha("token", "lookup", "-field=id").out == "root"


def test_life_of_a_server_from_init_to_seal(sealed: Server) -> None:
    for line in ("status", "operator init -status", "operator step-down", "kv get a/b"):
        theirs, ours = sealed.both(*line.split())
        assert (ours.code, ours.out, ours.err) == (theirs.code, theirs.out, theirs.err), line
    made = sealed.baoha("operator", "init", "-key-shares=3", "-key-threshold=2")
    assert made.code == 0
    keys = re.findall(r"^Unseal Key \d: (\S+)$", made.out, re.M)
    [token] = re.findall(r"^Initial Root Token: (\S+)$", made.out, re.M)
    assert len(keys) == 3
    again = sealed.both("operator", "init")
    assert again[1].code == again[0].code == 2
    first = sealed.baoha("operator", "unseal", keys[0])
    theirs, ours = sealed.both("status")
    assert first.out == ours.out == theirs.out
    assert first.code == 0
    assert ours.code == theirs.code == 2
    assert sealed.baoha("operator", "unseal", "-reset").out == sealed.bao("status").out
    assert sealed.baoha("operator", "unseal", "!!").code == 2
    shares = "\n".join(keys[:2]) + "\n"
    everyone = sealed.baoha("operator", "unseal", "--all", "-", stdin=shares)
    assert everyone.code == 0, everyone.err
    sealed.token = token
    for line in ("status", "status -field=version", "policy list", "operator key-status"):
        theirs, ours = sealed.both(*line.split())
        assert (ours.code, ours.out) == (theirs.code, theirs.out), line
    assert sealed.baoha("wait", "--for=ready", "--deadline=5s").code == 0
    assert sealed.baoha("operator", "seal").out == "Success! Vault is sealed.\n"
    theirs, ours = sealed.both("status")
    assert (ours.code, ours.out) == (theirs.code, theirs.out) == (2, theirs.out)


def test_init_as_json_has_the_keys_of_bao(sealed: Server, tmp_path: Path) -> None:
    made = json.loads(sealed.baoha("operator", "init", "-n", "1", "-t", "1", "-format=json").out)
    assert list(made) == [
        *("unseal_keys_b64", "unseal_keys_hex", "unseal_shares", "unseal_threshold"),
        *("recovery_keys_b64", "recovery_keys_hex", "recovery_keys_shares"),
        *("recovery_keys_threshold", "root_token"),
    ]
    assert sealed.bao("operator", "unseal", made["unseal_keys_b64"][0]).code == 0
