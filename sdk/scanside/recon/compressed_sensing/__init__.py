"""Compressed sensing: images that fit what was acquired and are sparse, in wavelets or in differences.

Lustig, Donoho, Pauly: *Sparse MRI: the application of compressed sensing for rapid MR imaging*, MRM 58:1182-1195
(2007). `pics` solves the whole problem; what it is made of are `fista` and `primal_dual`, which know of no image.
"""
