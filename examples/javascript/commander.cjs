// Sends one command through Swarmgate and waits for its outcome.
//
//     node commander.cjs AMQP_URL SWARM ROLE INSTANCE [TYPE]
//
// Prints the outcome as one line of JSON; ends with 0 where it says what was wanted.
"use strict";

const { randomUUID } = require("node:crypto");
const amqp = require("amqplib");

const [url, swarmId, role, instance, type = "config-update"] = process.argv.slice(2);
const here = `${swarmId}.${role}.${instance}`;
const good = new Set(["Applied", "Running", "Stopped", "Paused", "Ready", "Created", "Removed", "Ack"]);
// Longer than the command's own deadline, after which the router answers `TimedOut` itself.
const PATIENCE_MS = 90000;

async function main() {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  // Listening before speaking: the answer may come at once.
  const { queue } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(queue, "swarmgate.out", `event.outcome.${type}.${here}`);
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
  channel.publish("swarmgate.in", `signal.${type}.${here}`, Buffer.from(JSON.stringify(command)), options);
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

main().catch((fault) => {
  console.error(fault);
  process.exit(1);
});
