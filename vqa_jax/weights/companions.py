"""Files that lie beside a student's weights and without which it cannot be used.

tokenizer.json and its kin   of a student whose vocabulary is not that of the prompt alone
slowfast.safetensors         the motion weights, where they are not the shipped ones
auxiliary_head.safetensors   the head that tells flaws apart, where the weights lack it
tower.safetensors            the pretrained tower, where it is not the shipped one
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from vqa_jax.jobs.files import replacing
from vqa_jax.weights.towers import TOWER_FILE

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)
MOTION_FILE = "slowfast.safetensors"
HEAD_FILE = "auxiliary_head.safetensors"
FILES = (*TOKENIZER_FILES, MOTION_FILE, HEAD_FILE, TOWER_FILE)


def motion_beside(folder: str) -> str | None:
    """Path of the motion weights in a student's folder; None where the shipped ones serve."""
    path = os.path.join(folder, MOTION_FILE)
    return path if os.path.exists(path) else None


def copy(
    sources: Sequence[str],
    folder: str,
    motion: str | None = None,
    names: Sequence[str] = FILES,
) -> None:
    """Copies what lies beside other weights into a student's folder.

    Args:
      sources: folders; the first that has a file gives it.
      folder: the student's.
      motion: motion weights in place of those in `sources`.
      names: of the files.
    """
    wanted = {name: [os.path.join(source, name) for source in sources] for name in names}
    if motion is not None:
        wanted[MOTION_FILE] = [motion]
    for name, places in wanted.items():
        if file := next(filter(os.path.isfile, places), None):
            with replacing(os.path.join(folder, name)) as temporary:
                shutil.copyfile(file, temporary)
