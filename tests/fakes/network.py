"""The network between machines and their controller: a TCP port that passes everything on, until told not to. Machines
of this computer come through it once their socket is taken over."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections.abc import Iterator
from pathlib import Path


class Weather(enum.Enum):
    FAIR = "everything passes"
    CUT = "connections break, and new ones are refused"
    BLACK = "connections stay open and nothing passes"
    SLOW = "everything passes late, a little at a time"


_SLOW_CHUNK, _SLOW_S = 2**11, 0.05  # bytes, and what each such piece waits


class Network:
    """`port` leads to `target_port`, both on loopback. `weather` may be set at any time, from any thread."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._weather = Weather.FAIR
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.passed = 0

    @property
    def weather(self) -> Weather:
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        asyncio.run_coroutine_threadsafe(self._become(weather), self._loop).result(10)

    def take_over(self, socket: Path) -> None:
        """From now on, what connects there comes through here."""
        asyncio.run_coroutine_threadsafe(asyncio.start_unix_server(self._connected, socket), self._loop).result(10)

    async def _become(self, weather: Weather) -> None:
        self._weather = weather
        self._changed.set()
        self._changed = asyncio.Event()
        if weather is Weather.CUT:
            for writer in list(self._open):
                writer.transport.abort()

    async def serve(self, ready: threading.Event, ending: asyncio.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await ending.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._clear()
            if self._weather is not Weather.CUT:
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                self._open.add(back)
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
                self._drop(back)
        self._drop(writer)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while True:
                slow = self._weather is Weather.SLOW
                data = await source.read(_SLOW_CHUNK if slow else 2**16)
                if slow:
                    await asyncio.sleep(_SLOW_S)
                await self._clear()
                if not data:
                    sink.write_eof()
                    return
                sink.write(data)
                self.passed += len(data)
                await sink.drain()
        except OSError:
            sink.transport.abort()

    async def _clear(self) -> None:
        while self._weather is Weather.BLACK:
            await self._changed.wait()


@contextlib.contextmanager
def network(target_port: int) -> Iterator[Network]:
    made = Network(target_port)
    ready, ending = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: made._loop.run_until_complete(made.serve(ready, ending)), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield made
    finally:
        made._loop.call_soon_threadsafe(ending.set)
        thread.join(10)
