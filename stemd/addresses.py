"""Hosts, ports and addresses as people write them: what is wrong with one, in words."""

from __future__ import annotations

from urllib.parse import urlsplit

BROKER_PORTS = {"mqtt": 1883, "mqtts": 8883}
"""Schemes of a broker's address, and their usual ports."""


def host_fault(host: str) -> str:
    """What is wrong with a computer's name or IP address; "" for nothing."""
    if not host or any(letter.isspace() or letter in "/[],;@" for letter in host):
        return "must be a name or an IP address"
    if host.count(":") == 1:
        return "must be without a port, which has a key of its own"
    if ":" not in host and not _can_be_looked_up(host):
        return "must be a name with 1 to 63 letters between dots, or an IP address"
    return ""


def _can_be_looked_up(name: str) -> bool:
    """Whether the Internet's rules for names allow it: Python's own raise otherwise."""
    if name.isascii():
        return all(0 < len(label) < 64 for label in name.removesuffix(".").split("."))
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def url_fault(url: str, schemes: tuple[str, ...]) -> str:
    """What is wrong with `scheme://host` or `scheme://host:port`; "" for nothing.

    What follows host and port is not looked at.
    """
    allowed = " or ".join(f'"{scheme}://host:port"' for scheme in schemes)
    if any(letter.isspace() for letter in url):
        return f"must be {allowed}, without blanks"
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme.lower(), parts.hostname or ""
    except ValueError:
        return f"must be {allowed}; an IPv6 address stands in brackets, [::1]"
    if scheme not in schemes or not host:
        named, _, rest = url.partition(":")
        if named.lower() in schemes and rest.strip("/"):
            return f'must be {allowed}; is "{named.lower()}://{rest.strip("/")}" meant?'
        if "://" not in url and not host_fault(url.rpartition(":")[0] or url):
            return f'must be {allowed}; is "{schemes[0]}://{url}" meant?'
        return f"must be {allowed}"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return "the port must be 1..65535"
    fault = "" if ":" in host else host_fault(host)
    return f"the host {host!r} {fault}" if fault else ""


def broker_fault(url: str) -> str:
    """What is wrong with a broker's address; "" for nothing."""
    if "@" in url:
        return "no login in the url"
    fault = url_fault(url, tuple(BROKER_PORTS))
    parts = None if fault else urlsplit(url)
    if parts is not None and (parts.path.strip("/") or parts.query or parts.fragment):
        return "nothing may follow host and port"
    return fault
