// npm `ws`: comes back with `since` when its connection is cut.
import WebSocket from "ws";
import { base, channel, fail, position, publication, subscribed } from "./ledger.mjs";

const CONNECTIONS_MAX = 10;
let connections = 0;

function connect() {
  connections += 1;
  if (connections > CONNECTIONS_MAX) fail(`cut off ${CONNECTIONS_MAX} times`);
  const url = new URL("/v1/ws", base);
  url.protocol = "ws:";
  url.searchParams.set("channel", channel);
  if (position) url.searchParams.set("since", position);
  const socket = new WebSocket(url);
  socket.on("message", (bytes, isBinary) => {
    if (isBinary) fail("a binary frame");
    receive(bytes.toString("utf8"));
  });
  socket.on("error", (error) => console.error(`ws: ${error.message}`)); // `close` follows
  socket.on("close", connect);
}

function receive(text) {
  const { type } = JSON.parse(text);
  if (type === "publication") publication(text);
  else if (type === "subscribed") subscribed(text);
  else if (type !== "welcome" && type !== "heartbeat") fail(`unexpected push: ${text}`);
}

connect();
