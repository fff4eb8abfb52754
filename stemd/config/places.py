"""Folders and files that a config names and whoever checks it cannot use: doubts in words."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from stemd.config.resolved import Config

MOST_LETTERS = 80
"""Of a path that cannot be used, in what is said of it."""
_HERE = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"}
"""Names and addresses of this computer."""


def doubts(config: Config) -> list[str]:
    """Sentences about files and folders of this machine, as the user who asks sees them."""
    return [*_data(config), *_files(config), *_cameras(config), *_ports(config), *_over(config)]


def _data(config: Config) -> Iterator[str]:
    place = config.daemon.data_dir.absolute()
    try:
        while not _is_there(place) and place != place.parent:
            if os.path.islink(place):  # noqa: PTH114 (Path.is_symlink raises where it may not look)
                yield f"daemon.data_dir: {place} is a link to what is not there"
                return
            place = place.parent
    except OSError as error:  # as of a name that is too long, or of links in a circle
        yield f"daemon.data_dir: {_shortened(place)} cannot be used: {error.strerror}"
        return
    if not place.is_dir():
        yield f"daemon.data_dir: {place} is a file and no folder"
        return
    if not os.access(place, os.W_OK | os.X_OK):
        yield (
            f"daemon.data_dir: {_user()} may not write to {place}; the user that runs stemd must"
        )
        return
    disk, kept = shutil.disk_usage(place), config.daemon.retention
    free_gb, least_gb = disk.free / 1e9, kept.min_free_gb
    if free_gb < kept.warn_free_gb:
        yield (
            f"daemon.data_dir: only {free_gb:.1f} GB are free (warn_free_gb = "
            f"{kept.warn_free_gb:g})"
        )
    if least_gb is not None and least_gb > disk.total / 1e9:
        yield (
            f"daemon.retention.min_free_gb = {least_gb:g} is more than the disk has "
            f"({disk.total / 1e9:.0f} GB): every scan would be deleted"
        )
    reserve_gb = config.daemon.reserve_mb * 2**20 / 1e9
    if reserve_gb > free_gb:
        yield (
            f"daemon.reserve_mb = {config.daemon.reserve_mb:g} is more than the {free_gb:.1f} GB "
            "that are free: no record would be written"
        )


def _cameras(config: Config) -> Iterator[str]:
    """Pipelines that want the same port."""
    seen: dict[object, str] = {}
    for pipeline in config.pipelines:
        host, port = (getattr(pipeline.adapter, key, None) for key in ("host", "data_port"))
        if port is None:
            continue
        first = seen.setdefault((host, port), pipeline.name)
        if first != pipeline.name:
            yield (
                f"pipelines {first} and {pipeline.name} read the same camera, {host}:{port}; "
                "most serve one reader only"
            )


def _files(config: Config) -> Iterator[str]:
    named: list[tuple[str, Path | None]] = []
    if config.mqtt is not None:
        keys = ("password_file", "ca_file", "cert_file", "key_file")
        named += [(f"mqtt.{key}", getattr(config.mqtt, key)) for key in keys]
    if config.page is not None:
        named.append(("page.token_file", config.page.token_file))
    for key, path in named:
        if path is None:
            continue
        try:
            is_file = path.is_file()
        except PermissionError:  # as of others in a folder /etc/stemd
            yield f"{key}: {_user()} may not look for {path}; the user that runs stemd must"
            continue
        except OSError as error:
            yield f"{key}: {_shortened(path)} cannot be used: {error.strerror}"
            continue
        if not is_file:
            yield f"{key}: there is no file {path}"
        elif not os.access(path, os.R_OK):
            yield f"{key}: {_user()} may not read {path}; the user that runs stemd must"


def _ports(config: Config) -> Iterator[str]:
    """A page that would listen where the broker does."""
    page, mqtt = config.page, config.mqtt
    if page is None or mqtt is None or mqtt.embedded or mqtt.port != page.port:
        return
    if mqtt.host == page.host or {mqtt.host, page.host} <= _HERE:
        yield f"page.listen: port {page.port} of {page.host} is the broker's, see mqtt.url"


def _over(config: Config) -> Iterator[str]:
    """Sessions that end before they begin."""
    for plan in config.sessions:
        if plan.until is not None and plan.until < datetime.now(UTC):
            yield f"session {plan.name}: until = {plan.until.isoformat()} is over: no scan is made"


def _shortened(path: Path) -> str:
    text = str(path)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."


def _is_there(path: Path) -> bool:
    """Whether there is something, as far as this user may see."""
    try:
        return path.exists()
    except PermissionError:
        return False


def _user() -> str:
    if hasattr(os, "geteuid"):
        import pwd

        try:
            return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
        except KeyError:
            return f"the user {os.geteuid()}"
    return "this user"
