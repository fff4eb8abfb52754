"""A disk that fails as a program sees it: a library that is loaded before the C library.

The faults are switched on and off by a file that FAULT_SWITCH names: "eio write", "eio fsync",
"slow fsync". Those of writing and syncing are for files whose path has FAULT_NAME in it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int now(const char *fault)
{
    char text[64] = "";
    int keep = errno, fd = open(getenv("FAULT_SWITCH"), O_RDONLY);
    if (fd >= 0) { ssize_t n = read(fd, text, 63); (void)n; close(fd); }
    errno = keep;
    return strncmp(text, fault, strlen(fault)) == 0;
}

static int meant(int fd)
{
    char link[64], path[4096] = "";
    const char *name = getenv("FAULT_NAME");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return !*name || strstr(path, name) != NULL;
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (size > 1000 && meant(fd) && now("eio write")) { errno = EIO; return -1; }
    return real(fd, data, size);
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (meant(fd) && now("eio fsync")) { errno = EIO; return -1; }
    if (now("slow fsync")) sleep(4);
    return real(fd);
}
"""


def build(folder: Path) -> Path:
    """Compile the library; its path."""
    (folder / "shim.c").write_text(SHIM)
    built = ["gcc", "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c")]
    subprocess.run([*built, "-ldl"], check=True)
    return folder / "shim.so"


class FailingDisk:
    """Switches the faults of the disk of a process that is started with `environment`."""

    def __init__(self, shim: Path, switch: Path, name: str = "") -> None:
        self._switch = switch
        self.environment = {
            "LD_PRELOAD": str(shim),
            "FAULT_SWITCH": str(switch),
            "FAULT_NAME": name,
        }

    def set(self, fault: str) -> None:
        """Only this fault from now on, "" for none."""
        self._switch.write_text(fault)
