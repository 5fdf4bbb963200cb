"""
The commands that are typed, one file each.

A command declares itself, calls one room, and emits one document. `baoha_cli.registry` lists them.
"""
