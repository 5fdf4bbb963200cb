"""
The cluster channel: one mutually authenticated connection from each standby to the active node.

The standby's end is ``client.py`` and ``link_session.py``, the active node's ``listener.py`` and
``peer.py``; between them stand ``transport.py`` and ``tls.py``, and the frames, which are pure
(``baoha.sansio``). Knows nothing of why a node is active. Read first: ``client.py``.
"""
