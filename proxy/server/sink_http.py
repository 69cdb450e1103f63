"""Sinks over HTTPS: a signed webhook, and OpenTelemetry's logs (OTLP/HTTP, JSON).

Knows nothing of recordings and cursors. Invariants: certificates are checked and redirects not followed; only an answer
below 300 counts as taken; no secret stands in an error.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from proxy.server.notice import signature
from proxy.server.sink_syslog import REFUSED
from recorder import reading
from recorder.sinks.courier import NotTaken
from recorder.sinks.feed import Item

if TYPE_CHECKING:
    import httpx

ANSWER: Final = 65_536
"""Bytes of an answer that are read."""
TOLD: Final = 300
TOO_LARGE: Final = 413
INFO: Final = (9, "INFO")
WARN: Final = (13, "WARN")


class HttpSink:
    """Posts to one address. `secret` is read for each batch, so that a new one counts without a restart."""

    def __init__(
        self,
        url: str,
        installation: str,
        *,
        secret: Callable[[], str | None],
        trust: Callable[[], ssl.SSLContext],
        timeout: float,
    ) -> None:
        self._url = url
        self._installation = installation
        self._secret = secret
        self._trust = trust
        self._timeout = timeout
        self._client: httpx.Client | None = None

    def _post(self, body: bytes, headers: Mapping[str, str], secret: str | None) -> bytes:
        """The beginning of the answer. NotTaken."""
        import httpx  # noqa: PLC0415  (slow to import, and only where there is such a sink)

        always = {"Content-Type": "application/json", "User-Agent": "daypass"}
        try:
            if self._client is None:
                trust = self._trust() if self._url.startswith("https:") else False
                self._client = httpx.Client(verify=trust, follow_redirects=False, timeout=self._timeout)
            with self._client.stream("POST", self._url, content=body, headers=always | dict(headers)) as answer:
                said = b""
                for chunk in answer.iter_bytes():
                    said += chunk
                    if len(said) >= ANSWER:
                        break
                code, reason = answer.status_code, answer.reason_phrase
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as problem:
            self.close()
            raise NotTaken(_safe(f"{type(problem).__name__}: {problem}", secret)) from None
        if code >= 300:
            text = f"{code} {reason}: {said[:TOLD].decode('utf-8', 'replace')}"
            raise NotTaken(_safe(text, secret), too_large=code == TOO_LARGE)
        return said

    def _key(self) -> str | None:
        try:
            return self._secret()
        except ValueError as problem:
            raise NotTaken(str(problem)) from None

    def close(self) -> None:
        """May be called twice; the next batch opens it again."""
        if self._client is not None:
            self._client.close()
            self._client = None


class WebhookSink(HttpSink):
    """`{"installation", "events": [{"id", "recording", "line"}]}`, signed as notices are."""

    def __init__(self, *args: Any, now: Callable[[], datetime], **named: Any) -> None:
        super().__init__(*args, **named)
        self._now = now

    def take(self, items: Sequence[Item]) -> None:
        """A `courier.Take`."""
        secret = self._key()
        name = json.dumps(self._installation).encode()
        events = b",".join(item.framed(self._installation) for item in items)
        body = b'{"installation":' + name + b',"events":[' + events + b"]}"
        headers = {"Idempotency-Key": f"{items[0].id}-{items[-1].id}"}
        if secret is not None:
            headers["Daypass-Signature"] = signature(secret, body, self._now())
        self._post(body, headers, secret)


class OtlpSink(HttpSink):
    """`ExportLogsServiceRequest` as JSON. `header` carries the secret, where there is one."""

    def __init__(self, *args: Any, header: str, **named: Any) -> None:
        super().__init__(*args, **named)
        self._header = header

    def take(self, items: Sequence[Item]) -> None:
        """A `courier.Take`. What the receiver says it has rejected is not taken: it comes again."""
        secret = self._key()
        said = self._post(
            json.dumps(self.request(items), ensure_ascii=False).encode("utf-8", "replace"),
            {self._header: secret} if secret is not None else {},
            secret,
        )
        try:
            partial = (json.loads(said) if said.strip() else {}).get("partialSuccess") or {}
            rejected = int(partial.get("rejectedLogRecords") or 0)
        except (ValueError, AttributeError, TypeError):
            return  # an answer below 300 that is no JSON: some collectors
        if rejected:
            text = f"{rejected} of {len(items)} rejected: {partial.get('errorMessage', '')}"
            raise NotTaken(_safe(text, secret))

    def request(self, items: Sequence[Item]) -> dict[str, Any]:
        """The request, before it is JSON."""
        resource = {"service.name": "daypass", "daypass.installation": self._installation}
        records = [_log_record(item) for item in items]
        scope = {"scope": {"name": "daypass.record"}, "logRecords": records}
        return {"resourceLogs": [{"resource": {"attributes": _attributes(resource)}, "scopeLogs": [scope]}]}


def _log_record(item: Item) -> dict[str, Any]:
    number, text = WARN if item.event == "statement" and REFUSED.search(item.line) is not None else INFO
    facts: dict[str, str | int] = {"daypass.id": item.id, "daypass.recording": item.recording, "daypass.seq": item.seq}
    nanoseconds = str(reading.microseconds(item.at) * 1000)
    return {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": number,
        "severityText": text,
        "eventName": f"daypass.{item.event}",
        "body": {"stringValue": item.line.decode("utf-8", "replace")},
        "attributes": _attributes(facts),
    }


def _attributes(facts: Mapping[str, str | int]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in facts.items()
    ]


def _safe(text: str, secret: str | None) -> str:
    if secret:
        text = text.replace(secret, "***")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:TOLD]
