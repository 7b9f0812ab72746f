// Sends one command through Swarmgate and waits for its outcome.
//
//     node commander.cjs AMQP_URL SWARM ROLE INSTANCE [TYPE]
//
// Prints the outcome as one line of JSON; ends with 0 where it says what was wanted.
"use strict";

const { randomUUID } = require("node:crypto");
const amqp = require("amqplib");
const { routingKey } = require("./routing.cjs");

const [url, swarmId, role, instance, type = "config-update"] = process.argv.slice(2);
const good = new Set(["Applied", "Running", "Stopped", "Paused", "Ready", "Created", "Removed", "Ack"]);
// Longer than the deadline of `config-update`, after which the router answers `TimedOut` itself.
const PATIENCE_MS = 90000;

async function main() {
  const connection = await amqp.connect(url);
  // Without a handler an `error` is an uncaught exception: a refused publish closes the channel.
  connection.on("error", ended);
  const channel = await connection.createConfirmChannel();
  channel.on("error", ended);
  // Listening before speaking: the answer may come at once.
  const queue = `subscriber.commander.${randomUUID()}`;
  await channel.assertQueue(queue, { exclusive: true });
  await channel.bindQueue(queue, "swarmgate.out", routingKey("outcome", type, swarmId, role, instance));
  const correlationId = randomUUID();
  const answered = new Promise((resolve) => {
    channel.consume(queue, (message) => {
      const outcome = JSON.parse(message.content);
      if (outcome.correlationId === correlationId) resolve(outcome);
    }, { noAck: true });
  });
  const command = {
    timestamp: new Date().toISOString(),
    version: "1",
    kind: "signal",
    type,
    origin: "commander-js",
    scope: { swarmId, role, instance },
    correlationId,
    // Whoever sends this again with the same key sends the same command, and gets the same outcome.
    idempotencyKey: randomUUID(),
    data: { rate: 50 },
  };
  const options = { contentType: "application/json", persistent: true, mandatory: true };
  const key = routingKey("signal", type, swarmId, role, instance);
  channel.publish("swarmgate.in", key, Buffer.from(JSON.stringify(command)), options);
  await channel.waitForConfirms();
  const tooLate = setTimeout(() => {
    console.error("no outcome came");
    process.exit(1);
  }, PATIENCE_MS);
  const outcome = await answered;
  clearTimeout(tooLate);
  console.log(JSON.stringify(outcome));
  await connection.close();
  process.exitCode = good.has(outcome.data.status) ? 0 : 1;
}

function ended(fault) {
  console.error(`the broker ended it: ${fault.message}`);
  process.exit(1);
}

main().catch(ended);
