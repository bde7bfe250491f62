"""The studio's server: the page, uploads, jobs, and pictures at once."""

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from autolink import __version__
from autolink.checkpoints import bundled
from autolink.errors import UserError
from autolink.studio.commands import MeasureReport, Train, Transfer, presets, resume, run_facts
from autolink.studio.guard import FILE_POLICY, REPORT_POLICY, Guard
from autolink.studio.jobs import Jobs
from autolink.studio.live import Header, Line
from autolink.studio.pictures import public
from autolink.studio.session import Session

PAGE = Path(__file__).parent / "page"

T = TypeVar("T")


class Studio:
    """One session: its folder, its queue, and the networks, which one thread uses."""

    def __init__(self, folder: Path, gan: str = "pets-gan", device: str = "auto") -> None:
        self.session = Session(folder)
        self.jobs = Jobs(self.session)
        self.executor = ThreadPoolExecutor(1, "networks")
        self.gan, self.device = gan, device
        self.models = cache(self._models)

    def _models(self) -> Any:
        """Loaded on the first request, in the networks' thread, so that the page is there before torch is."""
        from autolink.device import pick_device, prepare_cpu
        from autolink.studio.models import Models

        device = pick_device(self.device)
        prepare_cpu(device, threads=1)  # small networks gain little by more, and browser and jobs want cores, too
        return Models(self.session, self.gan, device)

    async def compute(self, work: Callable[[Any], T]) -> T:
        """Do something with the networks in their thread."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, lambda: work(self.models()))

    def warm_up(self) -> None:
        """Load what the first picture needs, before it is asked for."""
        from autolink.studio.animals import Paint

        animals = self.models().animals()
        animals.paint(Paint(keypoints=animals.facts()["structures"][0]))

    def answer(self, header: Header, payload: bytes) -> tuple[Header, bytes]:
        """A request on the WebSocket."""
        from autolink.studio.animals import Paint

        if header.get("kind") == "paint":
            return {}, self.models().animals().paint(Paint.model_validate(header.get("wanted")))
        if header.get("kind") == "move":
            from autolink.studio.puppet import Move

            wanted = Move.model_validate(header.get("wanted"))
            header, picture = self.models().puppet(wanted.upload, wanted.crop).move(wanted)
            return header, picture
        if header.get("kind") == "learn":
            from autolink.studio.puppet import Learn

            return {"directions": self.models().expressions(Learn.model_validate(header.get("wanted")))}, b""
        if header.get("kind") == "look":
            found, drawn = self.models().look(str(header.get("checkpoint")), payload, bool(header.get("edges")))
            return found, drawn
        raise UserError("the studio does not know this request; load the page again")


def make_app(studio: Studio, port: int) -> FastAPI:
    """The whole application, which answers under 127.0.0.1:port only."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        working = asyncio.create_task(studio.jobs.work())
        studio.executor.submit(studio.warm_up)
        yield
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        studio.executor.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="AutoLink studio", version=__version__, docs_url=None, redoc_url=None, openapi_url=None,
                  lifespan=lifespan)  # fmt: skip
    app.add_middleware(Guard, port=port)
    _tell_errors(app)
    _serve_page(app, studio)
    _serve_uploads(app, studio)
    _serve_jobs(app, studio)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await Line(socket, studio.answer, studio.jobs, studio.executor).serve()

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _tell_errors(app: FastAPI) -> None:
    """Every error is one sentence in JSON."""

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"}, 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": "there is nothing here" if error.status_code == 404 else error.detail},
                            error.status_code)  # fmt: skip


def _serve_page(app: FastAPI, studio: Studio) -> None:
    """What the page asks for at its beginning."""

    @app.get("/api/about")
    async def about() -> dict[str, Any]:
        return {"version": __version__, "folder": str(studio.session.folder)}

    @app.get("/api/animals")
    async def animals() -> dict[str, Any]:
        return await studio.compute(lambda models: models.animals().facts())

    @app.get("/api/checkpoints")
    async def checkpoints() -> dict[str, list[str]]:
        return {"stage_ones": await studio.compute(lambda models: models.names()), "all": list(bundled())}

    @app.get("/api/gallery")
    async def gallery() -> dict[str, str]:
        from autolink.studio.gallery import EXAMPLES

        return EXAMPLES

    @app.get("/api/gallery/{name}")
    async def example(name: str) -> FileResponse:
        from autolink.studio.gallery import example

        return FileResponse(await asyncio.to_thread(example, studio.session, name))


