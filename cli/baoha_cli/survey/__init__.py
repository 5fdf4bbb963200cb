"""
What is there: nodes asked all at once, and the picture of a cluster that comes of it.

Read `nodes` first (the records), then `round` and `ask`. No command and no check is known here.
"""
