"""The file system of a remote recording, as fsspec has it, with limits on its silence."""

from __future__ import annotations

from typing import Any

from stemd.adapters.recordings.address import WEB, RemoteFile
from stemd.adapters.recordings.remote_errors import QUIET_S, broken, explained
from stemd.errors import FormatError

_CACHES = ("simplecache", "filecache", "blockcache", "cached")
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("webdav", "dav"), "webdav4"),
    "smb": "smbprotocol",
    "hdfs": "pyarrow",
    "webhdfs": "requests",
    "oss": "ossfs",
    "oci": "ocifs",
    "hf": "huggingface_hub",
}


def file_system(file: RemoteFile) -> tuple[Any, str]:
    """fsspec's file system for the address, and the address within it. Raises StemdError."""
    if file.protocol in _CACHES:
        raise FormatError(
            f"{file}: a cache of fsspec cannot tell when the file is replaced",
            f"leave {file.protocol}:: out: stemd reads each byte once",
        )
    try:
        import fsspec
        from fsspec.config import conf
    except ImportError as error:
        raise FormatError(
            f"{file}: reading {file.protocol}:// needs fsspec, which is not installed",
            "pip install 'stemd[remote]'",
        ) from error
    options: dict[str, Any] = {}
    if file.protocol in WEB and "client_kwargs" not in conf.get(file.protocol, {}):
        try:
            from aiohttp import ClientTimeout
        except ImportError as error:
            raise _needs_package(file, error) from error
        limits = ClientTimeout(total=None, sock_connect=QUIET_S / 3, sock_read=QUIET_S)
        options = {"client_kwargs": {"timeout": limits}}
    try:
        system, address = fsspec.core.url_to_fs(file.url, **options)
    except ImportError as error:
        raise _needs_package(file, error) from error
    except ValueError as error:
        raise FormatError(
            f"{file}: {error}",
            "for example s3://, gs://, abfs://, sftp://, https://, or a path without ://",
        ) from error
    except Exception as error:  # a server that must be greeted first, credentials that are none
        raise explained(file, 0, error) or broken(file, 0, error) from error
    return system, str(address)


def _needs_package(file: RemoteFile, error: ImportError) -> FormatError:
    package = _PACKAGES.get(file.protocol)
    return FormatError(
        f"{file}: reading {file.protocol}:// needs a package that is not installed ({error})",
        f"pip install {package}" if package else "install what fsspec asks for",
    )
