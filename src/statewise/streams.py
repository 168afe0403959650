r"""Standard output and error of a command: terminals of any encoding, closed pipes, full disks.

What a command prints holds names and text of models. A terminal that knows ASCII alone gets `\u2713`
for what it cannot show. Who reads the first line and goes (`| head -1`) ends the command quietly.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

CLOSED = 141
"""Exit code where nobody reads any more: what a shell gives a program that a closed pipe ended."""
UNWRITABLE = 2
"""Exit code where standard output cannot be written."""
_UNWRITTEN = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)


def with_streams(command: Callable[[], int]) -> int:
    """Run a command and write out what it printed; its exit code, or that of an output that cannot be written."""
    # Started with them closed (`>&-`); a file that is opened here lives as long as the process.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if callable(change := getattr(stream, "reconfigure", None)):
            change(errors="backslashreplace")
    try:
        try:
            return command()
        finally:
            # Python's own flush, at exit, would end in a traceback.
            sys.stdout.flush()
            sys.stderr.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
        _drop(sys.stderr)
        return CLOSED
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITTEN:
            raise
        _drop(sys.stdout)
        with contextlib.suppress(OSError):
            sys.stderr.write(
                f"statewise: standard output cannot be written ({error.strerror}); send it elsewhere\n"
            )
            sys.stderr.flush()
        _drop(sys.stderr)
        return UNWRITABLE


def _drop(stream: TextIO) -> None:
    """Send what is still in a stream nowhere, so that the end of the process does not try again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
