"""
The command line of baoha: `baoha status`, `baoha step-down`, `baoha kv` and the rest.

Works against baoha, OpenBao and Vault alike: what a server can do is found out by asking it. Read
first: ``main.py`` (process entry), then ``shell/command.py`` (how a command is declared) and
``shell/context.py`` (what a command is handed).
"""
