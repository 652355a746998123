"""The one exception that a user is meant to read."""


class UserError(Exception):
    """A mistake the user can mend. The message is one line: what, where, and what to do.

    The command line prints it on stderr and exits with code 2.
    """
