"""The form of addresses: one code for each fault, the same for files and for running clusters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.sansio.address_form import address_form


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("https://n1.example.com:8200", ""),
        ("http://n1.example.com", ""),
        ("HTTPS://[2001:db8::1]:8200/", ""),
        ("https://user:pw@n1:8200/x?y#z", ""),
        ("https://$(HOSTNAME):8200", "BH-111"),
        ("https://{{ GetPrivateIP }}:8200", "BH-111"),
        ("", "BH-102"),
        ("localhost:8200", "BH-102"),
        ("ftp://n1:8200", "BH-102"),
        ("https://2001:db8::1:8200", "BH-112"),
        ("https://::1", "BH-112"),
        ("https://[fe80::1%25eth0]:8200", "BH-112"),
        ("https://", "BH-103"),
        ("https://:8200", "BH-103"),
        ("https:///v1", "BH-103"),
        ("https://n1:0", "BH-104"),
        ("https://n1:99999", "BH-104"),
        ("https://n1:", "BH-104"),
        ("https://[::1]x", "BH-104"),
    ],
)
def test_address_has_the_code_of_its_fault(text: str, code: str) -> None:
    assert str(address_form(text) or "") == code


def test_scheme_of_any_kind_is_right_where_it_does_not_matter() -> None:
    assert address_form("tcp://n1:8201", schemes=None) is None
    assert str(address_form("n1:8201", schemes=None)) == "BH-102"


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    address_form(text)
