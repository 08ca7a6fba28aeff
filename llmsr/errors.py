"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input: one clear sentence that names the thing and says what to do.

    The command line prints it without a traceback and exits with code 2.
    """
