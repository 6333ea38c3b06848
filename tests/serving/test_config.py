"""The service's settings: what is refused, and that the token is not shown."""

import pytest

from vqa_jax.serving.config import ServeConfig
from vqa_jax.settings import SettingsError


@pytest.mark.parametrize(
    "change", [{"requests": 0}, {"upload_mb": 0}, {"work_seconds": 0.0}, {"upload_seconds": -1.0}]
)
def test_what_serves_nobody_is_refused(change):
    with pytest.raises(SettingsError):
        ServeConfig(**change)


def test_the_token_is_not_shown():
    assert "secret" not in repr(ServeConfig(token="secret"))
