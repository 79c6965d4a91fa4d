"""Everything that uses MLflow. Sets MLflow's environment variables before MLflow is imported.

The short timeouts keep an unreachable server from blocking a stage for minutes.
"""

import os

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the URL may hold the password
    "GIT_PYTHON_REFRESH": "quiet",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