def _serve_uploads(app: FastAPI, studio: Studio) -> None:
    session = studio.session

    @app.post("/api/uploads/{name}")
    async def upload(name: str, request: Request) -> Any:
        folder, kept = await session.receive(name, request.stream())
        return await asyncio.to_thread(session.adopt, folder, kept)

    @app.post("/api/gallery/{name}")
    async def take_example(name: str) -> Any:
        from autolink.studio.gallery import adopt_example

        return await asyncio.to_thread(adopt_example, session, name)

    @app.get("/api/uploads/{identity}")
    async def facts(identity: str) -> Any:
        return session.upload(identity)

    @app.get("/api/uploads/{identity}/file")
    async def file(identity: str) -> FileResponse:
        path = session.file_of(identity)
        kind = mimetypes.guess_type(path)[0] or ""
        plain = kind if kind.startswith(("image/", "video/")) else "application/octet-stream"
        return FileResponse(path, media_type=plain, headers={"content-security-policy": FILE_POLICY})

    @app.get("/api/uploads/{identity}/picture")
    async def picture(identity: str) -> Response:
        from autolink.studio.pictures import jpeg

        held = session.upload(identity)
        return Response(await studio.compute(lambda models: jpeg(models.picture(held))), media_type="image/jpeg")

    @app.get("/api/uploads/{identity}/keypoints")
    async def keypoints(identity: str, checkpoint: str = "auto") -> dict[str, Any]:
        held = session.upload(identity)
        return await studio.compute(lambda models: models.keypoints(held, checkpoint))

    @app.get("/api/uploads/{identity}/edge_map")
    async def edge_map(identity: str, checkpoint: str) -> Response:
        held = session.upload(identity)
        drawn = await studio.compute(lambda models: models.discoverer(checkpoint).edge_map(models.picture(held)))
        return Response(drawn, media_type="image/jpeg")

    @app.get("/api/uploads/{identity}/structure")
    async def structure(identity: str) -> dict[str, Any]:
        held = session.upload(identity)
        return {"keypoints": await studio.compute(lambda models: models.animals().structure(models.picture(held)))}

    @app.get("/api/uploads/{identity}/puppet")
    async def puppet(identity: str, crop: str = "auto") -> dict[str, Any]:
        held = session.upload(identity)
        return await studio.compute(lambda models: models.puppet(held.id, crop).facts())

    @app.get("/api/uploads/{identity}/strip")
    async def strip(identity: str) -> Response:
        from autolink.studio.pictures import film_strip, jpeg

        path = session.file_of(identity)
        return Response(await asyncio.to_thread(lambda: jpeg(film_strip(path))), media_type="image/jpeg")


def _serve_jobs(app: FastAPI, studio: Studio) -> None:
    jobs, session = studio.jobs, studio.session

    @app.get("/api/jobs")
    async def listed() -> list[dict[str, Any]]:
        return [public(job, session) for job in jobs.jobs.values()]

    @app.post("/api/jobs/transfer")
    async def transfer(asked: Transfer) -> dict[str, Any]:
        return public(asked.add_to(jobs, session), session)

    @app.post("/api/jobs/train")
    async def train(asked: Train) -> dict[str, Any]:
        return public(asked.add_to(jobs, session), session)

    @app.get("/api/presets")
    async def listed_presets() -> dict[str, dict[str, int]]:
        return await asyncio.to_thread(presets)

    @app.post("/api/jobs/report")
    async def report(asked: MeasureReport) -> dict[str, Any]:
        trained = [f"runs/{path.parents[1].name}/model" for path in session.runs.glob("*/model/config.json")]
        return public(asked.add_to(jobs, session, [*bundled(), *trained]), session)

    @app.post("/api/jobs/{identity}/stop")
    async def stop(identity: str) -> dict[str, Any]:
        job = jobs.find(identity)
        await jobs.stop(job)
        return public(job, session)

    @app.post("/api/jobs/{identity}/resume")
    async def again(identity: str) -> dict[str, Any]:
        return public(resume(jobs.find(identity), jobs, session), session)

    @app.get("/api/jobs/{identity}/run")
    async def run(identity: str) -> dict[str, Any]:
        return await asyncio.to_thread(run_facts, session.runs / jobs.find(identity).id)

    @app.get("/api/jobs/{identity}/samples/{name}")
    async def sample(identity: str, name: str) -> FileResponse:
        return FileResponse(session.inside(session.runs, identity, f"samples/{name}"))

    @app.get("/api/jobs/{identity}/files/{name:path}")
    async def result(identity: str, name: str) -> FileResponse:
        path = session.inside(session.jobs, identity, name)
        return FileResponse(path, headers={"content-security-policy": REPORT_POLICY} if path.suffix == ".html" else {})
