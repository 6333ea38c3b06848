"""Prompt: published token ids, layouts, the tiny tokenizer."""

import json

import numpy as np
import pytest
import tokenizers

from vqa_jax.models import prompt
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.pairs.levels import LEVELS

# Those that Qwen3's tokenizer_config.json adds to Qwen2's three.
_MARKS = ("object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start", "quad_end")
_MARKS += ("vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")
_CODE = ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")
QWEN3_TOKENS = (
    *(f"<|{mark}|>" for mark in _MARKS),
    *("<tool_call>", "</tool_call>"),
    *(f"<|{mark}|>" for mark in _CODE),
    *("<tool_response>", "</tool_response>", "<think>", "</think>"),
)


@pytest.fixture(scope="module")
def qwen(shared):
    return Tokenizer.read(shared / "qwen2_tokenizer/tokenizer.json")


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden/prompt_ids.json").read_text())


@pytest.fixture(scope="module")
def tiny():
    return prompt.tiny_tokenizer()


def test_scoring_ids_are_the_published_ones(qwen, golden):
    assert golden["image_placeholder"] == prompt.IMAGE_PLACEHOLDER
    ids = prompt.scoring_ids(qwen)
    assert ids == golden["scoring"]
    # The default prediction of a layout is the published answer position.
    expanded = prompt.layout(ids, [1, 1], [1, 1], prompt.Bank(1, 1))
    assert expanded.answer_pos[0] == len(expanded.tokens) + golden["answer_position_from_end"]


@pytest.mark.parametrize("level", LEVELS)
def test_training_ids_are_the_published_ones(qwen, golden, level):
    assert prompt.training_ids(qwen, level) == golden["training"][level]


def test_level_ids_are_in_order(qwen, golden):
    assert prompt.level_ids(qwen) == [golden["level_token_ids"][level] for level in LEVELS]


def test_the_tokenizer_of_qwen3_asks_and_answers_as_qwen2s(shared, golden):
    """It is Qwen2's vocabulary with more added tokens, of which the prompt has none."""
    coder = tokenizers.Tokenizer.from_file(str(shared / "qwen2_tokenizer/tokenizer.json"))
    coder.add_tokens([tokenizers.AddedToken(t, normalized=False) for t in QWEN3_TOKENS])
    qwen3 = Tokenizer(coder)
    assert qwen3.encode("<think>") == [151667] and qwen3.encode("<|video_pad|>") == [151656]
    assert prompt.scoring_ids(qwen3) == golden["scoring"]
    for level in LEVELS:
        assert prompt.training_ids(qwen3, level) == golden["training"][level]
    assert prompt.level_ids(qwen3) == [golden["level_token_ids"][level] for level in LEVELS]


@pytest.mark.parametrize("level", LEVELS)
def test_answer_span_is_the_sentence_and_its_end(qwen, level):
    ids, span = prompt.training_ids(qwen, level), prompt.answer_span(qwen, level)
    text = qwen.decode(ids[span.start : span.stop])
    assert text == f"The quality of the second video is {level} to the first video.<|im_end|>"
    assert qwen.decode([ids[span.level]]) == f" {level}"


def test_unknown_level_is_refused(qwen):
    with pytest.raises(prompt.PromptError, match="excellent"):
        prompt.training_ids(qwen, "excellent")


def test_layout_by_hand():
    # Bank of 4 frame tokens and 3 motion tokens: video 0 is 0..7, video 1 is 8..15, newlines 4, 12.
    hole = prompt.IMAGE_PLACEHOLDER
    ids = [7, hole, hole, 8, hole, hole, 9, 10, 11]
    laid = prompt.layout(ids, [2, 4], [3, 1], prompt.Bank(4, 3), predict=[3, 7])
    first, second = [0, 1, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13]
    expected = [7, *(-1 - i for i in first), 8, *(-1 - i for i in second), 9, 10, 11]
    np.testing.assert_array_equal(laid.tokens, expected)
    assert laid.tokens.dtype == np.int32
    # The token before id 8 is the last motion token; before id 10 is id 9.
    np.testing.assert_array_equal(laid.answer_pos, [6, 14])
    assert laid.prefix_len == 8


@pytest.mark.parametrize(
    ("ids", "frames", "motion"),
    [
        ([1, -200, -200, 2], [1, 1], [1, 1]),
        ([1, -200, -200, 2, -200, -200, 3], [3, 1], [1, 1]),
        ([1, -200, -200, 2, -200, -200, 3], [1, 1], [1, 2]),
        ([1, -200, -200, 2, -200, -200, 3], [0, 1], [1, 1]),
    ],
)
def test_layout_refuses_what_does_not_fit(ids, frames, motion):
    with pytest.raises(prompt.PromptError):
        prompt.layout(ids, frames, motion, prompt.Bank(2, 1))


@pytest.mark.parametrize("level", LEVELS)
def test_tiny_tokenizer_round_trips_and_agrees_with_qwen_on_text(tiny, qwen, level):
    theirs = prompt.training_ids(qwen, level)
    ours = prompt.training_ids(tiny, level)

    def text(tokenizer, ids):
        hole = prompt.IMAGE_PLACEHOLDER
        return "".join("<video>" if i == hole else tokenizer.decode([i]) for i in ids)

    assert text(tiny, ours) == text(qwen, theirs)
    assert tiny.decode([i for i in ours if i >= 0]) == text(tiny, ours).replace("<video>", "")
    (unknown,) = tiny.encode("zebra")
    assert unknown not in ours
    span = prompt.answer_span(tiny, level)
    assert ours[span.level] == prompt.level_ids(tiny)[LEVELS.index(level)]


def test_tiny_tokenizer_knows_what_it_does_not_know(tiny):
    words = prompt.tiny_vocabulary()
    (unknown,) = tiny.encode(" zebra")
    assert words[unknown] == "<|unk|>"
    assert [tiny.decode([i]) for i in range(len(words))] == words
    assert tiny.encode("<|endoftext|><|im_end|>") == [0, 2]


def test_level_words_that_share_a_token_are_refused(tiny):
    class OneWord:
        def encode(self, text):
            return [3]

    with pytest.raises(prompt.PromptError, match="token of its own"):
        prompt.level_ids(OneWord())
