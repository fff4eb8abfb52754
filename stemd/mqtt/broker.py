"""The embedded broker: amqtt in a process of its own, for the demo and for tests.

It speaks MQTT 3.1.1 only, keeps nothing on disk and has unbounded queues: a laboratory runs
mosquitto. `python -m stemd.mqtt.broker` is the child: it writes its port to stdout and ends
when its stdin does: when its parent stops it, or has died.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from functools import partial
from typing import Any

from stemd.errors import SinkError
from stemd.logs import get_logger
from stemd.portable import module_command
from stemd.tasks import Tasks

log = get_logger()

START_SECONDS = 15.0
_STOP_SECONDS = 0.8
_RESTART_WAIT_SECONDS = 0.5
_RETRY_SECONDS = 5.0
_PORT_IN_USE = 3
_PORT_TRIES = 5
_HOST = "127.0.0.1"
_ANYBODY = "amqtt.plugins.authentication.AnonymousAuthPlugin"


class EmbeddedBroker:
    """Starts the broker on 127.0.0.1, starts it again should it die, and stops it.

    `port` 0 takes any free one; it stays the same when the broker is started again.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._process: asyncio.subprocess.Process | None = None
        self.tasks = Tasks()

    @property
    def url(self) -> str:
        """Where clients connect, once started."""
        return f"mqtt://{_HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Return when it accepts connections. Raises SinkError, e.g. when the port is in use."""
        await self._launch()
        self.tasks.keep(self._watch, "broker")

    async def stop(self) -> None:
        """End it, within a second."""
        await self.tasks.stop()
        await self._end()

    async def _launch(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *module_command("stemd.mqtt.broker", str(self.port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the daemon, which still has to say offline
        )
        output, errors = self._process.stdout, self._process.stderr
        if output is None or errors is None:
            raise RuntimeError("the broker was started without pipes")
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await output.readline()
        except TimeoutError:
            await self._end()
            raise SinkError(
                f"the embedded broker did not start within {START_SECONDS:.0f} s",
                "set mqtt.url to a broker that runs, or try again when the machine is less busy",
            ) from None
        if not line.strip().isdigit():
            said = (await errors.read()).decode(errors="replace").strip()
            code = await self._process.wait()
            await self._end()
            raise self._failed(code, said)
        self.port = int(line)
        self.tasks.keep(partial(_pass_on, errors), "broker-log", endless=False)
        log.debug("embedded broker started", port=self.port)

    def _failed(self, code: int, said: str) -> SinkError:
        if code == _PORT_IN_USE:
            return SinkError(
                f"the embedded broker cannot use port {self.port} of {_HOST}: {said}",
                "choose another port, or 0 for any free one",
            )
        last = said.splitlines()[-1] if said else f"exit code {code}"
        return SinkError(
            f"the embedded broker did not start: {last}", "set mqtt.url to a broker that runs"
        )

    async def _watch(self) -> None:
        while True:
            if self._process is not None:
                code = await self._process.wait()
                log.warning(
                    "the embedded broker ended unexpectedly and is started again", exit_code=code
                )
            await asyncio.sleep(_RESTART_WAIT_SECONDS)
            try:
                await self._launch()
            except SinkError as error:
                log.warning(error.message, remedy=error.remedy)
            except Exception as error:  # no descriptor, no memory: perhaps later
                log.warning("the embedded broker cannot be started", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _pass_on(errors: asyncio.StreamReader) -> None:
    """The child's log, at level debug: it tells a user of the demo nothing."""
    while said := await errors.read(4096):  # no lines: one may be longer than any buffer
        log.debug("embedded broker", said=said.decode(errors="replace").rstrip())


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as probe:
        return int(probe.getsockname()[1])


async def _serve(port: int) -> None:
    """The child: serve until stdin ends."""
    import errno

    from amqtt.broker import Broker
    from amqtt.errors import BrokerError

    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), over.set)
    # amqtt does not tell which port it has taken: one is chosen here, and another program may
    # take it first
    tries = 1 if port else _PORT_TRIES
    for left in reversed(range(tries)):
        chosen = port or _free_port()
        config: dict[str, Any] = {
            "listeners": {"default": {"type": "tcp", "bind": f"{_HOST}:{chosen}"}},
            "plugins": {_ANYBODY: {"allow_anonymous": True}},
        }
        try:
            await Broker(config).start()
        except BrokerError as error:
            cause = error.__cause__
            in_use = isinstance(cause, OSError) and cause.errno in (errno.EADDRINUSE, errno.EACCES)
            if in_use and left:
                continue
            sys.stderr.write(f"{cause or error}\n")
            sys.stderr.flush()
            os._exit(_PORT_IN_USE if in_use else 1)
        break
    sys.stdout.write(f"{chosen}\n")
    sys.stdout.flush()
    await over.wait()
    # nothing is kept, so there is nothing to put in order: a slow client must not hold it up
    os._exit(0)


def main() -> None:
    """`python -m stemd.mqtt.broker PORT`."""
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("amqtt.broker").setLevel(logging.ERROR)
    asyncio.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
