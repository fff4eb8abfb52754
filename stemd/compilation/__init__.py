"""Compiling kernels with numba: on their first call, with a cache on the disk where possible.

A module of kernels costs nothing to import: numba is read, and a kernel looked up in the cache,
when the first kernel is called. So what calls none, such as `stemd check`, starts in a third of
the time. Kernels are made here and nowhere else, and nothing else imports numba.
"""

from stemd.compilation.kernels import compiled, intrinsic, last_progress, later, njit

__all__ = ["compiled", "intrinsic", "last_progress", "later", "njit"]
