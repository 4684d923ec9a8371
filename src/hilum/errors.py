"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something about the input or the settings is wrong, and its message says what, where and what to do.

    The command line prints the message without a traceback and exits with 2; anything else that escapes is a defect of
    Hilum and keeps its traceback.
    """
