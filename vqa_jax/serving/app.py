"""The service as an ASGI application: what is asked, the order of the work, what goes back.

A request passes the gate, its videos become files of their own, decode in children, and meet the
device together with other requests' videos. Whatever goes wrong with a video is that request's
answer, with a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any

from absl import logging
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

import vqa_jax
from vqa_jax.media.container import MediaError
from vqa_jax.scoring import differences, explanation, timeline, versions
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.scoring.reading import Seen
from vqa_jax.scoring.results import Result
from vqa_jax.serving import answers, intake, metrics, pages
from vqa_jax.serving.answers import CompareAnswer, ErrorAnswer, ScoreAnswer
from vqa_jax.serving.config import ServeConfig
from vqa_jax.serving.gate import Gate
from vqa_jax.serving.work import Batches, EndedError, Threads, Ticket
from vqa_jax.settings import ScoreConfig
from vqa_jax.weights.flaw_head import HeadError

_WINDOW, _STRIDE = 2.0, 1.0  # seconds of a passage, and between two starts
_GONE = "the client has gone"
_STOPS = "the service stops"
_REASONS = {
    401: "no token, or a wrong one",
    403: "a URL that is not on the list",
    408: "the upload is too slow",
    413: "the upload is too large",
    422: "a video that cannot be used; error says why",
    503: "too many requests at work: come again after the seconds of Retry-After",
    504: "the work takes too long",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text} for status, text in _REASONS.items()
}

_Upload = Annotated[UploadFile | None, File(description="the video's file")]
_Url = Annotated[str, Form(description="or where it is, if the service's list allows it")]
_Flag = Annotated[bool, Form()]


class Service:
    """A student at work for requests.

    Args:
      student: loaded, with anchors.
      config: the service's bounds.
    """

    def __init__(self, student: Predictor, config: ServeConfig):
        self.student, self.config, self.metrics = student, config, metrics.Metrics()
        self._score = ScoreConfig(limits=config.limits)
        self._urls = intake.AllowedUrls(config.urls)
        self._threads = Threads()
        self._batches: Batches[tuple[str, Seen], Result] = Batches(
            functools.partial(student.score_seen, config=self._score),
            student.batch_size,
            self.metrics.batch.observe,
        )
        self._tickets: set[Ticket] = set()

    async def score(
        self,
        request: Request,
        given: tuple[UploadFile | None, str],
        curve: bool,
        pictures: bool,
        explain: bool,
    ) -> ScoreAnswer:
        """The answer of /v1/score."""
        if explain:
            explanation.head_of(self.student)  # a student without one says so before the work
        name, context = self._given("video", *given)
        async with self._ticket(request) as ticket, self._local(name, context) as path:
            with _told_as(name, path):
                see = self.student.see
                seen = await self._threads.run(ticket, see, path, self.config.limits)
                result = await self._batches.submit((name, seen))
                over_time = await self._threads.run(ticket, self._curve, path) if curve else None
                asked = explanation.explain, self.student, path, self._score
                seen = await self._threads.run(ticket, *asked) if explain else None
        most = self.config.timeline_seconds
        return ScoreAnswer(
            result,
            answers.curve_of(over_time, pictures, most) if over_time else None,
            answers.explained(seen) if seen else None,
        )

    def _curve(self, path: str) -> timeline.Timeline:
        parts = (0.0, self.config.timeline_seconds)
        return timeline.score_passages(
            self.student, path, _WINDOW, _STRIDE, self.config.limits, *parts
        )

    async def compare(
        self,
        request: Request,
        first: tuple[UploadFile | None, str],
        second: tuple[UploadFile | None, str],
        over_time: bool,
        pictures: bool,
    ) -> CompareAnswer:
        """The answer of /v1/compare."""
        (one, context), (other, another) = (
            self._given("first", *first),
            self._given("second", *second),
        )
        async with (
            self._ticket(request) as ticket,
            self._local(one, context) as a,
            self._local(other, another) as b,
        ):
            found = await self._threads.run(
                ticket, versions.rank, self.student, (a, b), None, self._score
            )
            names = {a: one, b: other}
            for version in found.versions:
                if version.error is not None:
                    reason, _, stage = version.error.rpartition(" [")
                    reason = answers.without_paths(reason, names)
                    raise MediaError(names[version.path], stage.rstrip("]"), reason)
            between = None
            if over_time:
                pair = ("A", a), ("B", b)
                limits = self.config.limits
                between = await self._threads.run(
                    ticket, differences.between, self.student, *pair, limits
                )
        return answers.comparison_of(found, between, pictures, names)

    def _given(
        self, field: str, upload: UploadFile | None, url: str
    ) -> tuple[str, AbstractContextManager[str]]:
        """A video's name, and what makes it a local file."""
        if (upload is None) == (not url):
            raise HTTPException(422, f"give one video: upload it as {field}, or its URL")
        if upload is not None:
            return intake.name_of(upload.filename), intake.uploaded(upload)
        if url not in self._urls:
            raise HTTPException(403, "that URL is not on the list of this service")
        config = self.config
        return intake.name_of(url), intake.fetched(url, config.upload_mb, config.upload_seconds)

    @contextlib.asynccontextmanager
    async def _local(self, name: str, context: AbstractContextManager[str]) -> AsyncIterator[str]:
        """The local path, made and removed beside the event loop."""
        path = await asyncio.to_thread(context.__enter__)
        try:
            yield path
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)

    @contextlib.asynccontextmanager
    async def _ticket(self, request: Request) -> AsyncIterator[Ticket]:
        """A ticket that ends where the client goes, or the service."""
        ticket = Ticket(self.config.work_seconds)

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            ticket.end(_GONE)

        watching = asyncio.create_task(watch())
        self._tickets.add(ticket)
        try:
            yield ticket
        finally:
            self._tickets.discard(ticket)
            watching.cancel()

    def stop(self) -> None:
        """Ends what is still at work, and the threads."""
        for ticket in list(self._tickets):
            ticket.end(_STOPS)
        self._threads.close()
        self._batches.close()


