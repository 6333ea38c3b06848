"""Text of the prompt to token ids and back, by the `tokenizers` package."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqa_jax.errors import VqaError

if TYPE_CHECKING:  # imported where one is made: the networks need no tokenizer
    import tokenizers


_MAX_BYTES = 1 << 28


class TokenizerError(VqaError):
    """A tokenizer.json that cannot be used; the message names the file and the remedy."""


class Tokenizer:
    """Encodes text as it stands: nothing is added before or after, cut off or padded."""

    def __init__(self, coder: tokenizers.Tokenizer):
        coder.no_truncation()
        coder.no_padding()
        self._coder = coder

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Reads a tokenizer.json.

        Raises:
          TokenizerError: no such file, or it is damaged.
        """
        import tokenizers

        path = os.fspath(path)
        if os.path.isfile(path) and os.path.getsize(path) > _MAX_BYTES:
            raise TokenizerError(f"{path} is larger than any tokenizer: copy the decoder's there")
        if not os.path.isfile(path):
            raise TokenizerError(f"{path} is missing: copy the decoder's tokenizer files there")
        try:
            return cls(tokenizers.Tokenizer.from_file(path))
        except BaseException as error:  # no narrower one; where the package panics, no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise TokenizerError(
                f"{path} is no tokenizer ({error}): copy the decoder's tokenizer files there"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; special tokens that stand in it are tokens of their own."""
        return self._coder.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return self._coder.decode([int(i) for i in ids], skip_special_tokens=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a tokenizer.json."""
        self._coder.save(os.fspath(path))


def of_words(words: Sequence[str], split: str, special: Sequence[str], unknown: str) -> Tokenizer:
    """A tokenizer whose tokens are the given words.

    Args:
      words: tokens in the order of their ids, `special` and `unknown` among them.
      split: regular expression of what is one word of a text.
      special: tokens that are found before the text is split.
      unknown: token of every other word.
    """
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

    vocabulary = {word: index for index, word in enumerate(words)}
    coder = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    coder.pre_tokenizer = pre_tokenizers.Split(Regex(split), behavior="isolated")
    coder.decoder = decoders.Fuse()
    coder.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in (*special, unknown)]
    )
    return Tokenizer(coder)
