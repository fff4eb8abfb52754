"""Errors a user can meet: one sentence that says what is wrong, one that says what to do."""

from __future__ import annotations

from stemd.wording import one_of


class StemdError(Exception):
    """What went wrong and the remedy.

    `message` names the file, key, address or value at fault; `remedy` is what the user can do.
    `exit_code` is what the command line ends with.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        message = one_of(message)
        super().__init__(message)
        self.message = message
        self.remedy = one_of(remedy)

    def __str__(self) -> str:
        return f"{self.message}\n  remedy: {self.remedy}" if self.remedy else self.message


class UsageError(StemdError):
    """A command line that cannot be carried out as written."""

    exit_code = 2


class ConfigError(StemdError):
    """A config file, or a live setting, with one or more values that are not allowed."""

    exit_code = 2


class CameraError(StemdError):
    """The camera, its control port or its recording cannot be used."""


class FormatError(StemdError):
    """Bytes that are not what their format says."""


class ClusterError(StemdError):
    """A Dask cluster that cannot be reached, or that has lost what it was given."""


class SinkError(StemdError):
    """A broker, disk or port that does not take what it is given."""


class ModelError(StemdError):
    """A network, or the library that is to run it, cannot be used."""


class ModelMemoryError(ModelError):
    """A batch that does not fit into the memory of the device."""


class DeviceLostError(ModelError):
    """The GPU that ran a network has failed, and with it all that was on it."""
