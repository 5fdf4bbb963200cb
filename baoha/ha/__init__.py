"""High availability: tenure, duty, standby, hand-over, request gate, the loop. Knows no HTTP."""
