"""Chromium without a window, told what to do over a pipe: what people see of our pictures, and what they click."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 60
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--remote-debugging-pipe", "--disable-background-networking", "--disable-component-update"),
    *("--force-device-scale-factor=1", "--hide-scrollbars"),
)


class Page:
    """One tab. Protocol: https://chromedevtools.github.io/devtools-protocol/, messages end in NUL."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to = to_browser
        self._from = from_browser
        self._unread = b""
        self._number = 0
        self._session: str | None = None

    def attach(self) -> None:
        target = self.send("Target.createTarget", url="about:blank")
        self._session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        self.send("Page.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to *method*; what the browser says unasked is dropped."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)
        self.js("new Promise(ready => document.readyState == 'complete' ? ready() : addEventListener('load', ready))")

    def js(self, expression: str) -> Any:
        """Return the value of *expression*; a promise is waited for."""
        done = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def dark(self, wanted: bool) -> None:
        mode = "dark" if wanted else "light"
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": mode}])

    def size(self, width: int, height: int) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def shot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            assert select.select([self._from], [], [], PATIENCE_S)[0], "the browser says nothing"
            got = os.read(self._from, 1 << 16)
            assert got, "the browser is gone"
            self._unread += got
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start Chromium with its files in *folder*, give a page of it, and end it with all its processes."""
    ours, theirs = os.pipe(), os.pipe()
    inside = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ours[0], theirs[1])]

    def place() -> None:
        for wanted, end in zip((3, 4), inside, strict=True):
            os.dup2(end, wanted)

    (folder / "Local State").write_text('{"internal_only_uis_enabled": true}')  # chrome://tracing is one
    command = ["chromium", *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    log = (folder / "log").open("wb")
    running = subprocess.Popen(
        command,
        stdout=log,
        stderr=log,
        pass_fds=(3, 4),
        preexec_fn=place,  # noqa: PLW1509 - two system calls, which no thread can disturb
        start_new_session=True,
    )
    for end in (*inside, ours[0], theirs[1]):
        os.close(end)
    try:
        page = Page(ours[1], theirs[0])
        page.attach()
        yield page
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(PATIENCE_S)
        for end in (ours[1], theirs[0]):
            os.close(end)
        log.close()
