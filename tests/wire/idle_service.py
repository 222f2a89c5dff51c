"""A service that says it is ready on the port it was given, or ends with the code it was given."""

import json
import os
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        waiting = Path(os.environ["VIGIL_HOME"], "not-ready").exists()
        self.send_response(HTTPStatus.SERVICE_UNAVAILABLE if waiting else HTTPStatus.OK)
        self.end_headers()
        self.wfile.write(json.dumps({"why": "partition 2 does not move"}).encode())


if __name__ == "__main__":
    sys.stdout.write("an idle service begins\n")
    sys.stdout.flush()
    if len(sys.argv) > 1:
        sys.exit(int(sys.argv[1]))
    told = {name: value for name, value in os.environ.items() if "_" in name}
    Path(os.environ["VIGIL_HOME"], "told.json").write_text(json.dumps(told))
    HTTPServer(("127.0.0.1", int(os.environ["VIGIL_METRICS_PORT"])), Ready).serve_forever()
