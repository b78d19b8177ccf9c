"""The plant: CFS bandwidth control of the kernel as arithmetic, and the delays that it causes.

`recursion.step` is one period as a pure function; `batch.Plant` runs many periods of many nodes in
place and comes to the same; `delays` turns what arrived and what was served into delays. How far
all of it can be trusted is measured by `mbcas-loadtest validate-plant`; see README.md.
"""
