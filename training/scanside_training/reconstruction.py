"""The network in training: one step, one validation, what the optimiser sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from safetensors.torch import save_file

from scanside.errors import NonFiniteError
from scanside_training.checkpoint import load_model, network_of, renew_moments
from scanside_training.config import TrainConfig
from scanside_training.distillation import Distillation
from scanside_training.losses import build_loss
from scanside_training.losses.uncertainty import trust_in
from scanside_training.models import Batch
from scanside_training.optimisers import build_optimiser
from scanside_training.schedule import rate_of

__all__ = ["Reconstruction"]


class Reconstruction(pl.LightningModule):
    """A reconstruction network and its loss, as Lightning trains them.

    Args:
        config: the run's configuration.
        n_steps: optimiser steps of the whole run, by which the schedule is laid out.
        folder: where a batch is saved whose loss is no number.
        example: a batch of samples, by which a distillation sees the sizes of features.

    Raises:
        ConfigError: the teacher is no finished run, or its layers are not what the distillation names.
        FormatError: the teacher's weights are damaged.
    """

    def __init__(self, config: TrainConfig, n_steps: int, folder: Path, example: Batch) -> None:
        super().__init__()
        self.config = config
        self.n_steps = n_steps
        self.folder = folder
        self.batches = (0, 0, 0)
        """Batches used before this part of the run, the step at which it began, and batches per step."""
        self.seconds: Callable[[], float] = lambda: 0.0
        """Time spent in training, over all parts of a resumed run."""
        self.model = config.model.build()
        self.loss = build_loss(config.loss, network_of)
        self.distillation: Distillation | None = None
        if config.distillation is not None:
            teacher, _ = load_model(config.distillation.teacher)
            self.distillation = Distillation(teacher, self.model, config.distillation, example)

    def forward(self, batch: Batch) -> torch.Tensor:
        """What the network gives of a batch of training samples, float32: images or films shaped as its targets.

        Behind their channels there may be those of other outputs.
        """
        output: torch.Tensor = self.model(*self.model.inputs(batch))
        return output.float()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let what the network draws (dropout) follow from the step, so that a resumed run draws the same."""
        place = (self.global_step, batch_idx % self.config.accumulate, self.global_rank)
        mixed = np.random.SeedSequence([self.config.seed, *place]).generate_state(1)
        torch.manual_seed(int(mixed[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss of a batch.

        Raises:
            NonFiniteError: the loss is NaN or infinite; the batch has been saved in the run's folder.
        """
        if self.distillation is None:
            output = self(batch)
            terms = self._learning_loss(output, batch)
        else:
            output, terms = self.distillation(self.model, batch, self._learning_loss)
        total = terms["total"]
        if not torch.isfinite(total):
            raise self._not_finite(terms, output, batch)
        # Lightning counts steps from 0; everywhere else, step n is the state after n steps.
        self.log("step", float(self.global_step + 1))
        for name, value in terms.items():
            self.log("train/loss" if name == "total" else f"train/{name}", value.detach())
        return total

    def _learning_loss(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        image, _ = self.model.split(output.float())
        return {**self.loss.learn(image, batch, self.global_step), **self._loss(output, batch)}

    def _loss(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        # Sums over whole images lose too much in 16 bits.
        with torch.autocast(self.device.type, enabled=False):
            image, others = self.model.split(output.float())
            terms: dict[str, torch.Tensor] = self.loss(image, {**batch, **others})
        return terms

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the gradient before it reaches the weights.

        Raises:
            NonFiniteError: it is NaN or infinite, other than by the overflow that 16-mixed answers itself.
        """
        if self.config.precision == "16-mixed":
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise NonFiniteError(
                f"the gradient at step {self.global_step} is {float(norm)}, though the loss is finite: a term "
                "of the loss has no derivative there (a root or a division at 0?), or the learning rate is "
                f"too high ({optimizer.param_groups[0]['lr']:g}); the last good weights are in {self.folder}"
            )
        self.log("train/gradient_norm", norm)

    def _not_finite(
        self, terms: dict[str, torch.Tensor], output: torch.Tensor, batch: Batch
    ) -> NonFiniteError:
        tensors = {k: v.detach().cpu().contiguous() for k, v in batch.items() if isinstance(v, torch.Tensor)}
        path = self.folder / f"nonfinite-step{self.global_step}-rank{self.global_rank}.safetensors"
        save_file(tensors, path, metadata={"step": str(self.global_step)})
        of_batch = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
        if of_batch:
            cause = f"the batch itself holds NaN or infinity, in {', '.join(of_batch)}: look at the data"
        elif not torch.isfinite(output).all():
            cause = (
                "the batch is finite and the network's output is not: lower the learning rate, clip the "
                "gradient (gradient_clip: 1.0), or use 32-true"
            )
        else:
            cause = "batch and output are finite, so a term of the loss divides by zero"
        values = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
        return NonFiniteError(
            f"the loss at step {self.global_step} (process {self.global_rank}) is no number ({values}): {cause}. "
            f"The batch is in {path}"
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss of a batch, averaged over the validation set by its samples; gives the image to callbacks."""
        output: torch.Tensor = self(batch)
        figures = {"loss": self._loss(output, batch)["total"]}
        image, others = self.model.split(output)
        if self.model.tells_uncertainty:
            trust = trust_in(image, batch["target"], others["uncertainty"], batch["roi"])
            figures |= {f"uncertainty_{name}": value for name, value in trust._asdict().items()}
        named = {f"validation/{name}": value for name, value in figures.items()}
        self.log_dict(named, batch_size=len(output), sync_dist=True)
        return image

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the place in the order of samples at which a resumed run goes on, and what its loss has learned."""
        before, first_step, per_step = self.batches
        checkpoint["batches"] = before + (checkpoint["global_step"] - first_step) * per_step
        if learned := self.loss.learned():
            checkpoint["learned_by_loss"] = learned

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take checkpoints of earlier versions too; the weights themselves are renewed where they are loaded."""
        for optimiser in checkpoint["optimizer_states"]:
            renew_moments(self, optimiser)
        self.loss.restore(checkpoint.get("learned_by_loss", {}))

    def configure_optimizers(self) -> Any:
        """Optimiser, and the schedule by optimiser steps."""
        optimiser = build_optimiser(self.config.optimiser, self.parameters())
        limit = 60 * (self.config.max_minutes or math.inf)
        rate = rate_of(self.config.schedule, self.n_steps, lambda: self.seconds() / limit)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
