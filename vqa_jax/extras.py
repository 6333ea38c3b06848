"""Extras of the installation: which of them brings a package that a command needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vqa_jax.errors import VqaError

# Imported name -> extras of pyproject.toml that bring it, the usual one first.
BRINGS = {
    "apache_beam": ("prep", "beam"),
    "array_record": ("train", "prep"),
    "cv2": ("prep", "train", "plan"),
    "fastapi": ("serve",),
    "flatbuffers": ("serve",),
    "fsspec": ("urls", "prep"),
    "gcsfs": ("gs",),
    "google": ("train", "prep"),  # protobuf
    "grain": ("train",),
    "imageio_ffmpeg": ("vmaf",),
    "jinja2": ("report", "serve"),
    "libtpu": ("plan",),
    "matplotlib": ("report", "prep", "serve"),
    "ml_collections": ("train", "prep", "plan"),
    "prometheus_client": ("serve",),
    "python_multipart": ("serve",),
    "ray": ("ray",),
    "s3fs": ("s3",),
    "skimage": ("prep",),
    "sklearn": ("prep",),
    "starlette": ("serve",),
    "tensorboardX": ("train",),
    "tensorflow_datasets": ("train", "prep"),
    "uvicorn": ("serve",),
}


class MissingExtraError(VqaError, ImportError):
    """A package is not installed that only some commands need; the message is how to get it."""

    def __init__(self, package: str, extra: str):
        super().__init__(f'{package} is not installed: pip install "vqa_jax[{extra}]"')


@contextlib.contextmanager
def asked_for(extra: str = "") -> Iterator[None]:
    """Turns a missing package of an extra into an error that names the extra.

    Args:
      extra: named where several bring the package; "" is the usual one.

    Raises:
      MissingExtraError: such a package is imported in the block and is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        brings = BRINGS.get(package)
        if brings is None:
            raise
        raise MissingExtraError(package, extra if extra in brings else brings[0]) from error
