"""The SDK for Python workers that `swarmgate supervise` runs: one file, the standard library only.

    from swarmgate_worker import Worker

    worker = Worker.from_env()
    # ... open what the work needs ...
    worker.ready()
    if worker.begun():
        for signal in worker.signals():
            worker.outcome(signal, "Applied")
    worker.leave()

The supervisor carries what is said here to the bus and back. Heartbeats and acknowledgements need nothing from you. When
the supervisor says stop, `signals()` ends. When the channel ends, every call raises `ChannelEnded`: end the process,
and its supervisor starts the next.
"""

import base64
import datetime
import hashlib
import hmac
import itertools
import json
import os
import queue
import secrets
import socket
import struct
import threading
import time

KEY_BYTES_MAX = 4096
WAITING_MAX = 1024
TELEMETRY_WAITING_MAX = 256
SECONDS_TO_LEAVE = 5
CONTROL, DATA, TELEMETRY = range(3)
LANES = {"data": DATA, "telemetry": TELEMETRY}


# What a routing key begins with, by the envelope's kind.
FAMILIES = {"signal": "signal", "outcome": "event.outcome", "event": "event.alert", "metric": "event.metric"}


def routing_key(kind, kind_type, swarm, role, instance):
    """The routing key of an envelope, or, with `*`, a pattern to bind: the only place here that spells one."""
    return ".".join((FAMILIES[kind], kind_type, swarm, role, instance))


def signal_bindings(swarm, role, instance):
    """What an instance binds to hear its signals: its own name, and every fan-out that covers it."""
    covering = ((swarm, role, instance), (swarm, role, "ALL"), (swarm, "ALL", "ALL"), ("ALL", role, "ALL"), ("ALL",) * 3)
    return [routing_key("signal", "*", *scope) for scope in covering]


class ChannelEnded(Exception):
    """The channel to the supervisor has ended, or never was."""


class Signal:
    """A command of the bus: `type`, `data`, `correlation_id`, `idempotency_key`, `urgent`, and the whole `envelope`."""

    def __init__(self, envelope, urgent):
        self.envelope = envelope
        self.urgent = urgent
        self.type = envelope["type"]
        self.data = envelope.get("data") or {}
        self.correlation_id = envelope["correlationId"]
        self.idempotency_key = envelope.get("idempotencyKey")


