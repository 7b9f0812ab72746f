"""The secure channel once more, by its description only, in another language and from the standard library.

    peer.py worker PORT WORKER_ID     a worker that connects; walks a session to its stop
    peer.py supervisor WORKER_ID      a supervisor that listens; prints its port; walks the same session
    peer.py attacker PORT WORKER_ID   sends what must be refused, each on a connection of its own

The secret comes as one line of hex on standard input. What is seen is printed, a JSON value a line.
"""

import base64
import hashlib
import hmac
import json
import secrets
import socket
import struct
import sys
import time

TTL_SECONDS = 30
KINDS = {
    "control.bootstrap_bundle", "control.ready", "control.heartbeat", "control.start_work", "control.stop",
    "control.ack", "data.signal", "data.outcome", "telemetry.status",
}


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sign(fields, secret):
    unsigned = {name: value for name, value in fields.items() if name != "sig"}
    return hmac.new(secret, canonical(unsigned), hashlib.sha256).hexdigest()


def fields_of(kind, correlation_id, worker_id, payload, ts=None, nonce=None):
    inner = {"correlation_id": correlation_id, "payload": payload, "worker_id": worker_id}
    return {
        "trace_id": None,
        "reply_to": None,
        "kind": kind,
        "target": worker_id,
        "payload_b64": base64.b64encode(canonical(inner)).decode(),
        "headers": {},
        "ts": int(time.time()) if ts is None else ts,
        "nonce": nonce or secrets.token_hex(16),
    }


def framed(body):
    return struct.pack(">I", len(body)) + body


def frame(fields, secret):
    return framed(canonical({**fields, "sig": sign(fields, secret)}))


class Peer:
    def __init__(self, sock, worker_id, secret):
        self.sock, self.worker_id, self.secret = sock, worker_id, secret
        self.seen = set()

    def send(self, kind, correlation_id, payload):
        self.sock.sendall(frame(fields_of(kind, correlation_id, self.worker_id, payload), self.secret))

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise EOFError("the connection was closed")
            data += more
        return data

    def receive(self):
        (length,) = struct.unpack(">I", self.exactly(4))
        assert length <= 1048576, "payload too large"
        fields = json.loads(self.exactly(length))
        if fields == "rejected":
            raise PermissionError("rejected")
        assert hmac.compare_digest(fields["sig"], sign(fields, self.secret)), "invalid signature"
        assert fields["kind"] in KINDS, "unsupported kind"
        assert type(fields["ts"]) is int and abs(time.time() - fields["ts"]) <= TTL_SECONDS + 1, "timestamp expired"
        assert fields["nonce"] not in self.seen, "replayed nonce"
        self.seen.add(fields["nonce"])
        message = json.loads(base64.b64decode(fields["payload_b64"], validate=True))
        for name in (fields["target"], message["worker_id"]):
            assert name in (None, self.worker_id), "another worker's"
        assert message["correlation_id"], "no correlation id"
        return fields["kind"], message["correlation_id"], message["payload"]

    def expect(self, kind):
        got, correlation_id, payload = self.receive()
        assert got == kind, f"{got} instead of {kind}"
        say({"kind": got, "correlation_id": correlation_id, "payload": payload})
        return correlation_id, payload

    def acknowledge(self, kind, correlation_id):
        self.send("control.ack", correlation_id, {"ack_kind": kind})

    def adopt(self, bundle):
        self.secret = base64.b64decode(bundle["execution_ipc"]["signing_secret_b64"], validate=True)


def hkdf(master):
    extracted = hmac.new(b"\0" * 32, master, hashlib.sha256).digest()
    return hmac.new(extracted, b"stream-kernel/execution-ipc/signing" + b"\x01", hashlib.sha256).digest()


def say(value):
    print(json.dumps(value, sort_keys=True), flush=True)


