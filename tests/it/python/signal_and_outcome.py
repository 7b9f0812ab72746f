"""Drives a signal and reads its outcome with pika, as a service in another language would.

One connection is the orchestrator, the other the worker that answers. Both talk only to `swarmgate.in` and listen only
on `swarmgate.out`.
"""

import datetime
import json
import sys
import uuid

import pika

KEY = "swarm-plan.kestrel.worker.w-py"
SCOPE = {"swarmId": "kestrel", "role": "worker", "instance": "w-py"}


def open_channel(url):
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.confirm_delivery()
    return channel


def listen(channel, pattern):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "swarmgate.out", pattern)
    return queue


def say(channel, key, kind, origin, asked, data):
    body = {
        "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "version": "1",
        "kind": kind,
        "type": "swarm-plan",
        "origin": origin,
        "scope": SCOPE,
        "correlationId": asked["correlationId"],
        "idempotencyKey": asked["idempotencyKey"],
        "data": data,
    }
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    channel.basic_publish("swarmgate.in", key, json.dumps(body), properties, mandatory=True)


def hear(channel, queue):
    for method, _, body in channel.consume(queue, inactivity_timeout=20):
        if method is None:
            sys.exit("nothing came in time")
        channel.basic_ack(method.delivery_tag)
        return json.loads(body)


orchestrator, worker = open_channel(sys.argv[1]), open_channel(sys.argv[1])
outcomes = listen(orchestrator, "event.outcome." + KEY)
signals = listen(worker, "signal." + KEY)
ids = {"correlationId": str(uuid.uuid4()), "idempotencyKey": str(uuid.uuid4())}
say(orchestrator, "signal." + KEY, "signal", "orchestrator-py", ids, {})
asked = hear(worker, signals)
say(worker, "event.outcome." + KEY, "outcome", "worker:w-py", asked, {"status": "Ready", "retryable": False})
answer = hear(orchestrator, outcomes)
assert answer["correlationId"] == ids["correlationId"], answer
print("outcome", answer["data"]["status"])
