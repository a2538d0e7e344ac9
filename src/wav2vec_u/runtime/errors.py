"""The one exception that speaks to users."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line that names the file (or setting) and says what to do. The command line
    prints it on stderr without a traceback and exits with code 2.
    """
