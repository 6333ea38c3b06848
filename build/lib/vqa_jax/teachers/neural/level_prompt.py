"""Any student as a single-video teacher: which of five words follows "the quality is".

Q-Align's rule (Wu et al., ICML 2024): the probabilities of the words excellent, good, fair, poor
and bad, as the next token, weigh 1, 0.75, 0.5, 0.25 and 0. Only key frames are shown: a student
that was never trained on motion, LLaVA-OneVision as published, has nothing to read it with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.media import view
from vqa_jax.media.probe import VideoInfo
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.student import Student
from vqa_jax.teachers.cards import TeacherError
from vqa_jax.teachers.views import View
from vqa_jax.weights import bundle

WORDS = ("bad", "poor", "fair", "good", "excellent")
WEIGHTS = np.linspace(0.0, 1.0, len(WORDS), dtype=np.float32)


class Rating(nnx.Module):
    """A student and the ids of the five words, as a function of videos and prompts."""

    def __init__(self, student: Student, word_ids: Sequence[int]):
        self.student, self.word_ids = student, tuple(word_ids)

    def __call__(self, frames: jax.Array, tokens: jax.Array, answer_pos: jax.Array) -> jax.Array:
        """Scores float32 [B] in 0..1.

        Args:
          frames: uint8 [B, F, S, S, 3], padded.
          tokens: int32 [B, L], coding of `Student.merge`, padded on the right.
          answer_pos: int32 [B, 1].
        """
        # Part of every bank; the prompt does not refer to it.
        motion = jnp.zeros((len(frames), 1, 1, self.student.cfg.motion_dim), jnp.float32)
        ids = jnp.asarray(self.word_ids, jnp.int32)
        logits = self.student.level_logits(frames[:, None], motion, tokens, answer_pos, ids)
        return jax.nn.softmax(logits) @ jnp.asarray(WEIGHTS)


class LevelPromptTeacher:
    """A student's folder as a teacher of video files; see `cards.VideoTeacher`."""

    higher_is_better = True

    def __init__(
        self,
        name: str,
        fingerprint: str,
        folder: str,
        batched: Callable[[nnx.Module], Callable[..., np.ndarray]],
    ):
        """Loads the student.

        Args:
          name: of the teacher.
          fingerprint: of the teacher and its files.
          folder: the student's.
          batched: makes a network a function of any number of inputs.

        Raises:
          TeacherError: a student of crops, or one whose tokenizer lacks the words.
          bundle.BundleError: the folder is damaged.
        """
        self.name, self.fingerprint = name, fingerprint
        spec = bundle.load_spec(folder)
        if spec.preprocess.view != "squash":
            raise TeacherError(
                f"{folder}: a student that sees crops was never asked about a whole video; "
                "name one of published size"
            )
        tokenizer = bundle.make_tokenizer(spec, folder)
        try:
            word_ids = prompt.word_ids(tokenizer, WORDS)
        except prompt.PromptError as error:
            raise TeacherError(f"{folder}: {error}") from error
        self._pre, self._most = spec.preprocess, spec.num_frames
        self._tokenizer, self._per_frame = tokenizer, spec.student.tokens_per_frame
        student = FunctionalStudent(spec.student)
        self._network = batched(Rating(student.bind(bundle.load_params(folder, student)), word_ids))

    def views(self, info: VideoInfo, seed: int) -> Mapping[str, View]:
        """The key frames that the student would see, spread evenly; nothing is drawn at random."""
        every = view.key_frame_indices(info.num_frames, info.fps)
        kept = np.arange(min(len(every), self._most)) * len(every) // min(len(every), self._most)
        side = self._pre.image_size
        return {
            "frames": View(
                np.array(every, np.int64)[kept],
                lambda place, frame: view.squashed(frame, side),
            )
        }

    def reduce(self, cuts: Mapping[str, np.ndarray]) -> np.ndarray:
        """uint8 [F, S, S, 3]."""
        return cuts["frames"]

    def score(self, kept: Sequence[np.ndarray]) -> np.ndarray:
        """float64 [n] in 0..1."""
        shown = [np.pad(x, [(0, self._most - len(x)), *[(0, 0)] * 3]) for x in kept]
        rows = [
            prompt.rating_layout(
                self._tokenizer, len(x) * self._per_frame, self._most * self._per_frame
            )
            for x in kept
        ]
        tokens, answer_pos = (np.stack(column) for column in zip(*rows, strict=True))
        return self._network(np.stack(shown), tokens, answer_pos).astype(np.float64)
