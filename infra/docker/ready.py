"""The health check of the image: ends with 0 when the service of this container is ready."""  # noqa: INP001 - a program, no package

import os
import sys

from services.local.conditions import why_not_ready

port = os.environ.get("VIGIL_GATEWAY_PORT") or os.environ["VIGIL_METRICS_PORT"]
sys.exit(why_not_ready(int(port)) or 0)
