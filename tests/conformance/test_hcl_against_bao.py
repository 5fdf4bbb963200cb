"""
The HCL parser beside ``bao policy fmt``: the same texts are HCL, and the errors read the same.

``bao`` goes on to validate what it parsed; only an error that begins with a place is one of syntax.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from baoha.sansio.formats.hcl import HCLError, parse
from tests.support.hcl_cases import ACCEPTED, REFUSED

BAO = Path(sys.executable).parent / "bao"
_SYNTAX_ERROR = re.compile(r"failed to parse policy: (At [0-9]+:[0-9]+: .*)", re.DOTALL)

# ``policy fmt`` does not read JSON, and refuses an attribute that is given twice; ``policy write``
# (and a server's configuration) takes both.
NOT_FOR_FMT = {"duplicate attribute", "JSON", "JSON escapes", "JSON behind white space"}

# OpenBao finds these only when it uses the value, not when it parses.
FOUND_LATER = {"surrogate", "beyond Unicode", "not octal", "beyond 64 bits", "huge number"}
FOUND_LATER |= {"infinite number", "half a character"}

# OpenBao scans on behind these and reports what it meets last.
OTHER_WORDS = {"null", "one angle", "minus alone", "unclosed string"}


def _syntax_error(text: str, directory: Path) -> str | None:
    file = directory / "policy.hcl"
    file.write_bytes(text.encode())
    done = subprocess.run(  # one short process, no secrets, no server
        [BAO, "policy", "fmt", file], capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode == 0:
        return None
    found = _SYNTAX_ERROR.match(done.stderr.strip())
    return found[1] if found else None


@pytest.mark.parametrize("name", [name for name in ACCEPTED if name not in NOT_FOR_FMT])
def test_text_that_we_accept_is_accepted_by_openbao(name: str, tmp_path: Path) -> None:
    assert _syntax_error(ACCEPTED[name][0], tmp_path) is None


@pytest.mark.parametrize("name", [name for name in REFUSED if not name.startswith("JSON")])
def test_text_that_we_refuse_is_refused_by_openbao(name: str, tmp_path: Path) -> None:
    text, message = REFUSED[name]
    with pytest.raises(HCLError):
        parse(text)
    error = _syntax_error(text, tmp_path)
    if name in FOUND_LATER:
        assert error is None
    elif name in OTHER_WORDS:
        assert error is not None
    else:
        assert error == message
