"""The gate: who is refused before a byte of the body is read, and bodies that do not end."""

import asyncio
import json

import pytest
from starlette.exceptions import HTTPException

from vqa_jax.serving import gate as gates
from vqa_jax.serving.config import ServeConfig
from vqa_jax.serving.gate import Gate
from vqa_jax.serving.metrics import Metrics


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr(gates, "_LINGER", 0.1)


def asked(app, config, headers=(), body=(), metrics=None, gate=None):
    """(status, headers, JSON, messages read before the answer) of a request in pieces."""
    gate = gate or Gate(app, config, metrics or Metrics())
    sent, left, read = [], list(body), []

    async def receive():
        if not left:
            await asyncio.sleep(60)
        read.append(left.pop(0))
        return {"type": "http.request", "body": read[-1], "more_body": bool(left) or not read[-1]}

    async def send(message):
        sent.append({**message, "read": len(read)})

    scope = {"type": "http", "path": "/v1/score", "method": "POST", "headers": list(headers)}
    asyncio.run(gate(scope, receive, send))
    told = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    assert not sent[-1].get("more_body", False)
    return sent[0]["status"], told, json.loads(sent[1]["body"]), sent[0]["read"]


async def whole(scope, receive, send):
    """An application that reads the body and says how it ended."""
    size, status = 0, 200
    try:
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
    except HTTPException as error:
        status = error.status_code
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def test_a_body_within_the_bounds_passes():
    body = b"a" * 1000, b"b" * 1000
    assert asked(whole, ServeConfig(upload_mb=1), body=body)[:3:2] == (200, 2000)


@pytest.mark.parametrize(
    ("length", "read"), [(b"2000000", 0), (b"-1", 0), (b"1e3", 0), (b"1000", 2)]
)
def test_a_body_that_is_too_large_is_refused_even_if_it_says_otherwise(length, read):
    headers = [(b"Content-Length", length)]
    body = [b"a" * 800_000] * 3
    status, _, _, found = asked(whole, ServeConfig(upload_mb=1), headers, body)
    assert (status, found) == (413, read)


def test_a_body_that_does_not_come_is_refused():
    config = ServeConfig(upload_seconds=0.1)
    assert asked(whole, config, body=[b"a", b""])[:3:2] == (408, 1)


def test_a_token_is_asked_for():
    config = ServeConfig(token="secret")
    for given in (None, b"Bearer secre", b"secret", b"Basic secret", b"\xff"):
        headers = [] if given is None else [(b"authorization", given)]
        status, told, answer, read = asked(whole, config, headers, [b"a"])
        assert (status, read) == (401, 0) and told["www-authenticate"] == "Bearer"
        assert "secret" not in answer["error"]
    good = [(b"authorization", b"Bearer secret")]
    assert asked(whole, config, good, [b"a"])[0] == 200


def test_one_too_many_is_told_when_to_come_again_and_costs_nothing():
    metrics, config, found = Metrics(), ServeConfig(requests=1), []

    async def busy(scope, receive, send):
        found.append(gate.is_full)
        loop = asyncio.get_running_loop()
        ask = asked, whole, config, (), [b"a"], None, gate
        found.append(await loop.run_in_executor(None, *ask))
        await whole(scope, receive, send)

    gate = Gate(busy, config, metrics)
    assert asked(None, config, (), [b"a"], None, gate)[0] == 200
    is_full, (status, told, answer, read) = found
    assert is_full and (status, read) == (503, 0) and "too many" in answer["error"]
    assert 1 <= int(told["retry-after"]) <= 120
    assert not gate.is_full
    text = metrics.text().decode()
    assert 'vqa_jax_requests_total{path="/v1/score",status="503"} 1.0' in text
    assert "vqa_jax_requests_inside 0.0" in text


def test_a_refused_body_is_read_to_its_end_so_that_the_answer_is_seen():
    sent = []
    body = [b"a" * 100] * 3

    async def receive():
        body.pop()
        return {"type": "http.request", "body": b"a", "more_body": bool(body)}

    async def send(message):
        sent.append((message.get("more_body"), len(body)))

    scope = {"type": "http", "path": "/v1/score", "headers": [(b"content-length", b"9999999")]}
    asyncio.run(Gate(whole, ServeConfig(upload_mb=1), Metrics())(scope, receive, send))
    assert sent == [(None, 3), (True, 3), (None, 0)]


def test_other_paths_are_free():
    gate = Gate(whole, ServeConfig(token="secret", requests=1), Metrics())
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(gate({"type": "http", "path": "/healthz", "headers": []}, receive, send))
    assert sent[0]["status"] == 200
