"""User-facing errors; secrets redacted."""

import os
import re

# Environment variables with the credentials of a tracking server
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
SHORTEST_SECRET = 4  # characters; masking shorter ones would make texts unreadable


class UserError(Exception):
    """An error that the user can fix; the message, one line, says what is wrong and allowed."""


def without_secrets(text: str) -> str:
    """Mask user names and passwords in URIs, the values of their queries, and tokens.

    Call this before shortening a text: a truncated secret is not recognised.
    """
    for name in SECRETS:
        secret = os.environ.get(name, "")
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    # Greedy, up to the last @ of a word: a password may contain @ and slashes.
    text = re.sub(r"://[^\s'\"]*@", "://***@", text)
    return re.sub(r"([?&][^=&\s'\"]*=)[^&\s'\"]*", r"\1***", text)
