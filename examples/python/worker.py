"""A worker that Swarmgate steers: it says how it is, obeys each command once, and answers every one.

    python worker.py AMQP_URL SWARM ROLE INSTANCE

It listens only on `swarmgate.out` and speaks only to `swarmgate.in`. Reconnecting is left out: run it under something
that starts it again.
"""

import datetime
import json
import signal
import sys

import pika

from swarmgate_worker import routing_key, signal_bindings

URL, SWARM, ROLE, INSTANCE = sys.argv[1:5]
SCOPE = {"swarmId": SWARM, "role": ROLE, "instance": INSTANCE}
ORIGIN = f"{ROLE}:{INSTANCE}"
# What success is called, by type: spec/commands.toml.
SUCCESS = {
    "config-update": "Applied",
    "bot-start": "Running",
    "swarm-start": "Running",
    "bot-stop": "Stopped",
    "swarm-stop": "Stopped",
    "stop": "Stopped",
    "bot-pause": "Paused",
}
DELTA_PERIOD_S = 5
REMEMBERED_IDS = 10_000

state = {"enabled": True, "config": {}, "startedAt": None}


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


def say(channel, kind, kind_type, data, asked=None):
    """Publishes one envelope. The key and the body must say the same, or the gate refuses it."""
    body = {
        "timestamp": now(),
        "version": "1",
        "kind": kind,
        "type": kind_type,
        "origin": ORIGIN,
        "scope": SCOPE,
        "correlationId": asked and asked["correlationId"],
        "data": data,
    }
    if asked:
        body["idempotencyKey"] = asked["idempotencyKey"]
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    key = routing_key(kind, kind_type, SWARM, ROLE, INSTANCE)
    channel.basic_publish("swarmgate.in", key, json.dumps(body), properties)


def status(channel, full):
    data = {"enabled": state["enabled"], "ioState": {"work": {"input": "ok", "output": "ok"}}}
    if full:
        data |= {"config": state["config"], "startedAt": state["startedAt"], "io": {}}
    say(channel, "metric", "status-full" if full else "status-delta", data)


def obey(channel, command):
    kind_type = command["type"]
    if kind_type == "status-request":
        # The status itself is the answer.
        return status(channel, full=True)
    if kind_type == "config-update":
        state["config"].update(command["data"])
    if kind_type in SUCCESS:
        answer = {"status": SUCCESS[kind_type], "retryable": False}
    else:
        answer = {"status": "Failed", "retryable": False, "message": "this worker has no such command"}
    say(channel, "outcome", kind_type, answer, command)
    status(channel, full=True)


def main():
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    # By name: permissions say who may listen under `subscriber.…`.
    queue = f"subscriber.{SWARM}.{ROLE}.{INSTANCE}"
    channel.queue_declare(queue, exclusive=True)
    for pattern in signal_bindings(SWARM, ROLE, INSTANCE):
        channel.queue_bind(queue, "swarmgate.out", pattern)

    seen = {}

    def hear(_channel, method, properties, body):
        # Carriage is at least once: a repeat has the message-id of the first.
        if properties.message_id not in seen:
            seen[properties.message_id] = None
            if len(seen) > REMEMBERED_IDS:
                del seen[next(iter(seen))]
            obey(channel, json.loads(body))
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, hear)
    state["startedAt"] = now()
    # Commands that came before this worker wait at the router until it shows itself.
    status(channel, full=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        connection.process_data_events(time_limit=DELTA_PERIOD_S)
        status(channel, full=False)


main()