@contextlib.contextmanager
def _told_as(name: str, path: str) -> AbstractContextManager[None]:
    """Errors about a local path become errors about the video's name."""
    try:
        yield
    except MediaError as error:
        reason = answers.without_paths(error.reason, {path: name})
        raise MediaError(name, error.stage, reason) from error


def make_app(student: Predictor, config: ServeConfig) -> Gate:
    """The application, gate and all; the student is ready by then.

    Raises:
      AnchorError: the student has no anchors.
      SettingsError: an allowed URL that is none.
    """
    student.judge  # noqa: B018  # one that cannot score says so before the first request
    service = Service(student, config)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="vqa_jax",
        version=vqa_jax.__version__,
        description="No-reference video quality by comparing pairs of videos.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    gate = Gate(app, config, service.metrics)
    _add_work(app, service)
    _add_state(app, service, gate)
    _add_errors(app, service)
    for path, page in pages.made(app.openapi(), config, student.flaw_head is not None).items():
        app.add_api_route(path, _fixed(page), include_in_schema=False)
    return gate


def _fixed(page: pages.Page) -> Callable[[], Any]:
    async def answer() -> Response:
        return Response(page.text, media_type=page.kind, headers=pages.HEADERS)

    return answer


def _add_work(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/score",
        responses=_ERRORS,
        response_description="the answer",
        summary="The score of one video",
    )
    async def score(
        request: Request,
        video: _Upload = None,
        url: _Url = "",
        curve: _Flag = False,
        pictures: _Flag = False,
        explain: _Flag = False,
    ) -> ScoreAnswer:
        """Scores a video on the anchors' scale, higher is better.

        `curve` adds the scores of its passages and the worst moments, `pictures` frames of those,
        `explain` what the student sees: kinds of flaw, pictures and motion apart, and places.
        """
        return await service.score(request, (video, url), curve, pictures, explain)

    @app.post(
        "/v1/compare",
        responses=_ERRORS,
        response_description="the answer",
        summary="Which of two videos is better",
    )
    async def compare(
        request: Request,
        first: _Upload = None,
        second: _Upload = None,
        first_url: _Url = "",
        second_url: _Url = "",
        over_time: _Flag = False,
        pictures: _Flag = False,
    ) -> CompareAnswer:
        """Asks the student about both orders, and for both scores.

        `over_time` compares versions of one source passage by passage, `pictures` adds frames of
        the moments in which they differ most.
        """
        pair = (first, first_url), (second, second_url)
        return await service.compare(request, *pair, over_time, pictures)


def _add_state(app: FastAPI, service: Service, gate: Gate) -> None:
    @app.get("/healthz", summary="Whether the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether the next request would be taken")
    async def readyz() -> JSONResponse:
        return JSONResponse(
            {"status": "full" if gate.is_full else "ready"}, 503 if gate.is_full else 200
        )

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def numbers() -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


def _add_errors(app: FastAPI, service: Service) -> None:
    def told(status: int, error: str, stage: str = "", file: str = "", **more: Any) -> JSONResponse:
        values = {"error": error, "stage": stage, "file": file}
        return JSONResponse(values, status, **more)

    @app.exception_handler(MediaError)
    async def of_video(_: Request, error: MediaError) -> JSONResponse:
        service.metrics.refused.labels(error.stage).inc()
        return told(422, error.reason, error.stage, error.path)

    @app.exception_handler(HeadError)
    async def no_head(_: Request, error: HeadError) -> JSONResponse:
        logging.warning("%s", error)  # it names a folder of the server
        return told(422, "this service's student has no auxiliary head: ask without explain")

    @app.exception_handler(EndedError)
    async def ended(_: Request, error: EndedError) -> JSONResponse:
        return told(503 if str(error) == _STOPS else 504, str(error))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return told(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def unclear(_: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()]
        return told(422, "; ".join(parts))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        logging.error("%s: %r", request.url.path, error, exc_info=error)
        return told(500, "an error of the service: its log tells more")
