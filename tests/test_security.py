"""Input files cannot run code or reach other files, and secrets are not shown."""

import ast
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from moe.analysis.results import read_tables
from moe.claims import judged
from moe.data import download
from moe.data.idx import DataError
from moe.errors import without_secrets
from moe.recipes import RECIPES
from moe.report.explorer import write_explorer
from moe.report.page import TEMPLATE_DIR, write_report
from moe.study.params import ParamsError, read_params
from moe.train.run_store import Store

ROOT = Path(__file__).parent.parent
SOURCES = [*(ROOT / "moe").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
SCRIPT = "<script>alert(1)</script>"


# --- input files cannot run code


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_unpickles_or_evaluates(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            for name in names:
                assert name.partition(".")[0] not in {"pickle", "dill", "joblib", "shelve", "yaml"}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"torch.load", "torch.save", "eval", "exec", "os.system"}
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert options.get("allow_pickle", "False") == "False"
            assert options.get("shell", "False") == "False"
            if called == "YAML":
                # The round-trip loader is safe too: it builds only plain values.
                assert options in ({"typ": "'safe'", "pure": "True"}, {"typ": "'rt'"})


def test_a_params_file_builds_no_objects(tmp_path: Path) -> None:
    path, trace = tmp_path / "params.yaml", tmp_path / "trace"
    path.write_text(f"data: !!python/object/apply:os.mkdir ['{trace}']\n")
    with pytest.raises(ParamsError):
        read_params(path)
    assert not trace.exists()


def test_a_pickle_in_the_store_is_set_aside(tmp_path: Path) -> None:
    trace, said = tmp_path / "trace", []
    # Pickle opcodes for os.mkdir(trace)
    code = f"cos\nmkdir\n(V{trace}\ntR.".encode()
    Store(tmp_path).add(code, {"a": "run a"})
    assert Store(tmp_path, said.append).load({"a"}) == {}
    assert not trace.exists()
    assert len(said) == 1


# --- downloads


@pytest.mark.slow
def test_a_download_is_verified_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gzip bomb, a gigabyte in a megabyte, whose header has a path to another folder."""
    bomb = io.BytesIO()
    with gzip.GzipFile("../../outside", "wb", fileobj=bomb, mtime=0) as file:
        for _ in range(1000):
            file.write(bytes(1_000_000))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    mnist = download.import_torchvision().datasets.MNIST
    for name, _ in mnist.resources:
        (mirror / name).write_bytes(bomb.getvalue())
    monkeypatch.setenv("MNIST_MIRROR", str(mirror))
    monkeypatch.setattr(mnist, "mirrors", [])
    with pytest.raises(DataError, match="truncated or altered"):
        download.download("MNIST", tmp_path / "deep/down")
    left = [path for path in tmp_path.rglob("*") if path.is_file() and mirror not in path.parents]
    assert left == []


@pytest.mark.slow
def test_no_path_is_taken_from_a_file_s_content(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A valid file, compressed under another name, with its new digest as the expected one."""
    mnist, packed = download.import_torchvision().datasets.MNIST, tmp_path / "mirror"
    packed.mkdir()
    resources = []
    for name, _ in mnist.resources:
        content = gzip.decompress((mirror / name).read_bytes())
        file = io.BytesIO()
        with gzip.GzipFile("../../../outside", "wb", fileobj=file, mtime=0) as zipped:
            zipped.write(content)
        (packed / name).write_bytes(file.getvalue())
        resources.append((name, hashlib.md5(file.getvalue()).hexdigest()))
    monkeypatch.setattr(mnist, "resources", resources)
    monkeypatch.setenv("MNIST_MIRROR", str(packed))
    raw = download.download("MNIST", tmp_path / "a/b/c")
    names = {path.name for path in raw.iterdir()}
    assert names == {name for name, _ in resources} | {
        name.removesuffix(".gz") for name, _ in resources
    }
    assert not list(tmp_path.rglob("outside"))


# --- output escapes input


@pytest.mark.slow
def test_the_report_and_the_explorer_show_markup_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    # params.yaml does not allow such names
    monkeypatch.setitem(RECIPES, SCRIPT, replace(RECIPES["switch"], name=SCRIPT))
    tables, params = read_tables(ROOT / "results", 10), read_params(ROOT / "params.yaml")
    names = ("runs", "history", "confusion", "slots", "coactivation")
    renamed = {
        name: table[table["recipe"] != "logits"].replace({"recipe": {"switch": SCRIPT}})
        for name, table in zip(names, (getattr(tables, name) for name in names), strict=True)
    }
    tables = tables._replace(**renamed)
    claims = judged(tables)
    claims[0] = {**claims[0], "claim": f"of {SCRIPT}"}
    write_report(tables, params, claims, tmp_path)
    html = (tmp_path / "index.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert SCRIPT not in html
    odd = replace(tables.dataset, title=f"</script>{SCRIPT}")
    write_explorer(tables._replace(dataset=odd), TEMPLATE_DIR, tmp_path / "explorer.html")
    html = (tmp_path / "explorer.html").read_text()
    assert "alert(1)" in html
    assert SCRIPT not in html
    assert html.lower().count("</script>") == html.lower().count("<script")


# --- secrets, and who can connect


@pytest.mark.parametrize(
    "uri",
    [
        "https://me:s3cret@example.org/path",
        "postgresql://me:p@ss/s3cret@db:5432/x",
        "https://example.org/?token=s3cret&x=1",
        "https://s3cret@example.org",
    ],
)
def test_secrets_of_an_address_are_taken_out(uri: str) -> None:
    shown = without_secrets(f"MLflow at {uri}: refused")
    assert "s3cret" not in shown
    assert shown.startswith("MLflow at ")
    assert shown.endswith("refused")


def test_a_password_in_the_environment_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    assert without_secrets("the header said s3cret") == "the header said ***"


def test_the_report_reads_no_environment() -> None:
    for path in [*(ROOT / "moe/report").glob("*.py"), ROOT / "moe/analysis/results.py"]:
        text = path.read_text()
        assert "os.environ" not in text
        assert "getenv" not in text


# --- servers' answers, text in pages, and passwords in messages

NAME = "t10k-labels-idx1-ubyte.gz"


class Mirror(BaseHTTPRequestHandler):
    """Serves its server's `content`, or bytes without end, with its `headers`."""

    def do_GET(self) -> None:
        content: bytes | None = self.server.content  # type: ignore[attr-defined]
        self.send_response(200)
        for header in self.server.headers.items():  # type: ignore[attr-defined]
            self.send_header(*header)
        self.end_headers()
        try:
            if content is not None:
                self.wfile.write(content)
            while content is None:
                self.wfile.write(b"0" * 50_000)
                self.server.sent += 50_000  # type: ignore[attr-defined]
        except OSError:  # the client closed the connection
            pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the base class's name
        """Keeps quiet."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ThreadingHTTPServer]]:
    """Makes a loopback server the only mirror, for one file with a given MD5."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def serves(content: bytes | None, md5: str, **headers: str) -> ThreadingHTTPServer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        vars(server).update(content=content, headers=named, sent=0)
        mnist = download.import_torchvision().datasets.MNIST
        monkeypatch.setattr(mnist, "mirrors", [])
        monkeypatch.setattr(mnist, "resources", [(NAME, md5)])
        monkeypatch.setenv("MNIST_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
        return server

    yield serves
    server.shutdown()
    server.server_close()


def test_an_encoded_transfer_is_not_blown_up(
    serve: Callable[..., ThreadingHTTPServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kilobyte that would be a megabyte if it were decoded before verification."""
    monkeypatch.setattr(download, "MOST_BYTES", 100_000)
    bomb = gzip.compress(bytes(1_000_000))
    assert len(bomb) < 2_000
    serve(bomb, "0" * 32, Content_Encoding="gzip")
    with pytest.raises(DataError, match="its MD5 is not"):  # and not: more than 100,000 bytes
        download.download("MNIST", tmp_path)


def test_the_pages_scripts_make_no_markup_of_text() -> None:
    ways = r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\s*\(|new Function)"
    scripts = list((ROOT / "reports/template").rglob("*.js"))
    assert {"charts.js", "page.js", "common.js"} <= {script.name for script in scripts}
    for script in scripts:
        assert re.findall(ways, script.read_text(encoding="utf-8")) == [], script


def test_make_ui_leaves_a_server_to_itself() -> None:
    """For other stores, see tests/tracking/test_store.py."""
    done = subprocess.run(
        [sys.executable, "-m", "stages.ui"],
        cwd=ROOT,
        env={**os.environ, "MLFLOW_TRACKING_URI": "http://me:s3cret@127.0.0.1:5000"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "open its address in a browser" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_a_mirror_s_password_stays_out_of_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download.import_torchvision().datasets.MNIST, "mirrors", [])
    monkeypatch.setenv("MNIST_MIRROR", "http://me:s3cret@127.0.0.1:9/mnist?key=s3cret")
    with pytest.raises(DataError) as raised:
        download.download("MNIST", tmp_path)
    assert "127.0.0.1:9" in str(raised.value)
    assert "s3cret" not in str(raised.value) + str(capsys.readouterr())
