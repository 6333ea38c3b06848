"""The tokenizer against the one of transformers, and files that cannot be used."""

import json

import pytest

from vqa_jax.models import prompt
from vqa_jax.models.tokenizer import Tokenizer, TokenizerError

TEXTS = (
    "<|im_start|>user\nNow you will receive two videos. The first video:\n ",
    " better",
    "better",
    "  two  blanks\t\r\n\n1234 it's \u00e9t\u00e9 \u4e2d\u6587 \U0001f3ac<|endoftext|>",
)


def test_ids_and_text_are_those_of_transformers(shared):
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(
        shared / "qwen2_tokenizer", trust_remote_code=False, local_files_only=True
    )
    found = Tokenizer.read(shared / "qwen2_tokenizer/tokenizer.json")
    for text in TEXTS:
        ids = reference(text, add_special_tokens=False)["input_ids"]
        assert found.encode(text) == ids
        assert found.decode(ids) == text


def test_nothing_is_added_cut_off_or_padded(tmp_path):
    path = tmp_path / "tokenizer.json"
    whole = prompt.tiny_tokenizer()
    whole.save(path)
    text = "<|im_start|>user\nNow you will receive"
    fields = json.loads(path.read_text())
    fields["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    fields["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}]
        + [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
        },
    }
    path.write_text(json.dumps(fields))
    assert Tokenizer.read(path).encode(text) == whole.encode(text)
    assert len(whole.encode(text)) > 2


def test_file_that_cannot_be_used_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is missing"):
        Tokenizer.read(path)
    path.write_text('{"model": ')
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is no tokenizer"):
        Tokenizer.read(path)
