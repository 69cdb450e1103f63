"""`daypass health`: asks a running daypass whether it can serve sessions. For containers and load balancers.

One HTTP request with the standard library; the exit code is the answer.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Annotated

import typer

from proxy.cli.options import ConfigOption, OutputOption, load_config
from proxy.cli.output import NO, UNREACHABLE, USAGE, emit, fail, styled

_MOST = 10_000  # bytes read of an answer


def command(
    config: ConfigOption,
    output: OutputOption,
    url: Annotated[
        str | None, typer.Option("--url", help="Ask this address instead of metrics.host and metrics.port.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=60, help="Seconds to wait.")] = 5.0,
) -> None:
    """Ask a running daypass whether it is ready: exit 0 ready, 1 not ready, 3 no answer.

    Example: daypass -c daypass/config.yaml health
    """
    address = url or _address(config)
    if not address.startswith(("http://", "https://")):
        fail(USAGE, f"--url: {address!r} is not an http address", "for example http://127.0.0.1:9187/readyz")
    try:
        with _opener().open(address, timeout=timeout) as answer:
            ready, text = True, answer.read(_MOST).decode("utf-8", "replace").strip()
    except urllib.error.HTTPError as error:
        with error:
            ready, text = False, error.read(_MOST).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        fail(UNREACHABLE, f"{address} does not answer: {reason}", "is `daypass serve` running?")
    word = styled("ready", "green") if ready else styled("not ready", "red")
    emit({"ready": ready, "url": address, "detail": text}, output, lambda console: console.print(word, text))
    if not ready:
        raise typer.Exit(NO)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))  # HTTP_PROXY is not for asking oneself


def _address(config: ConfigOption) -> str:
    metrics = load_config(config).metrics
    if metrics.port == 0:
        fail(USAGE, "metrics.port is 0: the port was chosen at start", "give --url http://127.0.0.1:PORT/readyz")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(metrics.host, metrics.host)  # noqa: S104  (read, not bound)
    return f"http://[{host}]:{metrics.port}/readyz" if ":" in host else f"http://{host}:{metrics.port}/readyz"
