"""
What an engine is made of: its protocol, routes, fields, and the form in which it stores.

Read `engine` first, then `routes`: an engine is a list of these.
"""
