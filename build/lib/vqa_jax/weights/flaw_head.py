"""The auxiliary head, which tells flaws apart: among a student's weights, or in a file beside.

Where weights go under other programs' names, or without what only training uses, it is a file of
its own, so that nobody meets a key that is not theirs.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vqa_jax.errors import VqaError
from vqa_jax.jobs.files import replacing
from vqa_jax.weights.bundle import StudentSpec
from vqa_jax.weights.companions import HEAD_FILE

_KERNEL, _BIAS = "severity_kernel", "severity_bias"


class HeadError(VqaError):
    """There is no auxiliary head, or a damaged one; the message names the file and the remedy."""


@dataclasses.dataclass(frozen=True)
class FlawHead:
    """A linear layer on the mean of a tower's tokens.

    Attributes:
      kernel: float32 [W, C].
      bias: float32 [C]; class 0 is an undistorted source, then each simulator's levels from 1 up.
      simulators: in order.
    """

    kernel: np.ndarray
    bias: np.ndarray
    simulators: tuple[str, ...]

    def __post_init__(self) -> None:
        classes = self.bias.size - 1
        fits = self.kernel.ndim == 2 and self.kernel.shape[1:] == self.bias.shape
        if not fits or not self.simulators or classes % len(self.simulators) or classes < 1:
            raise ValueError(f"{self.kernel.shape} numbers do not fit {self.simulators}")

    @property
    def levels(self) -> int:
        """Levels of a simulator."""
        return (self.bias.size - 1) // len(self.simulators)

    @classmethod
    def of(cls, params: dict[str, Any], spec: StudentSpec) -> FlawHead | None:
        """The head among a student's parameters; None where there is none."""
        if not spec.student.num_severity_classes or not spec.severity_simulators:
            return None
        kernel, bias = (np.asarray(params[name], np.float32) for name in (_KERNEL, _BIAS))
        return cls(kernel, bias, spec.severity_simulators)

    def save(self, folder: str) -> None:
        """Writes it into a folder."""
        told = {"simulators": json.dumps(self.simulators)}
        with replacing(os.path.join(folder, HEAD_FILE)) as path:
            save_file({_KERNEL: self.kernel, _BIAS: self.bias}, path, told)

    @classmethod
    def beside(cls, folder: str) -> FlawHead | None:
        """The head in a folder; None where it holds none.

        Raises:
          HeadError: it is damaged.
        """
        path = os.path.join(folder, HEAD_FILE)
        if not os.path.exists(path):
            return None
        try:
            with safe_open(path, "np") as file:
                names = tuple(map(str, json.loads((file.metadata() or {})["simulators"])))
                return cls(file.get_tensor(_KERNEL), file.get_tensor(_BIAS), names)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise HeadError(f"{path} is damaged ({error}): copy or export it again") from error
