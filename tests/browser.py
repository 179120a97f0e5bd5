"""Headless Chromium for tests, spoken to over two pipes in its DevTools protocol, without any library.

The messages are JSON objects, each with a zero byte behind it, on the file descriptors 3 and 4 of a browser that was
started with `--remote-debugging-pipe`.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from select import select
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


def find() -> str | None:
    """Where the browser is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A browser with one page.

    Attributes:
        requests: what the page tried to load.
        errors: exceptions, and messages of the console that are no plain log.
    """

    def __init__(self, folder: Path) -> None:
        path = find()
        assert path is not None
        theirs_read, down = os.pipe()
        up, theirs_write = os.pipe()
        # Above the numbers that the browser's end gets, lest one redirection overwrites the other's source.
        ends = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (theirs_read, theirs_write)]
        self.process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}',
                path,
                *FLAGS,
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in (theirs_read, theirs_write, *ends):
            os.close(each)
        self.up, self.down = up, down
        self.buffer = b""
        self.number = 0
        self.session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.loaded = False
        [target] = [
            each for each in self.ask("Target.getTargets")["targetInfos"] if each["type"] == "page"
        ]
        attached = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.session = None
            self.ask("Browser.close", deadline=10)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        os.close(self.up)
        os.close(self.down)

    # -- the protocol

    def ask(self, method: str, *, deadline: float = 60, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.down, data) :]
        wanted = self.number
        for answer in self.messages(deadline):
            if answer.get("id") == wanted:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
        raise TimeoutError(f"The browser did not answer {method}.")

    def messages(self, deadline: float) -> Iterator[dict[str, Any]]:
        """What comes from the browser; events are noted on the way."""
        end = time.monotonic() + deadline
        while True:
            while b"\0" in self.buffer:
                text, _, self.buffer = self.buffer.partition(b"\0")
                message = json.loads(text)
                self.note(message)
                yield message
            if not select([self.up], [], [], max(0.0, end - time.monotonic()))[0]:
                return
            data = os.read(self.up, 1 << 20)
            if not data:
                raise EOFError("The browser has ended.")
            self.buffer += data

    def note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if params["type"] != "log":
                self.errors.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.errors.append(params["entry"]["text"])
            case "Page.loadEventFired":
                self.loaded = True

    # -- what a person does

    def open(self, path: Path, *, ready: str = "true", deadline: float = 120) -> None:
        """Open a file, and wait until an expression holds."""
        self.loaded = False
        self.requests.clear()
        self.ask("Page.navigate", url=path.as_uri())
        for _ in self.messages(deadline):
            if self.loaded:
                break
        self.wait(ready, deadline)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.ask(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            deadline=120,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, deadline: float = 30) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + deadline
        while not self.run(expression):
            assert time.monotonic() < end, f"{expression} does not come true: {self.errors}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until what was begun is drawn."""
        frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.run(f"{frame}.then(() => true)")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key."""
        code = KEYS.get(key) or ord(key.upper()[0])
        params: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code}
        params["modifiers"] = 8 if shift else 0
        text = "\r" if key == "Enter" else key if len(key) == 1 else None
        if text is not None:
            params["text"] = text
        self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **params)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **params)

    def mouse(self, kind: str, x: float, y: float, **params: Any) -> None:
        """An event of the mouse: mouseMoved, mousePressed, mouseReleased, mouseWheel."""
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **params)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1, buttons=1)

    def look(
        self, *, dark: bool = False, width: int = 1280, height: int = 900, scale: float = 1
    ) -> None:
        """Change the window, and what the system says of light and dark."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path | None = None, *, whole: bool = False) -> bytes:
        """A screenshot as PNG."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        data = base64.b64decode(answer["data"])
        if path is not None:
            path.write_bytes(data)
        return data
