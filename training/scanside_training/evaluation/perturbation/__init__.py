"""What a reconstruction does to a small structure, and how much it can be made to show that was not scanned.

A structure is added to what was acquired, through the scan's own maps, phase and mask, so that noise and everything
else are the same with and without it; the difference of the two images is the *response* (`responses`), and several
realisations of noise tell how well the structure can be detected (`detectability`). Within a bound on their norm,
changes of the acquired samples are looked for that change the image most (`worst_case`).

- Chan et al., *Local perturbation responses and checkerboard tests: characterization tools for nonlinear MRI
  methods*, MRM 86:1873-1887 (2021).
- Antun et al., *On instabilities of deep learning in image reconstruction and the potential costs of AI*,
  PNAS 117:30088-30095 (2020).
"""

from __future__ import annotations

from scanside_training.evaluation.perturbation.config import PerturbationConfig
from scanside_training.evaluation.perturbation.run import Perturbed, perturb

__all__ = ["PerturbationConfig", "Perturbed", "perturb"]
