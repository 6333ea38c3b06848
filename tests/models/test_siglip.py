"""The tower: what it refuses, and that its frames do not see each other."""

import numpy as np
import pytest


def test_frames_of_another_size_are_refused(student):
    with pytest.raises(ValueError, match="20"):
        student.tower_tokens(np.zeros((1, 24, 24, 3), np.uint8))
