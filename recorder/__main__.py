"""`python -m recorder`: verify, replay, list and export for somebody who has a recordings folder and nothing else of
daypass.

Exit codes as everywhere: 0 done, 1 the answer is no (something is damaged), 2 usage, 3 cannot read what it needs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from recorder import command, index, show, stored, targets
from recorder.heads import Given
from recorder.index import NotFoundError
from recorder.replay import MAX_IDLE
from recorder.seal import KeyFileError
from recorder.stored import BrokenError, SealedError
from recorder.verify import verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (NotFoundError, KeyFileError, SealedError, ValueError) as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except BrokenError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recorder", description="Verify and replay daypass recordings.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "verify", help="is every recording there, and unchanged?", epilog="python -m recorder verify DIR"
    )
    check.add_argument("target", help="a recordings folder, a folder in it, or a file in it")
    check.add_argument("--public-key", type=Path, help="check signatures against this key, not the one in the folder")
    check.add_argument(
        "--checkpoint", type=Path, action="append", default=[], help="a checkpoint that was kept elsewhere"
    )
    _identity(check)
    check.add_argument("-o", dest="output", choices=["json", "table"], default="table")
    check.set_defaults(run=_verify)
    play = commands.add_parser(
        "replay", help="show a session again", epilog="python -m recorder replay DIR/2026/11/ID.jsonl"
    )
    play.add_argument("file", help="a recording in its folder")
    play.add_argument("--speed", type=float, default=1.0)
    play.add_argument(
        "--idle-limit", "--max-idle", dest="max_idle", type=float, default=MAX_IDLE,
        help="seconds; longer pauses are cut to this",
    )  # fmt: skip
    play.add_argument("--at", metavar="PLACE", help="from 1:30, 90s, #12 or 2026-01-05T09:00:00Z on")
    play.add_argument("--no-wait", action="store_true", help="print it all at once")
    play.add_argument("--public-key", type=Path)
    _identity(play)
    play.set_defaults(run=_replay)
    sessions = commands.add_parser("list", help="which sessions are there", epilog="python -m recorder list DIR")
    sessions.add_argument("folder", type=Path)
    sessions.add_argument("-o", dest="output", choices=["json", "table"], default="table")
    sessions.set_defaults(run=_list)
    export = commands.add_parser("export", help="the events of a recording", epilog="python -m recorder export FILE")
    export.add_argument("file")
    _identity(export)
    export.set_defaults(run=_export)
    return parser


def _identity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--identity", type=Path, action="append", default=[], help="an age identity or ssh key for encrypted recordings"
    )


def _keys(options: argparse.Namespace) -> list[stored.Identity]:
    return [key for file in options.identity for key in stored.identities(file)]


def _verify(options: argparse.Namespace) -> int:
    target = targets.resolve(options.target, None)
    result = verify(
        target.directory,
        ids=target.ids,
        public_key=options.public_key,
        copies=target.copies,
        checkpoints=[Given(str(file), file.read_bytes()) for file in options.checkpoint],
        identities=_keys(options),
    )
    if options.output == "json":
        print(msgspec.json.encode(result.to_dict()).decode())
    else:
        show.report(Console(), result)
    return 0 if result.ok else 1


def _replay(options: argparse.Namespace) -> int:
    path, target = targets.recording_file(options.file, targets.resolve(options.file, None))
    return command.replay(
        path,
        target,
        speed=options.speed,
        max_idle=options.max_idle,
        wait=not options.no_wait,
        at=options.at,
        public_key=options.public_key,
        keys=_keys(options),
    )


def _list(options: argparse.Namespace) -> int:
    listed = index.sessions(targets.resolve(str(options.folder), None).directory)
    if options.output == "json":
        print(msgspec.json.encode([session.to_dict() for session in listed]).decode())
    else:
        show.sessions(Console(), listed)
    return 0


def _export(options: argparse.Namespace) -> int:
    path, _ = targets.recording_file(options.file, targets.resolve(options.file, None))
    return command.export(path, _keys(options))


if __name__ == "__main__":
    sys.exit(main())
