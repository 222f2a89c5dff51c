"""A service that listens on the port it was given, or ends with the code it was given."""

import json
import os
import socket
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    sys.stdout.write("an idle service begins\n")
    sys.stdout.flush()
    if len(sys.argv) > 1:
        sys.exit(int(sys.argv[1]))
    told = {name: value for name, value in os.environ.items() if "_" in name}
    Path(os.environ["VIGIL_HOME"], "told.json").write_text(json.dumps(told))
    with socket.create_server(("127.0.0.1", int(os.environ["VIGIL_METRICS_PORT"]))):
        threading.Event().wait()
