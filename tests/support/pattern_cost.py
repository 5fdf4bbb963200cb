"""
All regular expressions of our packages, and inputs on which a bad one is slow.

A pattern is found wherever it is written: as an attribute of a module or class, inside a function,
as the path of a route. How it is used (``match``, ``search``, ...) is read from the source, too.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

Text: TypeAlias = str | bytes

# Methods that look for a match at every position; the others only at one.
_SEARCHING = frozenset({"search", "sub", "subn", "findall", "finditer", "split"})
_METHODS = _SEARCHING | {"match", "fullmatch"}
# What may be written before the run that hurts, beside the pattern's own literals.
_CHARACTERS = (" ", "a", "0", "\n", '"', "\\", "/", "\x00", "é")
_ENDINGS = ("", "\x00")
_LITERALS_MAX = 10


@dataclass(frozen=True)
class Use:
    """One pattern and the method it is called with."""

    where: str
    pattern: re.Pattern[Any]
    method: str

    @property
    def id(self) -> str:
        """A name for the test's report."""
        return f"{self.where}-{self.method}"

    def cost(self, text: str, *, attempts: int = 1) -> float:
        """Return the least CPU seconds of several attempts."""
        given: Text = text
        if isinstance(self.pattern.pattern, bytes):
            given = text.encode("utf-8", "surrogatepass")
        call: Callable[[Text], Any] = getattr(self.pattern, self.method)
        if self.method in ("sub", "subn"):
            call = partial(call, given[:0])
        best = float("inf")
        for _ in range(attempts):
            started = time.thread_time()
            result = call(given)
            if self.method == "finditer":
                list(result)
            best = min(best, time.thread_time() - started)
        return best


def all_uses(*packages: str) -> list[Use]:
    """Return every pattern of some packages with every method that it is used with."""
    found: dict[tuple[str, Text, int, str], Use] = {}
    for module in _modules(packages):
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text())
        for name, pattern, method in (*_named(module, tree), *_inline(module, tree)):
            use = Use(f"{module.__name__}:{name}", pattern, method)
            found[module.__name__, pattern.pattern, pattern.flags, method] = use
    return list(found.values())


def _modules(packages: tuple[str, ...]) -> Iterator[ModuleType]:
    for name in packages:
        package = importlib.import_module(name)
        yield package
        for info in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not info.name.endswith("__main__"):
                yield importlib.import_module(info.name)


def _named(module: ModuleType, tree: ast.AST) -> Iterator[tuple[str, re.Pattern[Any], str]]:
    methods: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _METHODS:
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            methods.setdefault(name, set()).add(node.attr)
    owners = [module, *(v for v in vars(module).values() if isinstance(v, type))]
    for owner in owners:
        if isinstance(owner, type) and owner.__module__ != module.__name__:
            continue
        for name, value in list(vars(owner).items()):
            for pattern in _patterns_in(value):
                # Imported ones are found at home; what is used elsewhere is asked for everything.
                for method in methods.get(name) or ("fullmatch", "search"):
                    yield name, pattern, method


def _patterns_in(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from _patterns_in((*value.keys(), *value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _patterns_in(item)


def _inline(module: ModuleType, tree: ast.AST) -> Iterator[tuple[str, re.Pattern[Any], str]]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, functions)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        # What is compiled outside functions is somebody's attribute.
        if not isinstance(node, ast.Call) or not node.args or id(node) not in inside:
            continue
        called = ast.unparse(node.func)
        if called == "Route":
            method = "fullmatch"
        elif called.startswith("re.") and called.removeprefix("re.") in _METHODS | {"compile"}:
            method = called.removeprefix("re.")
        else:
            continue
        try:
            source = eval(
                compile(ast.Expression(node.args[0]), module.__file__ or "", "eval"), vars(module)
            )
        except (NameError, AttributeError):
            continue  # made of local values: the pattern is in the place that these come from
        if isinstance(source, str | bytes):
            pattern = re.compile(source, re.DOTALL if called == "Route" else 0)
            for used in ("fullmatch", "search") if method == "compile" else (method,):
                yield f"line {node.lineno}", pattern, used


def inputs(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (beginning, unit, ending): runs of every kind of character, and of every pair."""
    alphabet = sorted({*_literals(pattern), *_CHARACTERS})
    units = [*alphabet, *map("".join, product(alphabet, repeat=2))]
    yield from product(("", *alphabet), units, _ENDINGS)


def _literals(pattern: re.Pattern[Any]) -> list[str]:
    """Return characters that the pattern names."""
    source = pattern.pattern
    text = source.decode("latin-1") if isinstance(source, bytes) else source
    named = [char for char in dict.fromkeys(text) if not char.isalnum() and char not in "?*|()^"]
    letters = [char for char in dict.fromkeys(text) if char.isalnum()]
    return [*named[:_LITERALS_MAX], *letters[:4]]


def written(beginning: str, unit: str, ending: str, length: int) -> str:
    """Return an input of about so many characters."""
    return beginning + unit * (length // len(unit)) + ending
