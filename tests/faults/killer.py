"""`stemd run` with a back door: whoever connects to it may end any task or thread of the daemon."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """Raised inside of what is to die; no part of stemd expects it."""


def tasks() -> dict[str, asyncio.Task[Any]]:
    """Tasks of the daemon by name; those without one of their own by their coroutine's, too."""
    found = [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]
    return {_name(each): each for each in found if not each.done()}


def _name(task: asyncio.Task[Any]) -> str:
    name = task.get_name()
    return f"{name} {task.get_coro().__qualname__}" if name.startswith("Task-") else name


def threads() -> dict[str, threading.Thread]:
    """Its threads by name."""
    return {each.name: each for each in threading.enumerate()}


def kill_thread(thread: threading.Thread) -> None:
    """Raise in a thread as soon as it runs Python again.

    Not while any thread is being started: until it runs it has its starter's identity and would
    be killed in its place, and then Thread.start never returns. Only a tool can do that to it.
    """
    end = time.monotonic() + 1.0
    while time.monotonic() < end and not all(each.is_alive() for each in threading.enumerate()):
        time.sleep(0.001)
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Killed))


def where(name: str) -> str:
    """The line at which a thread is: a call into C there cannot be killed before it ends."""
    thread = threads().get(name)
    frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "nowhere"


def kill_task(task: asyncio.Task[Any]) -> None:
    """Cancel a task as if it were a mistake of somebody."""
    task.get_loop().call_soon_threadsafe(task.cancel)


def raise_in_task(task: asyncio.Task[Any]) -> None:
    """Let an exception come up where the task waits."""

    def throw() -> None:
        waiter = getattr(task, "_fut_waiter", None)
        if waiter is not None and not waiter.done() and not isinstance(waiter, asyncio.Task):
            waiter.set_exception(RuntimeError("injected"))
        else:
            task.cancel()

    task.get_loop().call_soon_threadsafe(throw)


def serve(path: str) -> None:
    """Obey one JSON list a connection: ["tasks"], ["threads"], ["task" or "thread", name, how].

    ["where", name of a thread] answers [the line at which it is].
    ["all"] answers {"task NAME" or "thread NAME": a number that no other one of it has}.
    """
    ways: dict[str, Callable[[Any], None]] = {"cancel": kill_task, "raise": raise_in_task}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            peer, _ = listener.accept()
            with peer:
                what, *args = json.loads(peer.recv(4096))
                match what:
                    case "tasks":
                        peer.sendall(json.dumps(sorted(tasks())).encode())
                    case "all":
                        found = {f"task {name}": id(each) for name, each in tasks().items()}
                        for name, each in threads().items():
                            found[f"thread {name}"] = each.native_id or 0
                        peer.sendall(json.dumps(found).encode())
                    case "threads":
                        peer.sendall(json.dumps(sorted(threads())).encode())
                    case "where":
                        peer.sendall(json.dumps([where(args[0])]).encode())
                    case "task":
                        if (task := tasks().get(args[0])) is not None:  # it may have just ended
                            ways[args[1]](task)
                    case "thread":
                        if (thread := threads().get(args[0])) is not None:
                            kill_thread(thread)


if __name__ == "__main__":
    threading.Thread(target=serve, args=(sys.argv[1],), name="killer", daemon=True).start()
    from stemd.cli.main import main

    sys.exit(main(["run", sys.argv[2]]))
