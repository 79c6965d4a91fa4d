"""What a user can put right, in one line, and without what is nobody else's to read."""

import os
import re

# What a tracking server or a mirror may be reached with. Whatever of it turns up in a text is
# taken out there, in whatever form the text has it.
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
SHORTEST_SECRET = 4  # characters; to mask every "a" would leave nothing to read


class UserError(Exception):
    """Its message is one line that says what is wrong and what would be right."""


def without_secrets(text: str) -> str:
    """Text with users and passwords of URIs, values of their queries, and tokens taken out.

    Cut a text afterwards, never before: half a secret is not recognised.
    """
    for name in SECRETS:
        secret = os.environ.get(name, "")
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    # Greedy, up to the last @ of a word: passwords may hold one, and may hold slashes.
    text = re.sub(r"://[^\s'\"]*@", "://***@", text)
    return re.sub(r"([?&][^=&\s'\"]*=)[^&\s'\"]*", r"\1***", text)
