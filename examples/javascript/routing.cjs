// Routing keys and patterns: the only place in these examples that spells one.
"use strict";

// What a key begins with, by the envelope's kind.
const families = { signal: "signal", outcome: "event.outcome", event: "event.alert", metric: "event.metric" };

// The routing key of an envelope or, with `*`, a pattern to bind.
function routingKey(kind, type, swarmId, role, instance) {
  return [families[kind], type, swarmId, role, instance].join(".");
}

// What an instance binds to hear its signals: its own name, and every fan-out that covers it.
function signalBindings(swarmId, role, instance) {
  const covering = [
    [swarmId, role, instance],
    [swarmId, role, "ALL"],
    [swarmId, "ALL", "ALL"],
    ["ALL", role, "ALL"],
    ["ALL", "ALL", "ALL"],
  ];
  return covering.map((scope) => routingKey("signal", "*", ...scope));
}

module.exports = { routingKey, signalBindings };
