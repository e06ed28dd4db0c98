"""Analysis: what learnt masks say about languages, tasks and layers.

`mask_set` lays packs side by side as bits; `similarity`, `cuts`, `relations` (Mantel test), `typology`, `cka` and
`arrange` compute on them. Importing this package imports nothing.
"""
