"""What went wrong with a broker, in words that say what to do."""

from __future__ import annotations

import errno
import socket
import ssl

from aiomqtt import MqttCodeError
from paho.mqtt.reasoncodes import ReasonCode

from stemd.config.mqtt import MqttSettings
from stemd.errors import SinkError

UNSUPPORTED_VERSION = 0x84
TAKEN_OVER = 0x8E
TOO_LARGE = 0x95

# CONNACK, PUBACK and DISCONNECT reason codes of MQTT 5; paho maps those of 3.1.1 to them
_REASONS: dict[int, tuple[str, str]] = {
    0x80: ("closed the connection without saying why", "look into the broker's log"),
    UNSUPPORTED_VERSION: (
        "does not speak this MQTT version",
        'set mqtt.version = "auto" or "3.1.1"',
    ),
    0x85: ("does not accept the client id", "set mqtt.client_id to another one"),
    0x86: (
        "refuses the login: wrong user name or password",
        "check mqtt.username and the content of mqtt.password_file",
    ),
    0x87: (
        "refuses: not authorised",
        "set mqtt.username and mqtt.password_file, or allow this user in the broker's ACL",
    ),
    0x88: ("is not available", "wait, or look into the broker's log"),
    0x89: ("is busy", "wait, or give the broker more resources"),
    0x8A: ("has banned this client", "look into the broker's configuration"),
    0x8B: ("is shutting down", "stemd connects again when it is back"),
    0x8D: ("heard nothing from stemd for too long", "check the network; raise mqtt.keepalive_s"),
    TAKEN_OVER: (
        "ended this connection, since another client uses the same id",
        "another daemon uses this instrument name: stop it, or change daemon.instrument",
    ),
    TOO_LARGE: (
        "does not take a message of this size",
        "raise message_size_limit and max_packet_size in the broker's configuration",
    ),
    0x97: ("has reached a quota", "raise the broker's limits for this user"),
}


def code_of(error: BaseException | None) -> int | None:
    """The MQTT reason code that an error carries, None if it has none."""
    code = error.rc if isinstance(error, MqttCodeError) else None
    return int(code.value) if isinstance(code, ReasonCode) else None


def refusal(code: int, settings: MqttSettings) -> SinkError:
    """The error for a reason code that the broker has given."""
    text, remedy = _REASONS.get(code, (f"refuses with code {code:#04x}", "see the broker's log"))
    return SinkError(f"MQTT broker {settings.url} {text}", remedy)


def thrown_out(settings: MqttSettings, client_id: str) -> SinkError:
    """The error for a broker that accepts the login and soon hangs up, several times in a row."""
    return SinkError(
        f"MQTT broker {settings.url} accepts stemd and soon closes the connection, again and again",
        f"another client seems to use the id {client_id!r}: stop a second daemon with the same "
        "daemon.instrument, or set mqtt.client_id; else look into the broker's log",
    )


def rival_daemon(settings: MqttSettings, base: str, host: object) -> SinkError:
    """The error for another daemon that publishes under the same name."""
    where = f" on {host}" if isinstance(host, str) else ""
    return SinkError(
        f"another daemon{where} publishes as {base} on MQTT broker {settings.url}: "
        "this one stands by",
        "stop one of them, or give this one another daemon.instrument",
    )


def explain(error: BaseException, settings: MqttSettings) -> SinkError:
    """The error for people: which broker, what happened, what to do. Never a password."""
    if isinstance(error, SinkError):
        return error
    code = code_of(error)
    if code is not None:
        return refusal(code, settings)
    broker = f"MQTT broker {settings.url}"
    if isinstance(error, socket.gaierror):
        return SinkError(
            f"{broker}: there is no host {settings.host!r}",
            "check the name in mqtt.url, and that this machine can resolve it",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return SinkError(
            f"{broker}: its TLS certificate is not accepted: {error.verify_message}",
            "renew the broker's certificate, or set mqtt.ca_file to the authority that signed it",
        )
    if isinstance(error, ssl.SSLError):
        return SinkError(
            f"{broker}: TLS fails: {error.reason or error}",
            "check that this port speaks TLS (8883, not 1883), and mqtt.cert_file if it asks for "
            "a client certificate",
        )
    if isinstance(error, ConnectionResetError) and settings.tls:
        return SinkError(
            f"{broker} closes the connection when TLS begins",
            "check that this port speaks TLS (8883, not 1883)",
        )
    if isinstance(error, ConnectionRefusedError):
        return SinkError(
            f"{broker}: nothing listens on port {settings.port} of {settings.host}",
            "start the broker, or correct the port in mqtt.url",
        )
    if isinstance(error, TimeoutError):
        return SinkError(
            f"{broker} does not answer",
            "check that it runs and that no firewall is in between",
        )
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return SinkError(f"{broker} cannot be reached", "check the network and mqtt.url")
    return SinkError(f"{broker}: the connection was lost ({error})", "stemd connects again")
