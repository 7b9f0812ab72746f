"""Sends one message by AMQP 1.0 to an exchange and key; the body stands on standard input.

usage: amqp_1_0.py URL VHOST ADDRESS data|text|value

Prints `accepted`, or what the broker made of it.
"""

import json
import sys

from proton import Message, symbol
from proton.utils import BlockingConnection, SendException

url, vhost, address, section = sys.argv[1:]
text = sys.stdin.read()
bodies = {
    # Bytes that are inferred go into a data section; a text, or bytes that are not, into a value section.
    "data": {"body": text.encode(), "inferred": True},
    "text": {"body": text},
    "value": {"body": json.loads(text)},
}
connection = BlockingConnection(url, timeout=20, allowed_mechs="PLAIN", virtual_host=f"vhost:{vhost}")
sender = connection.create_sender(address)
message = Message(
    durable=True,
    id="m-1",
    correlation_id="c-1",
    user_id=b"guest",
    content_type="application/json",
    properties={"x-team": "kestrel", "x-count": 5},
    annotations={symbol("x-opt-trace"): {"a": "b"}, symbol("x-opt-text"): "said"},
    **bodies[section],
)
try:
    sender.send(message)
    print("accepted")
except SendException as fault:
    print(fault)
connection.close()
