"""Who may talk to the studio: the page it serves itself, on this machine, and nobody else."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; frame-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""What a page may load: nothing from elsewhere."""

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'; frame-ancestors 'self'"
"""The same for reports, which are pages of one file without scripts."""

FILE_POLICY = "sandbox; default-src 'none'"
"""The same for uploads: data, whatever they are called."""

HEADERS = {
    "content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}  # fmt: skip


def names(port: int) -> frozenset[str]:
    """What the studio may be called by a browser: values of the Host header."""
    return frozenset(f"{name}:{port}".removesuffix(":80") for name in ("127.0.0.1", "localhost", "[::1]"))


class Guard:
    """Refuses requests under a foreign name (DNS rebinding) and from foreign pages; adds headers to every answer."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app, self.hosts = app, names(port)
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an allowed request on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif reason := self.objection(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": reason})
            else:
                await JSONResponse({"error": reason}, 403, HEADERS)(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)

    def objection(self, scope: Scope) -> str:
        """Why a request is refused; empty if it is not."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host") not in self.hosts:
            return "the studio answers on this machine only, under the address that it printed"
        if headers.get("origin", next(iter(self.origins))) not in self.origins:
            return "another page may not use the studio"
        from_elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if from_elsewhere and scope["path"] != "/":  # a link to the page itself is harmless
            return "another page may not use the studio"
        return ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given: list[tuple[bytes, bytes]] = list(message["headers"])
            held = {name.lower() for name, _ in given}
            given += [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in held]
            message = {**message, "headers": given}
        await send(message)

    return sending
