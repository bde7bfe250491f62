"""Errors of the user, reported in one sentence."""

import errno
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend; the message names the file or option and says what to do."""

    exit_code = 1


class UsageError(UserError):
    """An option that cannot be: exit code 2."""

    exit_code = 2


def command(main: Callable[[], None]) -> None:
    """Run a command: mistakes of the user, full disks and Ctrl-C end it with one sentence and the right exit code."""
    try:
        main()
    except UserError as error:
        _stop(str(error), error.exit_code)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _stop("stopped", 130)
    except OSError as error:
        if error.errno is None or not (error.filename or error.errno == errno.ENOSPC):
            raise
        where = f"{error.filename}: " if error.filename else ""
        advice = "; free some space or choose another folder" if error.errno == errno.ENOSPC else ""
        _stop(f"{where}{error.strerror}{advice}", 1)


def _stop(message: str, code: int) -> None:
    print(f"error: {message}" if code != 130 else message, file=sys.stderr)
    sys.exit(code)
