"""The people's part of config.yaml: its defaults, what it reads, and each mistake with its line.

Covers proxy/config_notify.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import Config, ConfigError, load

BASE = """listen: {tls: {mode: disable}}
databases: {app: {host: 127.0.0.1, tls: disable, credential: {mode: shared, user: u}}}
"""
FULL = """\
people:
  groups: {owners: [ann, bob], empty: }
agreements: papers
requests:
  lapse: 2d
  break_glass: {from: [owners], max: 30m}
  templates:
    support: {vendor: Acme, for: 4h, single_use: true}
prechecks:
  calm: {kind: sql, sql: "select true"}
reviews: {within: 3d, from: [owners]}
notify:
  chat: {webhook: "https://chat.example/hook", form: slack, events: ["request.*"], secret_file: chat.key}
  mail: {smtp: {host: mail.example, from: daypass@shop.example, to: [ann@shop.example]}}
  acme: {command: [tell-acme], events: []}
digests:
  acme: {every: week, vendor: Acme, databases: [app], to: [acme]}
"""


def read(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(BASE + text)
    return load(path)


def test_nothing_of_it_is_needed(tmp_path: Path) -> None:
    config = read(tmp_path, "")
    assert (config.people.groups, config.notify, config.prechecks) == ({}, {}, {})
    assert (config.requests.lapse, config.requests.break_glass) == (7 * 86_400, None)
    assert (config.reviews.within, config.reviews.from_) == (7 * 86_400, [])


def test_what_is_said_is_read(tmp_path: Path) -> None:
    config = read(tmp_path, FULL)
    assert config.people.groups == {"owners": ["ann", "bob"], "empty": []}
    glass = config.requests.break_glass
    assert glass is not None
    assert (glass.from_, glass.max, glass.review_within) == (["owners"], 1800, 86_400)
    assert config.requests.templates["support"].length == 4 * 3600
    assert config.prechecks["calm"].timeout == 30
    assert config.notify["chat"].secret_file == tmp_path / "chat.key"
    mail = config.notify["mail"].smtp
    assert mail is not None
    acme = config.digests["acme"]
    assert (acme.at, acme.timezone, acme.day, acme.empty, acme.to) == ("08:00", "UTC", None, False, ["acme"])
    assert (mail.port, mail.tls, mail.sender) == (587, "starttls", "daypass@shop.example")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("people:\n  groups: {a: ann}\n", 4, "people.groups.a"),
        ("requests: {lapse: 0s}\n", 3, "requests.lapse"),
        ("requests: {laps: 1d}\n", 3, "lapse"),
        ("requests:\n  break_glass: {from: []}\n", 4, "requests.break_glass.from"),
        ("requests:\n  templates:\n    x: {for: -1h}\n", 5, "requests.templates.x.for"),
        ("prechecks:\n  x: {kind: sql}\n", 4, "a query that returns one true value"),
        ("prechecks:\n  x: {kind: command}\n", 4, "the program and its arguments"),
        ("prechecks:\n  x: {kind: moon}\n", 4, "prechecks.x.kind"),
        ("notify:\n  x: {}\n", 4, "one of webhook, smtp and command"),
        ("notify:\n  x: {webhook: 'https://a.example', command: [a]}\n", 4, "one of webhook, smtp and command"),
        ("notify:\n  x: {webhook: 'ftp://a.example'}\n", 4, "https://"),
        ("notify:\n  x: {webhook: 'http://a.example/hook'}\n", 4, "https://"),
        ("notify:\n  x: {webhook: 'https://user:pw@a.example'}\n", 4, "secret"),
        ("notify:\n  x: {webhook: 'https://a.example', secret_env: A, secret_file: b}\n", 4, "not both"),
        ("notify:\n  x: {webhook: 'https://a.example/{secret}'}\n", 4, "needs a secret_env or secret_file"),
        ("notify:\n  x: {command: [a], secret_env: A}\n", 4, "a command is given no secret"),
        ("notify:\n  x: {command: [a], events: []}\n", 4, "told of nothing"),
        ("notify: {a: {command: [a]}}\ndigests:\n  x: {every: month, to: [a]}\n", 5, "digests.x.every"),
        ("notify: {a: {command: [a]}}\ndigests:\n  x: {every: day, day: mon, to: [a]}\n", 5, "day is for every: week"),
        ("notify: {a: {command: [a]}}\ndigests:\n  x: {every: day, at: '24:00', to: [a]}\n", 5, "digests.x.at"),
        ("notify: {a: {command: [a]}}\ndigests:\n  x: {every: day, timezone: Mars, to: [a]}\n", 5, "Europe/Berlin"),
        ("notify: {mail: {command: [a]}}\ndigests:\n  x: {every: day, to: [mial]}\n", 5, "did you mean mail?"),
        ("notify: {a: {command: [a]}}\ndigests:\n  x: {every: day, to: [a], databases: [ap]}\n", 5, "no database ap"),
        ("notify:\n  x: {smtp: {host: h, from: a@b.example, to: []}}\n", 4, "notify.x.smtp.to"),
        (
            "notify:\n  x: {smtp: {host: h, tls: disable, from: a@b.example, to: [c], user: u}, secret_env: X}\n",
            4,
            "in the clear",
        ),
        ("notify:\n  x: {smtp: {host: mail.example, from: a@b.example, to: [c], user: u}}\n", 4, "secret"),
    ],
)
def test_each_mistake_has_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    (finding,) = caught.value.findings
    assert message in str(finding)
    assert finding.line == line
    assert "user:pw" not in str(finding)


def test_a_webhook_in_the_clear_only_on_this_machine(tmp_path: Path) -> None:
    assert read(tmp_path, "notify: {x: {webhook: 'http://127.0.0.1:9/hook'}}\n").notify["x"].webhook


def test_links(tmp_path: Path) -> None:
    assert read(tmp_path, "").links is None
    links = read(tmp_path, "links: {url: 'http://localhost:8443/x/'}\n").links
    assert links is not None
    assert (links.host, links.port, links.url) == ("127.0.0.1", 8443, "http://localhost:8443/x")
    for text, message in (
        ("{port: 1}", "links.url: "),
        ("{url: 'http://access.example'}", "url: an https:// address"),
        ("{url: 'https://a:b@access.example'}", "url: no password"),
        ("{url: 'https://access.example/?x=1'}", "without spaces, ? and #"),
        ("{url: 'https://access.example/a b'}", "without spaces, ? and #"),
        ("{url: 'https://access.example', host: 0.0.0.0}", "links.host: names and secrets on 0.0.0.0 need TLS: set"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(tmp_path, f"links: {text}\n")
        (finding,) = caught.value.findings
        assert message in str(finding), str(finding)
