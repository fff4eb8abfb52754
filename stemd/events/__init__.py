"""Who is told what: the hub of a daemon, and the sinks that it tells.

A sink needs `Sink` and `Host`, see docs/how-to/add-a-sink.md; the daemon makes the `Hub`.
"""

from stemd.documents import Json
from stemd.events.host import Host
from stemd.events.hub import DAEMON, Hub
from stemd.events.sink import Sink, call_sink

__all__ = ["DAEMON", "Host", "Hub", "Json", "Sink", "call_sink"]
