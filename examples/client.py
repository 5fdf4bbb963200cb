"""
A client that lives through a change of the active node. Needs hvac (PyPI).

    BAO_TOKEN=... python examples/client.py http://127.0.0.1:8200 http://127.0.0.1:8202

It counts in a secret, through the first node that answers. What it does about failures:

- no connection, or a connection that broke: another node;
- 503: the same again after a second (``Retry-After``).

Either may have happened after the write was executed ("the outcome is unknown"). So it reads before
it writes again: if its own value is there, the write is done. Check-and-set (``cas``) refuses a
write that is late.
"""

from __future__ import annotations

import os
import sys
import time

import hvac
import requests

PATH = "counter"
RETRY_AFTER_S = 1.0
WRITES = 100


def read(client: hvac.Client) -> tuple[int, int]:
    """Return (version, count) of the secret; (0, 0) when there is none."""
    try:
        answer = client.secrets.kv.v2.read_secret_version(path=PATH, raise_on_deleted_version=True)
    except hvac.exceptions.InvalidPath:
        return 0, 0
    return answer["data"]["metadata"]["version"], answer["data"]["data"]["count"]


def write(client: hvac.Client, version: int, count: int) -> None:
    """Write a count, only if ``version`` is still the newest."""
    client.secrets.kv.v2.create_or_update_secret(path=PATH, secret={"count": count}, cas=version)


def add_one(clients: list[hvac.Client]) -> None:
    """Add one to the count, exactly once. Nobody else may write meanwhile."""
    wanted: tuple[int, int] | None = None
    while True:
        client = clients[0]
        try:
            found = read(client)
            if found == wanted:
                print("the last attempt was executed after all")
                return
            wanted = (found[0] + 1, found[1] + 1)
            write(client, found[0], found[1] + 1)
            return
        except requests.ConnectionError:
            print(f"{client.url}: no connection, trying the next node")
            clients.append(clients.pop(0))
            time.sleep(0.1)
        except hvac.exceptions.VaultDown as exc:
            print(f"{client.url}: {exc}")
            time.sleep(RETRY_AFTER_S)


def main(addresses: list[str], token: str) -> None:
    """Count to WRITES."""
    clients = [hvac.Client(url=address, token=token, timeout=30) for address in addresses]
    for _ in range(WRITES):
        add_one(clients)
        time.sleep(0.1)
    print(f"the count is {read(clients[0])[1]}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["http://127.0.0.1:8200"], os.environ["BAO_TOKEN"])
