"""Analysis: what learnt masks say about languages, tasks and layers.

Begin at `report.analyse`. `mask_set` lays packs side by side as bits; `similarity`, `cuts`, `relations` (Mantel test),
`typology`, `cka`, `representation` and `arrange` compute on them; `inside` and `outside` make tables and figures of it,
`page` writes these. Importing this package imports nothing.
"""
