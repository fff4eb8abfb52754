"""What a client has asked for and not been told yet."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stemd.client.errors import ClientError, NotConnectedError, TimedOutError
from stemd.client.messages import Reply, read, reply_of
from stemd.documents import to_json
from stemd.errors import FormatError


class Replies:
    """Requests of one connection, each with a name of its own that its reply bears."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Reply]] = {}

    async def ask(
        self,
        body: Mapping[str, Any],
        publish: Callable[[bytes], Awaitable[object]],
        wait_s: float,
    ) -> Reply:
        """Publish a request and return its reply.

        Raises TimedOutError where none comes, ClientError where stemd refuses it.
        """
        request = secrets.token_hex(8)
        reply = asyncio.get_running_loop().create_future()
        self._waiting[request] = reply
        try:
            async with asyncio.timeout(wait_s):
                await publish(to_json({**body, "id": request}).encode())
                found: Reply = await reply
                return found
        except TimeoutError:
            raise TimedOutError(
                f"stemd has not replied within {wait_s:g} s; it may still do what it was told",
                "look at its state; wait longer with timeout_s",
            ) from None
        finally:
            self._waiting.pop(request, None)
            if reply.done() and not reply.cancelled():
                reply.exception()  # looked at, so that asyncio does not complain of it later

    def take(self, payload: bytes) -> None:
        """A reply has come; those to other clients are passed over."""
        try:
            asked = read(payload, lambda document: document["id"], "a reply")
        except FormatError:
            return
        waiting = self._waiting.get(asked) if isinstance(asked, str) else None
        if waiting is None or waiting.done():
            return
        try:
            waiting.set_result(read(payload, reply_of, "a reply"))
        except (ClientError, FormatError) as error:
            waiting.set_exception(error)

    def lost(self) -> None:
        """No reply will come: the connection is lost."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(
                    NotConnectedError(
                        "the connection to the broker was lost before stemd replied",
                        "look at its state: it may have done what it was told",
                    )
                )
