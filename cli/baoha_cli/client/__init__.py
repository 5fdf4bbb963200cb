"""
HTTP to servers: addresses, TLS, retries, and answers that nobody trusts.

Read `client` first; a token goes to addresses that were given, and to no other.
"""