def worker(port, worker_id, secret):
    peer = Peer(socket.create_connection(("127.0.0.1", port), timeout=20), worker_id, secret)
    peer.send("control.heartbeat", "py-0", {})
    correlation_id, bundle = peer.expect("control.bootstrap_bundle")
    ipc = bundle["execution_ipc"]
    if ipc["kdf"] == "hkdf_sha256":
        derived = base64.b64encode(hkdf(base64.b64decode(ipc["master_secret_b64"]))).decode()
        assert derived == ipc["signing_secret_b64"], "another derivation"
    peer.adopt(bundle)
    peer.acknowledge("control.bootstrap_bundle", correlation_id)
    peer.send("control.ready", "py-1", {"note": "Zażółć ☃ 😀"})
    peer.expect("control.ack")
    correlation_id, _ = peer.expect("control.start_work")
    peer.acknowledge("control.start_work", correlation_id)
    correlation_id, signal = peer.expect("data.signal")
    peer.send("data.outcome", correlation_id, {"routingKey": "event.outcome.x", "body": signal["body"]})
    peer.send("telemetry.status", "py-2", {"type": "status-delta", "data": {"load": 0.25}})
    correlation_id, _ = peer.expect("control.stop")
    peer.acknowledge("control.stop", correlation_id)
    peer.sock.close()


def supervisor(worker_id, secret):
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)
    say(listening.getsockname()[1])
    sock, _ = listening.accept()
    sock.settimeout(20)
    peer = Peer(sock, worker_id, secret)
    peer.expect("control.heartbeat")
    master = bytes(range(32))
    bundle = {
        "created_at_epoch": int(time.time()),
        "execution_ipc": {
            "secret_mode": "generated",
            "kdf": "hkdf_sha256",
            "master_secret_b64": base64.b64encode(master).decode(),
            "signing_secret_b64": base64.b64encode(hkdf(master)).decode(),
        },
    }
    peer.send("control.bootstrap_bundle", "py-0", bundle)
    peer.adopt(bundle)
    peer.expect("control.ack")
    correlation_id, _ = peer.expect("control.ready")
    peer.acknowledge("control.ready", correlation_id)
    peer.send("control.start_work", "py-1", {"required_workers": [worker_id]})
    peer.expect("control.ack")
    peer.send("data.signal", "py-2", {"routingKey": "signal.x", "body": {"ż": [1, 2.5, None]}})
    peer.expect("data.outcome")
    peer.expect("telemetry.status")
    peer.send("control.stop", "py-3", {})
    peer.expect("control.ack")
    sock.close()


def attacker(port, worker_id, secret):
    now = int(time.time())

    def fields(**changed):
        return {**fields_of("control.heartbeat", "py-0", worker_id, {}), **changed}

    def inner(value):
        return base64.b64encode(canonical(value)).decode()

    good = fields()
    other = hashlib.sha256(secret).digest()
    tries = {
        "too-large": struct.pack(">I", 1048577),
        "nothing": struct.pack(">I", 0),
        "garbage": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "no-json": framed(b"{"),
        "no-object": framed(b"[]"),
        "twice": framed(canonical({**good, "sig": sign(good, secret)})[:-1] + b',"kind":"control.stop"}'),
        "unsigned": framed(canonical(good)),
        "other-key": frame(good, other),
        "tampered": framed(canonical({**good, "kind": "control.stop", "sig": sign(good, secret)})),
        "unknown-worker": frame({**good, "target": "nobody"}, secret),
        "no-worker": frame({**good, "target": None}, secret),
        "unknown-kind": frame(fields(kind="control.reboot"), secret),
        "late": frame(fields(ts=now - 40), secret),
        "early": frame(fields(ts=now + 40), secret),
        "true-time": frame(fields(ts=True), secret),
        "half-time": frame(fields(ts=now + 0.5), secret),
        "short-nonce": frame(fields(nonce="00"), secret),
        "two-workers": frame(
            fields(payload_b64=inner({"correlation_id": "c", "payload": {}, "worker_id": "w-2"})), secret),
        "no-correlation": frame(
            fields(payload_b64=inner({"correlation_id": "", "payload": {}, "worker_id": worker_id})), secret),
    }
    for name, data in tries.items():
        say([name, answer(port, data)])
    kept = socket.create_connection(("127.0.0.1", port), timeout=20)
    once = frame(good, secret)
    kept.sendall(once)
    say(["replayed", answer(port, once)])
    kept.close()


def answer(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)
        heard = b""
        while more := sock.recv(4096):
            heard += more
        return heard.decode()


if __name__ == "__main__":
    SECRET = bytes.fromhex(sys.stdin.readline())
    if sys.argv[1] == "worker":
        worker(int(sys.argv[2]), sys.argv[3], SECRET)
    elif sys.argv[1] == "supervisor":
        supervisor(sys.argv[2], SECRET)
    else:
        attacker(int(sys.argv[2]), sys.argv[3], SECRET)
