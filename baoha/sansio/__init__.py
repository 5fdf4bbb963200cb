"""Pure code: no trio, no sockets, no clocks, no randomness. Time and random bytes are arguments."""
