"""The clip that simulators are tried on."""

import cv2
import numpy as np
import pytest
from skimage import data


@pytest.fixture(scope="session")
def clip() -> np.ndarray:
    """A photograph under a panning camera, uint8 [12, 90, 121, 3] (an odd width)."""
    photo = cv2.resize(data.astronaut(), (180, 180), interpolation=cv2.INTER_AREA)
    return np.stack([photo[20 + t : 110 + t, 2 * t : 2 * t + 121] for t in range(12)])


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """Two frames of a photograph, uint8 [2, 256, 300, 3]: all that single frames show."""
    photo = cv2.resize(data.astronaut(), (310, 310), interpolation=cv2.INTER_AREA)
    return np.stack([photo[20 + t : 276 + t, 3 * t : 3 * t + 300] for t in range(2)])
