"""A process that delivers to one sink, for tests that kill it: `python -m tests.server.courier_process DIR SINK`.

Each line of its input is a number of seconds that pass on its clock, before it makes a round; it answers with the
numbers of events delivered and of errors. SINK is one of config.yaml's, as JSON.
"""

import json
import sys
from pathlib import Path

from proxy.clock import FakeClock
from proxy.config_sinks import Sink
from proxy.server.streams import way
from recorder.sinks.courier import Courier


def main() -> None:
    directory, clock = Path(sys.argv[1]), FakeClock()
    to = way(Sink.model_validate(json.loads(sys.argv[2])), "0a1b2c3d", clock)
    courier = Courier(
        directory,
        "away",
        to.take,
        sync=False,
        now=clock.now,
        monotonic=clock.monotonic,
        tell=lambda what, **facts: print(what, facts, file=sys.stderr),
    )
    courier.begin(history=False)
    courier.lead(True)
    print("ready", flush=True)
    for line in sys.stdin:
        clock.advance(float(line))
        courier.round()
        print(courier.counts.delivered, courier.counts.errors, flush=True)


main()
