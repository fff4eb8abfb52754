"""Compiling kernels with numba: on their first call, with a cache on the disk where possible.

A module of kernels costs nothing to import: a kernel is looked up in the cache when it is called
first, and numba is read if its finished machine code is not there. So what calls none, such as
`stemd check`, or none anew, such as `stemd process`, starts in a part of the time. Kernels are
made here and nowhere else, and nothing else imports numba.
"""

from stemd.compilation.kernels import compiled, intrinsic, last_progress, later, njit, with_numba

__all__ = ["compiled", "intrinsic", "last_progress", "later", "njit", "with_numba"]
