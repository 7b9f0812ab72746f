"""A worker for the tests of the supervisor: it behaves as its first argument says.

    supervised.py MODE [FILE]

Finds the SDK in examples/python by PYTHONPATH.
"""

import os
import signal
import subprocess
import sys
import time

from swarmgate_worker import Worker

MODE = sys.argv[1]
SUCCESS = {"config-update": "Applied", "bot-start": "Running", "bot-stop": "Stopped", "swarm-stop": "Stopped"}


def say(word):
    print(word, flush=True)


def forever(word):
    say(word)
    while True:
        time.sleep(3600)


def obey(worker):
    config = {}
    for command in worker.signals():
        if MODE == "deaf":
            continue
        if MODE == "falls-once" and not os.path.exists(sys.argv[2]):
            open(sys.argv[2], "w").close()
            os._exit(7)
        if command.type == "config-update":
            config |= command.data
        status = SUCCESS.get(command.type, "Failed")
        worker.outcome(command, status)
        worker.status(config=config)


def main():
    if MODE == "exits-at-once":
        sys.exit(3)
    if MODE == "hangs-started":
        forever("started")
    if MODE in ("ignores-terminate", "ignores-everything"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = Worker.from_env()
    if MODE == "hangs-bootstrapped":
        forever("bootstrapped")
    if MODE == "talks":
        print("x" * 100_000)
        print("a line without end", end="", flush=True)
        print("complaint", file=sys.stderr, flush=True)
    if MODE in ("has-child", "has-daemon"):
        child = subprocess.Popen(["sleep", "3600"], start_new_session=MODE == "has-daemon")
        say(f"child {child.pid}")
    if MODE == "has-stranger":
        # Out of its group, and without the environment by which it could be known.
        child = subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True, env={})
        say(f"child {child.pid}")
    worker.ready()
    begun = worker.begun()
    say(f"begun {begun}")
    if MODE == "falls-silent":
        # Stopped as a whole: not even the heartbeats go on.
        os.kill(os.getpid(), signal.SIGSTOP)
    if MODE == "floods":
        until = time.monotonic() + 3600
        while time.monotonic() < until and not worker._stopped.is_set():
            worker.status(context={"filler": "x" * 2000})
        say(f"dropped {worker.dropped}")
    if begun:
        obey(worker)
    if MODE == "ignores-stop" or MODE == "ignores-everything":
        forever("ignoring")
    if MODE == "leaves-late":
        time.sleep(0.3)
    say("ending")
    worker.leave()


main()
