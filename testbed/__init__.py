"""
Real clusters as processes, baoha's and OpenBao's, for tests and benchmarks alike.

Read `clusters` first; a cluster is described by a file in `clusters/`. Nothing here measures.
"""
