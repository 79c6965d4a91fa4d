"""What a user can put right: bad params, bad data, a missing device."""


class UserError(Exception):
    """Its message is one line that says what is wrong and what would be right."""
