"""BrainScaleS-2 as a multiplier of vectors and matrices, its non-spiking mode (called hagen)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snnrepro.errors import UserError
from snnrepro.hardware.parts import NONE, Source, check_seed, instead


@dataclass(frozen=True)
class VectorMatrix:
    """An analog multiplier of whole numbers.

    Attributes:
        name: of the mode.
        most_input: inputs are 0 .. this.
        most_weight: weights are -this .. this.
        gain: output of a product of 1.
        noise: standard deviation of a reading.
        rows: inputs that are summed in one reading; sums of several readings are digital.
        lowest, highest: range of a reading, and of their sum.
        source: where the numbers are from.
    """

    name: str
    most_input: int = 31
    most_weight: int = 63
    gain: float = 0.002
    noise: float = 2.0
    rows: int = 128
    lowest: int = -128
    highest: int = 127
    source: Source = NONE

    def multiply(self, x: Tensor, w: Tensor, trial_seed: int, sends: int = 1) -> Tensor:
        """The product `(batch, outputs)`, whole numbers; its gradient is that of gain * sends * x @ w.

        Args:
            x: inputs `(batch, inputs)`.
            w: weights `(inputs, outputs)`.
            trial_seed: of the noise.
            sends: how often the input is sent.

        Raises:
            UserError: shapes that do not fit, inputs or weights outside their range after rounding or not finite, or a negative seed.
        """
        check_seed(f"{self.name}: trial_seed", trial_seed)
        if x.ndim != 2 or w.ndim != 2 or x.shape[1] != len(w):
            raise UserError(
                f"{self.name}: inputs {tuple(x.shape)} and weights {tuple(w.shape)}; give (batch, inputs) and (inputs, outputs)"
            )
        whole_x, whole_w = torch.round(x.detach().double()), torch.round(w.detach().double())
        for name, a, low, high in (
            ("inputs", whole_x, 0, self.most_input),
            ("weights", whole_w, -self.most_weight, self.most_weight),
        ):
            if not bool(((a >= low) & (a <= high)).all()):
                raise UserError(f"{self.name}: the {name} must lie in {low} .. {high}; scale or clip them")
        random = np.random.default_rng([trial_seed, 4])
        total = torch.zeros(len(x), w.shape[1], dtype=torch.float64)
        for start in range(0, len(w), self.rows):
            part = slice(start, start + self.rows)
            read = self.gain * sends * (whole_x[:, part] @ whole_w[part])
            if self.noise:
                read = read + torch.from_numpy(self.noise * random.standard_normal(read.shape))
            total += torch.floor(read).clamp(self.lowest, self.highest)
        return instead(self.gain * sends * (x @ w), total.clamp(self.lowest, self.highest).to(x))
