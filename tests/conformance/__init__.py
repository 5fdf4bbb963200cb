"""
Promises to others: every store against the contract, the HTTP API against OpenBao's answers.

The recordings, the stored vectors and the exceptions (each with its reason) are here, and so are
hostile inputs and the documents themselves. Read first: ``test_backends.py`` for stores,
``test_http_api.py`` with ``http_exceptions.py`` for the API.
"""