def canonical(value):
    """JSON with sorted keys, no spaces, and everything beyond ASCII escaped: what is signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def read_first_key(descriptor):
    """Reads the key from its pipe to the end, and leaves nothing open that a child could inherit."""
    parts = []
    while part := os.read(descriptor, KEY_BYTES_MAX):
        parts.append(part)
    if descriptor == 0:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    else:
        os.close(descriptor)
    key = b"".join(parts)
    if len(key) < 32:
        raise ChannelEnded("the first key cannot be read from its pipe; start this by `swarmgate supervise`")
    return key


class Codec:
    """Messages to signed frames and back."""

    def __init__(self, worker_id, key, ttl_seconds, bytes_max):
        self.worker_id, self.key, self.previous = worker_id, key, None
        self.ttl_seconds, self.bytes_max = ttl_seconds, bytes_max
        self.life, self.count = secrets.token_hex(8), itertools.count()
        self.seen = {}

    def adopt(self, key):
        if key != self.key:
            self.key, self.previous = key, self.key

    def encode(self, kind, correlation_id, payload):
        inner = {"correlation_id": correlation_id, "payload": payload, "worker_id": self.worker_id}
        frame = {
            "trace_id": None,
            "reply_to": None,
            "kind": kind,
            "target": self.worker_id,
            "payload_b64": base64.b64encode(canonical(inner)).decode(),
            "headers": {},
            "ts": int(time.time()),
            "nonce": self.life + format(next(self.count), "016x"),
        }
        frame["sig"] = hmac.new(self.key, canonical(frame), hashlib.sha256).hexdigest()
        body = canonical(frame)
        if len(body) > self.bytes_max:
            raise ValueError(f"the message has {len(body)} bytes, more than {self.bytes_max}")
        return struct.pack(">I", len(body)) + body

    def decode(self, body):
        frame = json.loads(body)
        signature = frame.pop("sig")
        signed = canonical(frame)

        def fits(key):
            return hmac.compare_digest(hmac.new(key, signed, hashlib.sha256).hexdigest(), signature)

        if fits(self.key):
            # The supervisor signs with the new key; it will not go back to the old one.
            self.previous = None
        elif self.previous is None or not fits(self.previous):
            raise ChannelEnded("a frame of the supervisor has another signature")
        now, nonce = time.time(), frame["nonce"]
        if type(frame["ts"]) is not int or abs(int(now) - frame["ts"]) > self.ttl_seconds:
            raise ChannelEnded("a frame of the supervisor is from another time; compare the clocks")
        self.seen = {seen: until for seen, until in self.seen.items() if until >= now}
        if nonce in self.seen or nonce.startswith(self.life):
            raise ChannelEnded("a frame came twice")
        self.seen[nonce] = max(now, frame["ts"]) + self.ttl_seconds
        inner = json.loads(base64.b64decode(frame["payload_b64"], validate=True))
        if frame["target"] not in (None, self.worker_id) or inner["worker_id"] not in (None, self.worker_id):
            raise ChannelEnded("a frame is for another worker")
        return frame["kind"], inner["correlation_id"], inner["payload"]


class Worker:
    """A worker with its keys."""

    @classmethod
    def from_env(cls):
        """Reads who it is and its first key, connects, and takes the keys of its session."""
        env = {name: os.environ.get(f"SWARMGATE_{name}") for name in (
            "ADDRESS", "WORKER_ID", "ROLE", "SWARM_ID", "KEY_FD", "HEARTBEAT_MS", "TTL_SECONDS", "PAYLOAD_BYTES_MAX"
        )}
        missing = [f"SWARMGATE_{name}" for name, value in env.items() if value is None]
        if missing:
            raise ChannelEnded(f"{missing[0]} is not set; start this by `swarmgate supervise`")
        key = read_first_key(int(env["KEY_FD"]))
        host, _, port = env["ADDRESS"].rpartition(":")
        codec = Codec(env["WORKER_ID"], key, int(env["TTL_SECONDS"]), int(env["PAYLOAD_BYTES_MAX"]))
        scope = {"swarmId": env["SWARM_ID"], "role": env["ROLE"], "instance": env["WORKER_ID"]}
        sock = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, codec, scope, int(env["HEARTBEAT_MS"]) / 1000)

    def __init__(self, sock, codec, scope, heartbeat_s):
        self.scope, self.dropped = scope, 0
        self._sock, self._codec, self._heartbeat_s = sock, codec, heartbeat_s
        self._outgoing, self._turn = queue.PriorityQueue(), itertools.count()
        self._telemetry_waiting = 0
        self._orders, self._begun, self._stopped = queue.PriorityQueue(), threading.Event(), threading.Event()
        self._keyed, self._ended, self._why = threading.Event(), threading.Event(), None
        self._lock, self._last = threading.Lock(), None
        for task in (self._write, self._read, self._beat):
            threading.Thread(target=self._guard, args=(task,), daemon=True).start()
        # The first word of a process: whatever was before has ended.
        self._say("control.stop", {"reason": "begin", "pid": os.getpid()})
        self._await(self._keyed)

    # --- what a worker says

    def ready(self, status=None):
        """Says that it can work, and how it is."""
        self._say("control.ready", {})
        if status is not None or self._last is None:
            self.status(**(status or {}))

    def outcome(self, signal, status, message=None, retryable=False, context=None):
        """Answers a command: for success by the word of its type, else `Failed` or `NotReady`."""
        data = {"status": status, "retryable": retryable}
        data |= {name: value for name, value in (("message", message), ("context", context)) if value}
        body = self._envelope("outcome", signal.type, data)
        body |= {"correlationId": signal.correlation_id, "idempotencyKey": signal.idempotency_key}
        self._carry(body)

    def alert(self, level, code, message):
        """Warns of something; the level is `info`, `warn` or `error`."""
        data = {"level": level, "code": code, "message": message}
        self._carry(self._envelope("event", "alert", data))

    def status(self, enabled=True, config=None, io=None, io_state=None, tps=None, context=None):
        """Says how it is. Where there is no room it is dropped and counted; the next one says more."""
        whole = (config or {}, io or {})
        data = {"enabled": enabled, "ioState": io_state or {"work": {"input": "ok", "output": "ok"}}}
        data |= {name: value for name, value in (("tps", tps), ("context", context)) if value is not None}
        full = whole != self._last
        if full:
            data |= {"config": whole[0], "io": whole[1]}
        sent = self._say("telemetry.status", {"type": "status-full" if full else "status-delta", "data": data})
        self._last = whole if sent else None

    def leave(self):
        """Says good-bye, and waits until everything said has left."""
        self._say("control.stop", {"reason": "end"})
        until = time.monotonic() + SECONDS_TO_LEAVE
        while self._outgoing.unfinished_tasks and time.monotonic() < until and not self._ended.is_set():
            time.sleep(0.002)
        self._end(ChannelEnded("this side has left"))

    # --- what a worker hears

    def begun(self):
        """Waits until there is work: True, or until it must end: False."""
        self._await(self._begun)
        return not self._stopped.is_set()

    def signals(self):
        """The commands, those that stop something first, until the supervisor says stop."""
        while (signal := self.next()) is not None:
            yield signal

    def next(self, timeout=None):
        """The next command; None once the worker must end. Raises `queue.Empty` when none came in time."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._orders.get(timeout=0.2 if until is None else max(0, min(0.2, until - time.monotonic())))[2]
            except queue.Empty:
                if self._ended.is_set():
                    raise self._why from None
                if until is not None and time.monotonic() >= until:
                    raise

    # --- how it is done

    def _envelope(self, kind, kind_type, data):
        return {
            "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "version": "1",
            "kind": kind,
            "type": kind_type,
            "scope": self.scope,
            "origin": f"{self.scope['role']}:{self.scope['instance']}",
            "data": data,
        }

    def _carry(self, body):
        scope = self.scope["swarmId"], self.scope["role"], self.scope["instance"]
        self._say("data.outcome", {"routingKey": routing_key(body["kind"], body["type"], *scope), "body": body})

    def _say(self, kind, payload, correlation_id=None):
        if self._ended.is_set():
            raise self._why
        lane, turn = LANES.get(kind.partition(".")[0], CONTROL), next(self._turn)
        with self._lock:
            if lane == TELEMETRY:
                if self._telemetry_waiting >= TELEMETRY_WAITING_MAX:
                    self.dropped += 1
                    return False
                self._telemetry_waiting += 1
        self._outgoing.put((lane, turn, kind, correlation_id or f"{os.getpid()}-{turn}", payload))
        return True

    def _await(self, event):
        while not event.wait(0.1):
            if self._ended.is_set():
                raise self._why

    def _guard(self, task):
        try:
            task()
        except ChannelEnded as why:
            self._end(why)
        except Exception as why:
            self._end(ChannelEnded(f"the channel to the supervisor has ended: {why!r}"))

    def _end(self, why):
        with self._lock:
            self._why = self._why or why
        self._ended.set()
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _write(self):
        while not self._ended.is_set():
            lane, _, kind, correlation_id, payload = self._outgoing.get()
            if lane == TELEMETRY:
                with self._lock:
                    self._telemetry_waiting -= 1
            self._sock.sendall(self._codec.encode(kind, correlation_id, payload))
            self._outgoing.task_done()

    def _beat(self):
        self._keyed.wait()
        while not self._ended.wait(self._heartbeat_s):
            self._say("control.heartbeat", {})

    def _exactly(self, count):
        parts = []
        while count:
            part = self._sock.recv(count)
            if not part:
                raise ChannelEnded("the supervisor has closed the channel")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _read(self):
        while not self._ended.is_set():
            (length,) = struct.unpack(">I", self._exactly(4))
            if not 0 < length <= self._codec.bytes_max:
                raise ChannelEnded("the supervisor sent a frame without bounds")
            self._hear(*self._codec.decode(self._exactly(length)))

    def _hear(self, kind, correlation_id, payload):
        if kind == "control.ack":
            return
        if kind == "control.bootstrap_bundle":
            # What follows a bundle is signed with its key.
            key = payload["execution_ipc"]["signing_secret_b64"]
            self._codec.adopt(base64.b64decode(key, validate=True))
        if kind.startswith("control."):
            self._say("control.ack", {"ack_kind": kind}, correlation_id)
        if kind == "control.bootstrap_bundle":
            self._keyed.set()
        elif kind == "control.start_work":
            self._begun.set()
        elif kind == "control.stop" and "body" not in payload:
            self._stopped.set()
            self._begun.set()
            self._orders.put((CONTROL, -1, None))
        elif kind in ("control.stop", "data.signal"):
            if self._orders.qsize() >= WAITING_MAX:
                raise ChannelEnded(f"more than {WAITING_MAX} commands wait; take them faster")
            lane = CONTROL if kind == "control.stop" else DATA
            self._orders.put((lane, next(self._turn), Signal(payload["body"], lane == CONTROL)))
