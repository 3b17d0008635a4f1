"""The one exception type for mistakes that a user can mend."""


class UserError(Exception):
    """A user's mistake; the message is the one line that they see."""
