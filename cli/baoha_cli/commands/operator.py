"""
`baoha operator`: init, unseal, seal, rotate and the views of the cluster, as `bao operator`.

Rule of this file: what exists in `bao` keeps its requests, words and exit codes; what is ours
(`unseal --all`, refusing to initialise beside an initialised node) needs a new flag or several
addresses.

Source: `bao operator` 2.7.2: requests seen through a proxy, words and exit codes run beside this.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from baoha_cli.client.answer import Answer, as_bool, as_list, as_mapping, as_text
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import cell_text, dashed_table, plain_table
from baoha_cli.output.seal_table import seal_data, seal_document
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli, doing
from baoha_cli.shell.inputs import secret_argument
from baoha_cli.text import one_line

app = new_group("operator", "Look after servers: init, unseal, seal, rotate, members.")
raft_app = new_group("raft", "Look at the integrated storage.")
app.add_typer(raft_app, name="raft")


@command(app, "init")
async def init(
    cli: Cli,
    *,
    key_shares: Annotated[
        int | None,
        typer.Option("--key-shares", "-n", metavar="N", help="Unseal keys to make. Default: 5."),
    ] = None,
    key_threshold: Annotated[
        int | None,
        typer.Option("--key-threshold", "-t", metavar="N", help="Needed to unseal. Default: 3."),
    ] = None,
    recovery_shares: Annotated[
        int | None,
        typer.Option(
            "--recovery-shares", metavar="N", help="With auto-unseal: keys to make. Default: 5."
        ),
    ] = None,
    recovery_threshold: Annotated[
        int | None,
        typer.Option(
            "--recovery-threshold", metavar="N", help="With auto-unseal: keys needed. Default: 3."
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only tell whether it is done: 0 yes, 2 no, 1 error.")
    ] = False,
) -> Verdict:
    """Initialise the store: make the unseal or recovery keys and the first root token."""
    if status:
        return await _init_status(cli)
    await _refuse_second_init(cli)
    with doing("initializing"):
        seal = (await cli.call("GET", "sys/seal-status", with_token=False)).mapping()
        if seal.get("recovery_seal") is True:
            body = _shares(key_shares, key_threshold, (0, 0), "secret")
            body |= _shares(recovery_shares, recovery_threshold, (5, 3), "recovery")
        else:
            if recovery_shares is not None or recovery_threshold is not None:
                cli.out.note("no auto-unseal here: --recovery-shares and -threshold do nothing")
            body = _shares(key_shares, key_threshold, (5, 3), "secret")
            body |= _shares(0, 0, (0, 0), "recovery")
        answer = await cli.call("PUT", "sys/init", body=body, with_token=False)
    data = _init_data(answer, body)
    if not (data["root_token"] or data["unseal_keys_b64"] or data["recovery_keys_b64"]):
        raise CommandFailed(
            "Error initializing: the answer holds neither keys nor a token", verdict=Verdict.API
        )
    cli.emit(Document(data, lambda _: _init_text(data)))
    return Verdict.OK


def _shares(
    shares: int | None, threshold: int | None, defaults: tuple[int, int], kind: str
) -> dict[str, int]:
    return {
        f"{kind}_shares": defaults[0] if shares is None else shares,
        f"{kind}_threshold": defaults[1] if threshold is None else threshold,
    }


async def _init_status(cli: Cli) -> Verdict:
    try:
        answer = await cli.call("GET", "sys/init", with_token=False)
    except UsageFailed:
        raise
    except CommandFailed as failure:
        failure.verdict = Verdict.LOCAL  # 2 would read as "not initialised"
        raise failure.prefixed("Error checking initialization status") from failure.__cause__
    done = as_bool(answer.mapping().get("initialized"))
    if done is None:  # no would be a lie
        raise CommandFailed(
            "Error checking initialization status: the answer does not tell", verdict=Verdict.LOCAL
        )
    text = "Vault is initialized" if done else "Vault is not initialized"
    cli.emit(Document({"initialized": done}, lambda _: text))
    return Verdict.OK if done else Verdict.UNINITIALIZED


async def _refuse_second_init(cli: Cli) -> None:
    """With several addresses: two stores initialised apart would be two clusters for ever."""
    if len(cli.endpoints) < 2:
        return
    from baoha_cli.survey.round import survey

    report = await survey(cli)
    done = [node.label for node in report.nodes if node.initialized]
    if done:
        raise CommandFailed(
            f"{', '.join(done)} is already initialised: initialising another node would make a "
            "second cluster",
            verdict=Verdict.API,
            hint="join or unseal the other nodes instead",
        )


def _init_data(answer: Answer, asked: dict[str, int]) -> dict[str, object]:
    body = answer.mapping()
    recovery = as_list(body.get("recovery_keys_base64"))
    return {
        "unseal_keys_b64": as_list(body.get("keys_base64")),
        "unseal_keys_hex": as_list(body.get("keys")),
        # With auto-unseal there is one key, and the seal keeps it.
        "unseal_shares": asked["secret_shares"] or 1,
        "unseal_threshold": asked["secret_threshold"] or 1,
        "recovery_keys_b64": recovery or None,
        "recovery_keys_hex": as_list(body.get("recovery_keys")) or None,
        "recovery_keys_shares": asked["recovery_shares"],
        "recovery_keys_threshold": asked["recovery_threshold"],
        "root_token": as_text(body.get("root_token")),
    }


def _init_text(data: dict[str, object]) -> str:
    unseal, recovery = as_list(data["unseal_keys_b64"]), as_list(data["recovery_keys_b64"])
    lines = [f"Unseal Key {number}: {one_line(str(key))}" for number, key in enumerate(unseal, 1)]
    lines += [
        f"Recovery Key {number}: {one_line(str(key))}" for number, key in enumerate(recovery, 1)
    ]
    lines += ["", f"Initial Root Token: {one_line(str(data['root_token']))}", ""]
    if unseal:
        return "\n".join(lines + _unseal_advice(data))
    lines.append("Success! Vault is initialized")
    if recovery:
        lines += [
            "",
            f"Recovery key initialized with {data['recovery_keys_shares']} key shares and a key "
            f"threshold of {data['recovery_keys_threshold']}. Please",
            "securely distribute the key shares printed above.",
        ]
    return "\n".join(lines)


def _unseal_advice(data: dict[str, object]) -> list[str]:
    threshold = data["unseal_threshold"]
    return [
        f"Vault initialized with {data['unseal_shares']} key shares and a key threshold of "
        f"{threshold}. Please securely",
        "distribute the key shares printed above. When the Vault is re-sealed,",
        f"restarted, or stopped, you must supply at least {threshold} of these keys to unseal it",
        "before it can start servicing requests.",
        "",
        f"Vault does not store the generated root key. Without at least {threshold} keys to",
        "reconstruct the root key, Vault will remain permanently sealed!",
    ]


@command(app, "unseal")
async def unseal(
    cli: Cli,
    *,
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="One key share; - reads it; asked for without."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the shares given so far.")] = False,
    migrate: Annotated[bool, typer.Option("--migrate", help="Part of a seal migration.")] = False,
    all_nodes: Annotated[
        bool, typer.Option("--all", help="Unseal every sealed node of --address, each share once.")
    ] = False,
) -> Verdict:
    """Give one key share to a sealed node, or all of them to all nodes."""
    if all_nodes:
        from baoha_cli.operate.unseal import unseal_all

        if reset or migrate or key not in (None, "-"):
            raise UsageFailed("--all takes no key, --reset or --migrate; - reads the shares")
        return await unseal_all(cli, from_stdin=key == "-")
    body: dict[str, object]
    if reset:
        body = {"reset": True}
    else:
        share = secret_argument(cli, key, "Unseal Key")
        cli.out.hide(share)
        body = {"key": share, "reset": False, "migrate": migrate}
    with doing("resetting unseal process" if reset else "unsealing"):
        answer = await cli.call("PUT", "sys/unseal", body=body, with_token=False)
    leader = await cli.call("GET", "sys/leader", with_token=False, accept=(503,))
    known = leader.mapping() if leader.status == 200 else {}
    ha_enabled = known.get("ha_enabled") is True or leader.status == 503
    cli.emit(seal_document(seal_data(answer.mapping(), known, ha_enabled)))
    return Verdict.OK


@command(app, "seal")
async def seal(cli: Cli) -> Verdict:
    """Seal a node: it forgets its keys until it is unsealed."""
    with doing("sealing"):
        await cli.call("PUT", "sys/seal")
    cli.out.say("Success! Vault is sealed.")
    return Verdict.OK


@command(app, "step-down")
async def step_down(cli: Cli) -> Verdict:
    """Make the active node give up, as `bao` does; `baoha step-down` checks and watches."""
    with doing("stepping down"):
        await cli.call("PUT", "sys/step-down")
    cli.out.say(f"Success! Stepped down: {cli.endpoints[0].url}")
    return Verdict.OK


@command(app, "rotate")
async def rotate(cli: Cli) -> Verdict:
    """Make a new key for what is stored from now on."""
    with doing("rotating key"):
        answer = await cli.call("POST", "sys/rotate/keyring", accept=(404, 405))
        if answer.status in (404, 405):  # Vault, and OpenBao before 2.4
            await cli.call("PUT", "sys/rotate")
    with doing("reading key status"):
        data = _key_status_data(await cli.call("GET", "sys/key-status"))
    cli.emit(Document(data, lambda _: f"Success! Rotated key\n\n{_key_status_text(data)}"))
    return Verdict.OK


@command(app, "key-status")
async def key_status(cli: Cli) -> Verdict:
    """Tell the term, age and use of the current key."""
    with doing("reading key status"):
        data = _key_status_data(await cli.call("GET", "sys/key-status"))
    cli.emit(Document(data, lambda _: _key_status_text(data)))
    return Verdict.OK


def _key_status_data(answer: Answer) -> dict[str, object]:
    body = answer.mapping()
    inner = as_mapping(body.get("data")) or body
    return {
        "term": inner.get("term"),
        "install_time": inner.get("install_time"),
        "encryptions": inner.get("encryptions"),
    }


def _key_status_text(data: dict[str, object]) -> str:
    rows = [
        ("Key Term", cell_text(data["term"])),
        ("Install Time", _rfc822(as_text(data["install_time"]))),
        ("Encryption Count", cell_text(data["encryptions"])),
    ]
    return plain_table([(name, one_line(text)) for name, text in rows])


@command(app, "members")
async def members(cli: Cli) -> Verdict:
    """List the nodes that the active node knows."""
    answer = await cli.call("GET", "sys/ha-status")
    nodes = member_nodes(answer)
    header = ("Host Name", "API Address", "Cluster Address", "Active Node", "Version")
    rows = [(*header, "Upgrade Version", "Last Echo"), *(_member_row(node) for node in nodes)]
    document = Document(
        {"Nodes": nodes},
        lambda _: dashed_table(rows),
        rows=rows,
        names=[one_line(as_text(node.get("api_address"))) for node in nodes],
        records=nodes,
    )
    cli.emit(document)
    return Verdict.OK


def member_nodes(answer: Answer) -> list[dict[str, object]]:
    """Return the rows of an answer of sys/ha-status."""
    body = answer.mapping()
    listed = body.get("nodes") or as_mapping(body.get("data")).get("nodes")
    return [as_mapping(item) for item in as_list(listed)]


def _member_row(node: dict[str, object]) -> tuple[str, ...]:
    echo = as_text(node.get("last_echo"))
    names = ("hostname", "api_address", "cluster_address", "active_node", "version")
    cells = [cell_text(node.get(name, "")) for name in (*names, "upgrade_version")]
    return (*(one_line(cell) for cell in cells), one_line(_whole_seconds(echo) or "n/a"))


@command(raft_app, "list-peers")
async def list_peers(cli: Cli) -> Verdict:
    """List the peers of the integrated storage."""
    with doing("reading the raft cluster configuration"):
        answer = await cli.call("GET", "sys/storage/raft/configuration", accept=(404,))
    config = as_mapping(as_mapping(answer.mapping().get("data")).get("config"))
    servers = [as_mapping(item) for item in as_list(config.get("servers"))]
    if not servers:
        cli.out.error("No raft cluster configuration found")
        return Verdict.API
    rows = [("Node", "Address", "State", "Voter")]
    for server in servers:
        state = "leader" if server.get("leader") else "follower"
        rows.append(
            (
                one_line(cell_text(server.get("node_id"))),
                one_line(cell_text(server.get("address"))),
                state,
                cell_text(bool(server.get("voter"))),
            )
        )
    from baoha_cli.commands.secret_document import secret_data

    data = secret_data(answer.mapping())
    names = [row[0] for row in rows[1:]]
    cli.emit(Document(data, lambda _: dashed_table(rows), rows=rows, names=names))
    return Verdict.OK


def _whole_seconds(text: str) -> str:
    """Return an RFC 3339 time without fractions, or "" when it is none."""
    head, dot, rest = text.partition(".")
    if not dot:
        return text
    return head + ("Z" if rest.endswith("Z") else rest[rest.find("+") :] if "+" in rest else "")


def _rfc822(text: str) -> str:
    """Return an RFC 3339 time as "23 Nov 26 10:52 UTC"; anything else as it is."""
    try:
        moment = datetime.fromisoformat(_whole_seconds(text))
    except ValueError:
        return text or "n/a"
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    zone = moment.tzname() or "UTC"
    return f"{moment:%d} {months[moment.month - 1]} {moment:%y %H:%M} {zone}"
