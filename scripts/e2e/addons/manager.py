"""Manages addons, as an operator of a kind of its own does: has the service of each run the version that is asked for, says how
it is, and is the plugin `addon-rollback`, which sets one back to the version that was available last.

manager.py API ORGANIZATION PORT, with its token in the variable TOKEN: serves the plugin on 127.0.0.1. The label `health` tells ignitors how an addon is."""

import http.server
import json
import os
import queue
import sys
import threading
import time
import urllib.request

API, ORGANIZATION, PORT = sys.argv[1:]
TOKEN = os.environ["TOKEN"]
ADDONS = f"{API}/apis/platform.example/v1/namespaces/{ORGANIZATION}/addons"
SERVICES = f"{API}/apis/mangrove.io/v1/namespaces/{ORGANIZATION}/services"
NEWS = queue.Queue()


def call(method, url, body=None, request_id=None):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/merge-patch+json"}
    if request_id:
        headers["X-Request-Id"] = request_id
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method))


def get(url):
    with call("GET", url) as answer:
        return json.load(answer)


def patch(url, body, request_id=None):
    call("PATCH", url, body, request_id).close()


def watch(url):
    while True:
        try:
            with call("GET", f"{url}?watch=true") as events:
                for _ in events:
                    NEWS.put(None)
        except OSError:
            # The root is away; each watch begins with all there is.
            time.sleep(1)


def health(service):
    status = service["status"]
    rollout = status.get("rollout")
    if rollout:
        return "Degraded" if rollout.get("stalled") else "Progressing"
    return "Available" if status["ready"] > 0 else "Progressing"


def manage(addon):
    name, spec, status = addon["metadata"]["name"], addon["spec"], addon.get("status", {})
    service = get(f"{SERVICES}/{spec['service']}")
    command = spec["versions"][spec["version"]]
    if service["spec"].get("cmd") != command:
        return patch(f"{SERVICES}/{spec['service']}", {"spec": {"cmd": command}})
    phase = health(service)
    if phase == status.get("phase"):
        return
    now = {"phase": phase}
    if phase == "Available":
        now["lastKnownGood"] = spec["version"]
    patch(f"{ADDONS}/{name}/status", {"status": now})
    # Last: whoever hears of it finds the status as it is.
    patch(f"{ADDONS}/{name}", {"metadata": {"labels": {"health": phase.lower()}}})


class Plugin(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        addon = f"{ADDONS}/{asked['with']['addon']}"
        good = get(addon)["status"]["lastKnownGood"]
        # The delivery id is that of the request, so that records lead to the run, and that to the event.
        patch(
            addon,
            {"metadata": {"labels": {"health": "progressing"}}, "spec": {"version": good}},
            self.headers["Mangrove-Delivery"],
        )
        self.send_response(204)
        self.end_headers()


def main():
    plugin = http.server.HTTPServer(("127.0.0.1", int(PORT)), Plugin)
    threading.Thread(target=plugin.serve_forever, daemon=True).start()
    for url in (ADDONS, SERVICES):
        threading.Thread(target=watch, args=(url,), daemon=True).start()
    while True:
        NEWS.get()
        try:
            for addon in get(ADDONS)["items"]:
                manage(addon)
        except OSError as error:
            # Somebody was faster, or something is to come: there will be news of that.
            print(error, flush=True)


main()
