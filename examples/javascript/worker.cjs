// A worker that Swarmgate steers: it says how it is, obeys each command once, and answers every one.
//
//     node worker.cjs AMQP_URL SWARM ROLE INSTANCE
//
// It listens only on `swarmgate.out` and speaks only to `swarmgate.in`. Reconnecting is left out: run it under
// something that starts it again.
"use strict";

const amqp = require("amqplib");
const { routingKey, signalBindings } = require("./routing.cjs");

const [url, swarmId, role, instance] = process.argv.slice(2);
const scope = { swarmId, role, instance };
// What success is called, by type: spec/commands.toml.
const success = {
  "config-update": "Applied",
  "bot-start": "Running",
  "swarm-start": "Running",
  "bot-stop": "Stopped",
  "swarm-stop": "Stopped",
  stop: "Stopped",
  "bot-pause": "Paused",
};
const DELTA_PERIOD_MS = 5000;
const REMEMBERED_IDS = 10000;

const state = { enabled: true, config: {}, startedAt: new Date().toISOString() };

// Publishes one envelope. The key and the body must say the same, or the gate refuses it.
function say(channel, kind, type, data, asked) {
  const body = {
    timestamp: new Date().toISOString(),
    version: "1",
    kind,
    type,
    origin: `${role}:${instance}`,
    scope,
    correlationId: asked ? asked.correlationId : null,
    ...(asked && { idempotencyKey: asked.idempotencyKey }),
    data,
  };
  const options = { contentType: "application/json", persistent: true };
  const key = routingKey(kind, type, swarmId, role, instance);
  channel.publish("swarmgate.in", key, Buffer.from(JSON.stringify(body)), options);
}

function status(channel, full) {
  const data = { enabled: state.enabled, ioState: { work: { input: "ok", output: "ok" } } };
  if (full) Object.assign(data, { config: state.config, startedAt: state.startedAt, io: {} });
  say(channel, "metric", full ? "status-full" : "status-delta", data);
}

function obey(channel, command) {
  // The status itself is the answer to who asks for one.
  if (command.type === "status-request") return status(channel, true);
  if (command.type === "config-update") Object.assign(state.config, command.data);
  const answer = success[command.type]
    ? { status: success[command.type], retryable: false }
    : { status: "Failed", retryable: false, message: "this worker has no such command" };
  say(channel, "outcome", command.type, answer, command);
  status(channel, true);
}

async function main() {
  const connection = await amqp.connect(url);
  // Without a handler an `error` is an uncaught exception: a refused publish closes the channel.
  connection.on("error", ended);
  const channel = await connection.createChannel();
  channel.on("error", ended);
  // By name: permissions say who may listen under `subscriber.…`.
  const queue = `subscriber.${swarmId}.${role}.${instance}`;
  await channel.assertQueue(queue, { exclusive: true });
  for (const pattern of signalBindings(swarmId, role, instance)) {
    await channel.bindQueue(queue, "swarmgate.out", pattern);
  }

  const seen = new Set();
  await channel.consume(queue, (message) => {
    if (message === null) return ended(new Error("the queue is gone"));
    // Carriage is at least once: a repeat has the message-id of the first.
    const id = message.properties.messageId;
    if (!seen.has(id)) {
      seen.add(id);
      if (seen.size > REMEMBERED_IDS) seen.delete(seen.values().next().value);
      obey(channel, JSON.parse(message.content));
    }
    channel.ack(message);
  });
  // Commands that came before this worker wait at the router until it shows itself.
  status(channel, true);
  setInterval(() => status(channel, false), DELTA_PERIOD_MS);
  process.on("SIGTERM", () => connection.close().then(() => process.exit(0)));
}

function ended(fault) {
  console.error(`the broker ended it: ${fault.message}`);
  process.exit(1);
}

main().catch(ended);
