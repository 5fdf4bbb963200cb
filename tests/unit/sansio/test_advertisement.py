"""The leader advertisement: OpenBao's bytes, and nothing wrong gets through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.errors import ForwardingError, StorageCorrupt
from baoha.sansio.advertisement import (
    Advertisement,
    KeyParams,
    check_key_material,
    cluster_endpoint,
    decode_advertisement,
    encode_advertisement,
)

KEY = KeyParams(x=2**520 + 1, y=2**519 + 3, d=5)
FULL = Advertisement(
    redirect_addr="http://127.0.0.1:8200",
    cluster_addr="https://127.0.0.1:8201",
    cluster_cert=b"\x30\x82\x00",
    key=KEY,
)

texts = st.text(max_size=60)
numbers = st.integers(0, 2**521 - 1)
advertisements = st.builds(
    Advertisement,
    redirect_addr=texts,
    cluster_addr=texts,
    cluster_cert=st.binary(max_size=60),
    key=st.none() | st.builds(KeyParams, type=texts, x=numbers, y=numbers, d=numbers),
)


def test_encode_full_record_is_gos_json_with_bare_integers_and_newline() -> None:
    """Source: docs/spec/openbao-ha.md section 2.2."""
    expected = (
        '{"redirect_addr":"http://127.0.0.1:8200","cluster_addr":"https://127.0.0.1:8201",'
        '"cluster_cert":"MIIA","cluster_key_params":{"type":"p521",'
        f'"x":{2**520 + 1},"y":{2**519 + 3},"d":5}}}}\n'
    )
    assert encode_advertisement(FULL) == expected.encode()


def test_encode_clustering_off_leaves_the_rest_out() -> None:
    assert (
        encode_advertisement(Advertisement(redirect_addr="http://a"))
        == b'{"redirect_addr":"http://a"}\n'
    )


def test_encode_characters_that_go_escapes_are_escaped() -> None:
    encoded = encode_advertisement(Advertisement(redirect_addr="http://a/?x=<1>&y=\u2028é"))
    assert encoded == '{"redirect_addr":"http://a/?x=\\u003c1\\u003e\\u0026y=\\u2028é"}\n'.encode()


@given(advertisements)
def test_decode_of_encode_is_the_same(advertisement: Advertisement) -> None:
    encoded = encode_advertisement(advertisement)
    assert decode_advertisement(encoded) == advertisement
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1


@given(st.binary(max_size=300))
def test_decode_anything_is_an_advertisement_or_storage_corrupt(data: bytes) -> None:
    try:
        decoded = decode_advertisement(data)
    except StorageCorrupt:
        return
    assert decoded.key is None or decoded.key.type is not None


def test_decode_text_that_is_not_json_is_a_bare_redirect_address() -> None:
    """Source: docs/spec/openbao-ha.md section 2.2, the format from before request forwarding."""
    assert decode_advertisement(b"http://10.0.0.1:8200") == Advertisement(
        redirect_addr="http://10.0.0.1:8200"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"5",
        b"a\x00b",
        b'{"redirect_addr":5}',
        b'{"cluster_cert":"*"}',
        b'{"cluster_key_params":[]}',
        b'{"cluster_key_params":{"type":1}}',
        b'{"cluster_key_params":{"type":"p521","x":"1"}}',
        b'{"cluster_key_params":{"type":"p521","x":1.5}}',
        b'{"cluster_key_params":{"type":"p521","x":true}}',
        b'{"cluster_key_params":{"type":"p521","d":-1}}',
        b'{"cluster_key_params":{"type":"p521","d":' + str(2**521).encode() + b"}}",
        b'{"x":' + b"1" * 70_000 + b"}",
    ],
)
def test_decode_wrong_shape_is_storage_corrupt(data: bytes) -> None:
    with pytest.raises(StorageCorrupt):
        decode_advertisement(data)


def test_decode_unknown_keys_and_nulls_are_ignored() -> None:
    data = json.dumps({"redirect_addr": "r", "cluster_cert": None, "future": {"a": 1}}).encode()
    assert decode_advertisement(data) == Advertisement(redirect_addr="r")


@pytest.mark.parametrize(
    ("key", "certificate", "text"),
    [
        (None, b"c", "no local cluster key params found"),
        (
            KeyParams(type="p256", x=1, y=1, d=1),
            b"c",
            "failed to find valid local cluster key type",
        ),
        (KeyParams(x=0, y=1, d=1), b"c", "failed to parse local cluster key"),
        (KeyParams(x=1, y=0, d=1), b"c", "failed to parse local cluster key"),
        (KeyParams(x=1, y=1, d=0), b"c", "failed to parse local cluster key"),
        (KeyParams(x=1, y=1, d=1), b"", "no local cluster cert found"),
    ],
)
def test_key_material_incomplete_has_openbaos_text(
    key: KeyParams | None, certificate: bytes, text: str
) -> None:
    with pytest.raises(ForwardingError) as caught:
        check_key_material(Advertisement(redirect_addr="", cluster_cert=certificate, key=key))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("https://127.0.0.1:8201", ("127.0.0.1", 8201)),
        ("https://[::1]:1", ("::1", 1)),
        ("https://node.example:65535/", ("node.example", 65535)),
    ],
)
def test_cluster_endpoint_good_address(address: str, endpoint: tuple[str, int]) -> None:
    assert cluster_endpoint(Advertisement(redirect_addr="", cluster_addr=address)) == endpoint


@pytest.mark.parametrize(
    "address", ["", "node:8201", "https://node", "https://:1", "https://n:99999"]
)
def test_cluster_endpoint_bad_address_is_refused(address: str) -> None:
    with pytest.raises(ForwardingError):
        cluster_endpoint(Advertisement(redirect_addr="", cluster_addr=address))


def test_private_key_is_not_in_any_representation() -> None:
    secret = Advertisement(redirect_addr="r", key=KeyParams(x=1, y=2, d=987654321))
    assert "987654321" not in repr(secret)
