"""The gate before the work: who may come in, how many, with how much and for how long.

It stands before a body is kept or parsed, so that whoever is refused costs next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from vqa_jax.media import ahead
from vqa_jax.serving.config import ServeConfig
from vqa_jax.serving.metrics import Metrics

WORK = "/v1/"  # paths behind the gate begin so
_LONGEST_WAIT = 120  # seconds that a client is told to stay away
_LINGER = 2.0  # seconds that the body of a refused request is read and thrown away
_EARLY = (401, 408, 413, 503)  # statuses that are told before a body has come whole
_MEMORY = 0.9  # of the mean time of a request: weight of the past

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Gate:
    """ASGI middleware of all that works."""

    def __init__(self, app: App, config: ServeConfig, metrics: Metrics):
        self._app, self._config, self._metrics = app, config, metrics
        self._inside = 0
        self._seconds = 1.0  # of a request, lately

    @property
    def is_full(self) -> bool:
        """Whether the next request is told to come again."""
        return self._inside >= self._config.requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses it."""
        if scope["type"] != "http" or not scope["path"].startswith(WORK):
            await self._app(scope, receive, send)
            return
        status = 500  # what the client sees of an answer that never began

        async def sent(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await (_lingering(send, receive, message) if status in _EARLY else send(message))

        begun = time.monotonic()
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, sent)
        else:
            self._enter(1)
            try:
                await self._app(scope, self._bounded(receive), sent)
            finally:
                self._enter(-1)
                took = time.monotonic() - begun
                self._seconds += (1 - _MEMORY) * (took - self._seconds)
        self._metrics.answered(scope["path"], status, time.monotonic() - begun)

    def _enter(self, count: int) -> None:
        self._inside += count
        self._metrics.inside.set(self._inside)

    def _refusal(self, scope: Message) -> JSONResponse | None:
        headers = {k.decode("latin-1").lower(): v for k, v in scope["headers"]}
        if self._config.token:
            given = headers.get("authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {self._config.token}".encode()):
                wants = {"WWW-Authenticate": "Bearer", "Connection": "close"}
                return refused(401, "a token is needed: Authorization: Bearer TOKEN", wants)
        if self.is_full:
            wait = math.ceil(self._inside / ahead.workers() * self._seconds)
            wait = min(max(wait, 1), _LONGEST_WAIT)
            return refused(503, "too many requests at work", {"Retry-After": str(wait)})
        length = headers.get("content-length", b"0")
        if not length.isdigit() or int(length) > self._config.upload_mb << 20:
            return refused(413, self._too_large(), {"Connection": "close"})
        return None

    def _too_large(self) -> str:
        return f"larger than {self._config.upload_mb} MB (--upload_mb)"

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` that raises an HTTPException where a body is too large or too slow."""
        left = self._config.upload_mb << 20
        until = time.monotonic() + self._config.upload_seconds
        is_whole = False

        async def received() -> Message:
            nonlocal left, is_whole
            if is_whole:  # what comes now is that the client goes
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), until - time.monotonic())
            except TimeoutError as error:
                late = f"took longer than {self._config.upload_seconds:g} s (--upload_seconds)"
                raise HTTPException(408, late, {"Connection": "close"}) from error
            is_whole = not message.get("more_body", False)
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_large(), {"Connection": "close"})
            return message

        return received


async def _lingering(send: Send, receive: Receive, message: Message) -> None:
    """Sends; behind the last of an answer it reads on for a while before that is said.

    A connection that is closed with bytes unread is reset, and the client never sees the answer.
    """
    if message["type"] == "http.response.body":
        await send({**message, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while (await receive()).get("more_body", False):
                    pass
        message = {"type": "http.response.body", "body": b""}
    await send(message)


def refused(status: int, why: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer of a request that is not served."""
    return JSONResponse({"error": why}, status, headers)
