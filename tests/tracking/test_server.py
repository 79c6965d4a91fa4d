"""MLflow behind a server: lost and back, hanging, refusing, or with a password in its address."""

import contextlib
import re
import select
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moe.model.weights import HISTORY_FILE
from moe.study.params import Params
from moe.tracking.store import TrackingError
from moe.tracking.study import Results
from moe.tracking.sync import sync
from tests.tracking.conftest import Server, everything, start_stage, write_working_folder

pytestmark = pytest.mark.slow


class Line:
    """A line to a server on which everything passes, until it is `cut` or `hangs`.

    after: the number of requests that still pass. No server: it is so from the first on.
    """

    def __init__(self, server: str | None, fate: str, after: int = 0) -> None:
        self.server, self.fate, self.left = server, fate, after
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        self.asked = 0
        self.held: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self.listening.accept()
            except OSError:
                return  # closed
            self.held.append(caller)
            threading.Thread(target=self._hold, args=(caller,), daemon=True).start()

    def _hold(self, caller: socket.socket) -> None:
        # Whoever closes a connection meanwhile leaves -1 as its descriptor.
        with contextlib.suppress(OSError, ValueError):
            self._answer(caller)

    def _answer(self, caller: socket.socket) -> None:
        """One connection: each request goes to the server, its answer back."""
        server = None
        while asked := self._read(caller):
            self.asked += 1
            self.left -= 1
            if self.left < 0:
                if self.fate == "cut":
                    self.close()
                return  # hangs: the connection stays open without an answer
            assert self.server is not None
            host, port = self.server.split(":")
            server = server or socket.create_connection((host, int(port)))
            server.sendall(asked)
            while not select.select([caller], [], [], 0)[0]:
                if select.select([server], [], [], 0.01)[0]:
                    answer = server.recv(1 << 16)
                    if not answer:
                        server = None
                        caller.shutdown(socket.SHUT_WR)
                        return
                    caller.sendall(answer)

    def mend(self) -> None:
        """From now on everything passes, at the same address."""
        self.left = sys.maxsize
        if self.fate == "cut":
            host, port = self.address.split(":")
            self.listening = socket.create_server((host, int(port)))
            threading.Thread(target=self._serve, daemon=True).start()

    def _read(self, caller: socket.socket) -> bytes:
        """A whole request, headers and body."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = caller.recv(1 << 16)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        while length and len(body) < int(length[1]):
            part = caller.recv(1 << 16)
            body += part
            data += part
        return data

    def close(self) -> None:
        # Closing alone would leave the thread in accept(), and with it the port open.
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        for one in (self.listening, *self.held):
            one.close()


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def lay(*args: Any) -> Line:
        lines.append(Line(*args))
        return lines[-1]

    yield lay
    for one in lines:
        one.close()


@pytest.mark.parametrize(("fate", "after"), [("cut", 20), ("cut", 75), ("hangs", 0), ("hangs", 20)])
@pytest.mark.usefixtures("impatient")
def test_a_server_lost_in_the_middle_costs_one_more_make_track(
    fate: str,
    after: int,
    here: Path,
    apart: Params,
    study: tuple[Path, Results],
    server: Server,
    line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: list[dict[str, Any]],
) -> None:
    lost = line(server.address, fate, after)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@{lost.address}")
    started = time.monotonic()
    with pytest.raises(TrackingError) as raised:
        sync(apart, study[1])
    assert time.monotonic() - started < 45  # bounded, on a busy machine too
    assert lost.asked > after  # so it was lost, and not something else wrong
    message = str(raised.value)
    assert "the results are complete" in message
    assert "run `make track`" in message
    assert "\n" not in message
    assert "s3cr3t" not in message
    lost.mend()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    sync(apart, study[1])
    assert everything(apart) == undisturbed


@pytest.mark.usefixtures("impatient")
def test_training_goes_on_without_a_server_with_one_warning(
    here: Path,
    apart: Params,
    study: tuple[Path, Results],
    server: Server,
    line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_working_folder(here, apart, study[1])
    outputs = [here / HISTORY_FILE, *sorted((here / "weights").glob("*.safetensors"))]
    assert len(outputs) == 1 + 3  # seeds

    def train_from_nothing() -> tuple[str, list[bytes]]:
        shutil.rmtree(here / ".cache", ignore_errors=True)
        for path in outputs:
            path.unlink(missing_ok=True)
        process = start_stage("train", here)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        assert "Traceback" not in err
        return out + err, [path.read_bytes() for path in outputs]

    said, expected = train_from_nothing()
    assert "warning" not in said
    for away in (line(None, "cut"), line(None, "hangs"), line(server.address, "cut", 4)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@{away.address}/?token=t0k3n")
        said, written = train_from_nothing()
        assert written == expected
        assert said.count("warning") == 1, said
        assert "warning: no live progress: MLflow" in said
        assert "s3cr3t" not in said
        assert "t0k3n" not in said
        if away.server:
            continue  # by now it is one that refuses
        process = start_stage("track", here)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 2
        (complaint,) = err.splitlines()
        assert "run `make track`" in complaint
        assert "s3cr3t" not in out + err
        assert "t0k3n" not in out + err
        assert [path.read_bytes() for path in outputs] == expected


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:s3cr3t@127.0.0.1:9",
        "http://me:p@s3cr3t@127.0.0.1:9/?token=s3cr3t",
        "postgresql://me:s3cr3t@127.0.0.1:9/runs",
        "nonsense://me:s3cr3t@nowhere",
        "http://me:s3cr3t@[",
    ],
)
def test_what_is_no_server_at_all(
    uri: str,
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as raised:
        sync(params, study[1])
    assert "s3cr3t" not in str(raised.value)
    assert "make track" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_password_stays_in_the_address(
    here: Path,
    apart: Params,
    study: tuple[Path, Results],
    server: Server,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sync that goes well says and keeps nothing of it: no log, no tag, no artifact."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@{server.address}")
    sync(apart, study[1])
    said = capfd.readouterr()
    assert "s3cr3t" not in said.out + said.err
    kept = [path for path in server.folder.rglob("*") if path.is_file()]
    assert {"mlflow.db", "log", "runs.csv", "MLmodel"} <= {path.name for path in kept}
    for path in kept:
        assert b"s3cr3t" not in path.read_bytes(), path
