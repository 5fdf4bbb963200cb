"""
The server process: start and end, signals, listeners, TLS of the API, logs, development servers.

Everything that touches the operating system or hypercorn is here, and no decision about requests.
What a connection may do to the process is bounded in ``server/http/listener.py`` and
``server/http/connection.py``. Read first: ``process.py``, then ``lifecycle.py``.
"""
