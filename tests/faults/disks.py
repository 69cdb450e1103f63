"""Disks that misbehave: a small one to fill, and a library that makes the system's calls fail or take long.

`small_disk` mounts a tmpfs, which wants root. `Shim` is a library for LD_PRELOAD that reads a file again and again:
each line names a call, a part of a path, and an errno or milliseconds. It wants a C compiler. Both skip where they
cannot, and say why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CODE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* What to do with this call on this descriptor: an errno, or 0 after the delay that was asked for. */
static int told(const char *call, int fd) {
    const char *orders = getenv("SHIM_ORDERS");
    char link[64], path[4096], line[512], name[64], part[256];
    int error = 0, code = 0, milliseconds = 0;
    FILE *file;
    ssize_t length;
    if (!orders) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (path[0] != '/' || !(file = fopen(orders, "re"))) return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%63s %255s %d %d", name, part, &code, &milliseconds) == 4 &&
            !strcmp(name, call) && strstr(path, part)) {
            struct timespec wait = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
            nanosleep(&wait, NULL);
            error = code;
            break;
        }
    fclose(file);
    return error;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define REFUSE(call, fd) do { int e = told(call, fd); if (e) { errno = e; return -1; } } while (0)

ssize_t write(int fd, const void *data, size_t size) { REFUSE("write", fd); return REAL(write)(fd, data, size); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REFUSE("write", fd);
    return REAL(pwrite64)(fd, data, size, at);
}
int fdatasync(int fd) { REFUSE("sync", fd); return REAL(fdatasync)(fd); }
int fsync(int fd) { REFUSE("sync", fd); return REAL(fsync)(fd); }
int ftruncate64(int fd, off64_t size) { REFUSE("truncate", fd); return REAL(ftruncate64)(fd, size); }
"""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes, mounted at `folder`."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def fill(folder: Path, *, leave: int) -> Path:
    """Take all space but `leave` bytes; the file that has it."""
    space = os.statvfs(folder)
    path = folder / "full"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - leave))
    return path


class Shim:
    """The library, built in `folder`; `environment` is for the process that is to meet it."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler for the library that makes calls fail")
        source, self._orders, library = folder / "shim.c", folder / "orders", folder / "shim.so"
        source.write_text(CODE)
        self._orders.write_text("")
        built = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"],
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            pytest.skip(f"the library that makes calls fail cannot be built here: {built.stderr}")
        self.environment = {"LD_PRELOAD": str(library), "SHIM_ORDERS": str(self._orders)}

    def order(self, *lines: tuple[str, str, int, int]) -> None:
        """What to do from now on: (`write`, `sync` or `truncate`, part of a path, errno or 0, milliseconds)."""
        new = self._orders.with_suffix(".new")
        new.write_text("".join(f"{call} {part} {code} {wait}\n" for call, part, code, wait in lines))
        new.replace(self._orders)
