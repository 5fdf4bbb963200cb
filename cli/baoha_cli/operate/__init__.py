"""
What changes a cluster: hand-over, unsealing, drills.

Read `handover` first. Everything else in the command line only looks.
"""
