"""
Plain values without pydantic: Typer's own coercion imports it, which costs 120 ms per command.

Rule of this file: it covers text, numbers, flags and lists of text, which is all that our commands
declare; anything else stays with Typer.

Source: measured with `python -X importtime` on typer 0.29.2 (typer._adapters: 120 of 220 ms).
"""

from __future__ import annotations

from typing import Any

import typer

_PLAIN: tuple[Any, ...] = (str, int, bool, list[str])


class PlainValue:
    """
    Takes the place of Typer's runtime coercion for one parameter.

    Args:
        kind: str, int, bool or list[str].
        least: smallest number allowed, or None.
        most: largest number allowed, or None.
    """

    def __init__(self, kind: Any, least: float | None, most: float | None) -> None:
        self._kind = kind
        self._least = least
        self._most = most

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """
        Return the value in its type.

        Raises:
            typer.BadParameter: it is none.
        """
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if self._kind is int:
            return self._number(value, param, ctx)
        if self._kind == list[str]:
            return [str(item) for item in value]
        return bool(value) if self._kind is bool else str(value)

    def _number(self, value: Any, param: Any, ctx: Any) -> int:
        text = str(value).strip()
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
            raise typer.BadParameter(f"{text[:40]!a} is not a number", ctx=ctx, param=param)
        number = int(text)
        too_small = self._least is not None and number < self._least
        if too_small or (self._most is not None and number > self._most):
            raise typer.BadParameter(f"{number} is out of range", ctx=ctx, param=param)
        return number


def use_plain_values(params: list[Any]) -> None:
    """Put PlainValue in place on the parameters that it covers."""
    for param in params:
        descriptor = getattr(param, "type_descriptor", None)
        kind = getattr(descriptor, "annotation", None)
        if descriptor is None or kind not in _PLAIN:
            continue
        info = descriptor.parameter_info
        plain = PlainValue(kind, info.min, info.max)
        param.get_runtime_param = lambda plain=plain: plain
