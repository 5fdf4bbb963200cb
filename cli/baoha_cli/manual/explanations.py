"""The catalogue of diagnostic codes, loaded when somebody wants all of it."""

from __future__ import annotations

# Modules that register diagnostic codes; loaded only here, for the whole catalogue.
CATALOGUE_MODULES: tuple[str, ...] = ("baoha.diagnostics.catalogue",)


def load_catalogue() -> None:
    """Load the modules that register diagnostic codes."""
    from importlib import import_module

    for name in CATALOGUE_MODULES:
        import_module(name)
