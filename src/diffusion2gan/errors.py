"""What a user got wrong: told in one line that says what, where, and what to do."""


class UserError(ValueError):
    """A mistake of the user's; scripts print its message alone, without a traceback."""
