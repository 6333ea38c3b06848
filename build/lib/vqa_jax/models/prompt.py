"""The prompt about a pair of videos: text pieces, token ids, answer positions (method 4).

Two codings occur. *Prompt ids* hold `IMAGE_PLACEHOLDER` four times (frames and motion of the first
video, then of the second). *Tokens* are laid out for the model: a value >= 0 is a text id, and
-(1 + i) takes visual token i of the example's bank (see `Bank`).
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from vqa_jax.errors import VqaError
from vqa_jax.models.tokenizer import Tokenizer, of_words
from vqa_jax.pairs.levels import LEVELS

IMAGE_PLACEHOLDER = -200

_QUESTION = (
    "Please watch these videos carefully, and then answer the following question: "
    "Comparing with the first video, how do you assess the quality of the second video?"
)
# Text between the placeholders. Each piece is tokenized by itself (method 4).
_PIECES = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nNow you will receive two videos. The first video:\n ",
    "",
    ". The second video:\n ",
    "",
    f". {_QUESTION}<|im_end|>\n<|im_start|>assistant\n",
)
_ANSWER_START = "The quality of the second video is"
_ANSWER_END = " to the first video."
_TURN_END = "<|im_end|>\n"
# What is asked about a single video, before and after its tokens; the level word comes next.
_RATING_PIECES = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
    "\nHow would you rate the quality of this video?<|im_end|>\n"
    "<|im_start|>assistant\nThe quality of the video is",
)
_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_UNKNOWN = "<|unk|>"
# A word with the space before it, a run of other signs with theirs, or one blank.
_SPLIT = r" ?[A-Za-z]+| ?[^\sA-Za-z]|\s"


class PromptError(VqaError, ValueError):
    """A prompt, a tokenizer or a layout that does not fit the method."""


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text) if text else []


def _conversation(tokenizer: Tokenizer, answer: str) -> list[int]:
    ids = _encode(tokenizer, _PIECES[0])
    for piece in (*_PIECES[1:-1], _PIECES[-1] + answer + _TURN_END):
        ids += [IMAGE_PLACEHOLDER, *_encode(tokenizer, piece)]
    return ids


def scoring_ids(tokenizer: Tokenizer) -> list[int]:
    """Prompt ids for scoring: the answer stops before the level word.

    Args:
        tokenizer: knows the chat tokens.
    """
    return _conversation(tokenizer, _ANSWER_START)


def training_ids(tokenizer: Tokenizer, level: str) -> list[int]:
    """Prompt ids of a whole conversation whose answer says `level`.

    Raises:
        PromptError: `level` is not one of the five.
    """
    if level not in LEVELS:
        raise PromptError(f"unknown level {level!r}; the levels are {LEVELS}")
    return _conversation(tokenizer, f"{_ANSWER_START} {level}{_ANSWER_END}")


def level_ids(tokenizer: Tokenizer) -> list[int]:
    """Token ids of the five level words as they follow "is", in the order of LEVELS.

    Raises:
        PromptError: a level word is not one token, or two share theirs.
    """
    return word_ids(tokenizer, LEVELS)


def word_ids(tokenizer: Tokenizer, words: Sequence[str]) -> list[int]:
    """Token ids of words as they follow another one; errors as for `level_ids`."""
    ids = [_encode(tokenizer, f" {word}") for word in words]
    if any(len(one) != 1 for one in ids) or len({one[0] for one in ids}) != len(words):
        found = {f" {word}": one for word, one in zip(words, ids, strict=True)}
        raise PromptError(f"each level word must be a token of its own, got {found}")
    return [one[0] for one in ids]


@dataclasses.dataclass(frozen=True)
class AnswerSpan:
    """Where the answer is in `training_ids`: indices start..stop-1, and that of the level word."""

    start: int
    stop: int
    level: int


def answer_span(tokenizer: Tokenizer, level: str) -> AnswerSpan:
    """The answer tokens of `training_ids(tokenizer, level)`: the sentence and its <|im_end|>."""
    ids = training_ids(tokenizer, level)
    answer = _encode(tokenizer, f"{_ANSWER_START} {level}{_ANSWER_END}{_TURN_END}")
    start = len(ids) - len(answer)
    return AnswerSpan(start, len(ids) - 1, start + len(_encode(tokenizer, _ANSWER_START)))


@dataclasses.dataclass(frozen=True)
class Bank:
    """The visual tokens of one video in a batch, padded: frames' tokens, newline, motion tokens.

    An example's bank is its first video's bank, then its second's.
    """

    frame_tokens: int
    motion_tokens: int

    @property
    def stride(self) -> int:
        """Tokens from the start of the first video's part to the start of the second's."""
        return self.frame_tokens + 1 + self.motion_tokens


@dataclasses.dataclass(frozen=True)
class Layout:
    """One laid-out sequence.

    tokens: int32 [L] (coding in the module's docstring). answer_pos: int32 [T], the position whose
    next-token logits predict answer t. prefix_len: tokens before the second video's first one;
    they depend on the first video alone, so their keys and values can be cached.
    """

    tokens: np.ndarray
    answer_pos: np.ndarray
    prefix_len: int


def layout(
    ids: Sequence[int],
    num_frame_tokens: Sequence[int],
    num_motion_tokens: Sequence[int],
    bank: Bank,
    predict: Sequence[int] | None = None,
) -> Layout:
    """Replaces the placeholders by references to visual tokens that exist, and by no padding.

    Args:
        ids: prompt ids with four placeholders.
        num_frame_tokens: of each of the two videos: its frames times the tokens of one frame.
        num_motion_tokens: of each of the two videos.
        bank: sizes that both videos are padded to.
        predict: indices into `ids` of the tokens to be predicted; default: what follows the last
            word of a scoring prompt (index len(ids) - 2), so the level.

    Raises:
        PromptError: not four placeholders, or a video that does not fit the bank.
    """
    ids = np.asarray(ids, dtype=np.int64)
    places = np.flatnonzero(ids == IMAGE_PLACEHOLDER)
    if len(places) != 4:
        raise PromptError(f"a pair's prompt has 4 placeholders, this one has {len(places)}")
    parts: list[np.ndarray] = []
    for video, (frames, motion) in enumerate(zip(num_frame_tokens, num_motion_tokens, strict=True)):
        if not (0 < frames <= bank.frame_tokens and 0 < motion <= bank.motion_tokens):
            raise PromptError(
                f"video {video}: {frames} frame and {motion} motion tokens do not fit {bank}"
            )
        offset = video * bank.stride
        newline = offset + bank.frame_tokens
        parts.append(np.append(offset + np.arange(frames), newline))
        parts.append(newline + 1 + np.arange(motion))
    chunks = np.split(ids, places)
    pieces = [chunks[0]]
    for part, chunk in zip(parts, chunks[1:], strict=True):
        pieces += [-(1 + part), chunk[1:]]
    tokens = np.concatenate(pieces)
    # Sequence position of every id: its index plus what the placeholders before it expanded to.
    grown = np.zeros(len(ids) + 1, dtype=np.int64)
    grown[places + 1] = [len(part) - 1 for part in parts]
    position = np.arange(len(ids)) + np.cumsum(grown)[: len(ids)]
    wanted = np.asarray([len(ids) - 2] if predict is None else predict, dtype=np.int64)
    return Layout(
        tokens=tokens.astype(np.int32),
        answer_pos=(position[wanted] - 1).astype(np.int32),
        prefix_len=int(position[places[2]]),
    )


def rating_layout(
    tokenizer: Tokenizer, frame_tokens: int, most_frame_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """The question about a single video, of whose bank it shows frames and newline, no motion.

    Args:
        tokenizer: knows the chat tokens.
        frame_tokens: of the video, at least 1.
        most_frame_tokens: that videos are padded to.

    Returns:
        (tokens int32 [L], padded on the right to the longest video's; position int32 [1] whose next
        token is the level).
    """
    before, after = (_encode(tokenizer, piece) for piece in _RATING_PIECES)
    shown = -(1 + np.append(np.arange(frame_tokens), most_frame_tokens))
    tokens = np.concatenate([before, shown, after]).astype(np.int32)
    last = np.array([len(tokens) - 1], np.int32)
    return np.pad(tokens, (0, most_frame_tokens - frame_tokens)), last


def tiny_vocabulary() -> list[str]:
    """Every token of the tiny tokenizer, in id order: specials, then the prompt's words sorted."""
    answers = [f"{_ANSWER_START} {level}{_ANSWER_END}" for level in LEVELS]
    text = [*_PIECES, *answers, _TURN_END]
    bare = re.compile("|".join(map(re.escape, _SPECIALS)))
    words = {
        word for piece in text for part in bare.split(piece) for word in re.findall(_SPLIT, part)
    }
    return [*_SPECIALS, _UNKNOWN, *sorted(words)]


def tiny_tokenizer() -> Tokenizer:
    """The tiny preset's own tokenizer: one token a word of the prompt, built without any file.

    It encodes and decodes the prompt exactly, and maps other words to an unknown token.
    """
    return of_words(tiny_vocabulary(), _SPLIT, _SPECIALS, _UNKNOWN)
