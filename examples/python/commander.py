"""Sends one command through Swarmgate and waits for its outcome.

    python commander.py AMQP_URL SWARM ROLE INSTANCE [TYPE]

Prints the outcome as one line of JSON; ends with 0 where it says what was wanted.
"""

import datetime
import json
import sys
import uuid

import pika

from swarmgate_worker import routing_key

URL, SWARM, ROLE, INSTANCE = sys.argv[1:5]
TYPE = sys.argv[5] if len(sys.argv) > 5 else "config-update"
GOOD = {"Applied", "Running", "Stopped", "Paused", "Ready", "Created", "Removed", "Ack"}
# Longer than the deadline of `config-update`, after which the router answers `TimedOut` itself.
PATIENCE_S = 90


def main():
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    channel.confirm_delivery()
    # Listening before speaking: the answer may come at once.
    queue = f"subscriber.commander.{uuid.uuid4()}"
    channel.queue_declare(queue, exclusive=True)
    channel.queue_bind(queue, "swarmgate.out", routing_key("outcome", TYPE, SWARM, ROLE, INSTANCE))
    ours = str(uuid.uuid4())
    command = {
        "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "version": "1",
        "kind": "signal",
        "type": TYPE,
        "origin": "commander-py",
        "scope": {"swarmId": SWARM, "role": ROLE, "instance": INSTANCE},
        "correlationId": ours,
        # Whoever sends this again with the same key sends the same command, and gets the same outcome.
        "idempotencyKey": str(uuid.uuid4()),
        "data": {"rate": 50},
    }
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    key = routing_key("signal", TYPE, SWARM, ROLE, INSTANCE)
    channel.basic_publish("swarmgate.in", key, json.dumps(command), properties, mandatory=True)
    for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=PATIENCE_S):
        if method is None:
            sys.exit("no outcome came")
        outcome = json.loads(body)
        if outcome["correlationId"] == ours:
            print(json.dumps(outcome))
            sys.exit(0 if outcome["data"]["status"] in GOOD else 1)


main()
