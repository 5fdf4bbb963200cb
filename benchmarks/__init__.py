"""Measurements of real clusters, baoha beside OpenBao, and the lab that starts them."""
