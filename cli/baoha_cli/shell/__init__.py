"""
How a command is declared and run: options, environment, inputs, and what it is given.

Read `command` first, then `context`.
"""
