"""
Collect evidence: names, ports, certificates, redirects, clocks, members.

Read `gather` first. Nothing here judges.
"""
