"""`daypass health` against a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.cli.main import app

runner = CliRunner()


@contextmanager
def answering(status: int, text: bytes) -> Iterator[int]:
    """A server that answers /readyz; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def at(house: Path, port: int) -> list[str]:
    config = house / "config.yaml"
    config.write_text(config.read_text().replace("port: 9187", f"port: {port}"))
    return ["-c", str(config), "health"]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (500, 1)])
def test_the_exit_code_is_the_answer(house: Path, status: int, code: int) -> None:
    with answering(status, b"the record cannot be written\n") as port:
        answer = runner.invoke(app, at(house, port))
    assert answer.exit_code == code
    told = json.loads(answer.stdout)
    assert (told["ready"], told["detail"]) == (code == 0, "the record cannot be written")


def test_nobody_answers(house: Path) -> None:
    with answering(200, b"") as port:
        pass
    answer = runner.invoke(app, at(house, port))
    assert answer.exit_code == 3
    assert "is `daypass serve` running?" in answer.stderr


def test_a_port_that_was_chosen_at_start(house: Path) -> None:
    assert runner.invoke(app, at(house, 0)).exit_code == 2
    with answering(200, b"ok") as port:
        words = ["-c", str(house / "config.yaml"), "health", "--url", f"http://127.0.0.1:{port}/readyz", "-o", "table"]
        answer = runner.invoke(app, words)
    assert answer.exit_code == 0
    assert "ready" in answer.stdout
    assert runner.invoke(app, [*words[:3], "--url", "file:///etc/passwd"]).exit_code == 2
