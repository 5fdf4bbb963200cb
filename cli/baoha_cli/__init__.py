"""
The command line of baoha: `baoha status`, `baoha step-down`, `baoha kv` and the rest.

Works against baoha, OpenBao and Vault alike. Start reading at `main` (process entry), then `app`
(how a command is declared) and `context` (what a command is handed).
"""
