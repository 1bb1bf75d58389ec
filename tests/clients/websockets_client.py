"""Python `websockets`: comes back with `since` when its connection is cut. Arguments and reports as in ledger.mjs."""

import asyncio
import hashlib
import json
import sys
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PATIENCE_S = 90
CONNECTIONS_MAX = 10


class Ledger:
    """What was received: a hash over every publication's position and exact text, and the same lines in a file."""

    def __init__(self, count: int, transcript: str) -> None:
        self.missing = count
        self.transcript = open(transcript, "wb")
        self.hash = hashlib.sha256()
        self.position: str | None = None
        self.is_ready = False

    def take(self, text: str) -> None:
        """Takes one push; anything but publications and how a subscription begins is a failure."""
        push = json.loads(text)
        if push["type"] == "publication":
            before, self.position = self.position, push["position"]
            if before and offset(self.position) != offset(before) + 1:
                sys.exit(f"{self.position} came after {before}")
            line = f"{self.position}\n{text}\n".encode()
            self.hash.update(line)
            self.transcript.write(line)
            self.missing -= 1
        elif push["type"] == "subscribed":
            if push["resume"] != ("complete" if self.is_ready else "fresh"):
                sys.exit(f"subscribed with resume {push['resume']}: {text}")
            print("RESUMED" if self.is_ready else "READY", flush=True)
            self.is_ready = True
        elif push["type"] not in ("welcome", "heartbeat"):
            sys.exit(f"unexpected push: {text}")


def offset(position: str) -> int:
    return int(position.split("-")[1])


async def receive(base: str, channel: str, ledger: Ledger) -> None:
    for _ in range(CONNECTIONS_MAX):
        query = {"channel": channel} | ({"since": ledger.position} if ledger.position else {})
        try:
            async with connect(f"ws{base.removeprefix('http')}/v1/ws?{urlencode(query)}") as socket:
                async for frame in socket:
                    if not isinstance(frame, str):
                        sys.exit("a binary frame")
                    ledger.take(frame)
                    if ledger.missing == 0:
                        return
        except (ConnectionClosed, OSError) as error:
            print(f"websockets: {error}", file=sys.stderr)
    sys.exit(f"cut off {CONNECTIONS_MAX} times")


def main() -> None:
    base, channel, count, transcript = sys.argv[1:]
    ledger = Ledger(int(count), transcript)
    try:
        asyncio.run(asyncio.wait_for(receive(base, channel, ledger), PATIENCE_S))
    except TimeoutError:
        sys.exit(f"{ledger.missing} of {count} publications are missing after {PATIENCE_S} s")
    finally:
        ledger.transcript.close()
    print(f"DONE {ledger.hash.hexdigest()}", flush=True)


main()
