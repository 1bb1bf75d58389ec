// npm `eventsource`: comes back by itself, with the Last-Event-ID that it saw. Publications are its `onmessage` alone.
import { EventSource } from "eventsource";
import { base, channel, fail, publication, subscribed } from "./ledger.mjs";

const url = new URL("/v1/sse", base);
url.searchParams.set("channel", channel);
const source = new EventSource(url);

source.onmessage = (event) => {
  const { position } = JSON.parse(event.data);
  if (event.lastEventId !== position) fail(`id ${event.lastEventId} on the publication at ${position}`);
  publication(event.data);
};
source.onerror = (event) => {
  console.error(`eventsource: ${event.code ?? ""} ${event.message ?? ""}`);
  if (source.readyState === EventSource.CLOSED) fail("eventsource gave up");
};
source.addEventListener("subscribed", (event) => subscribed(event.data));
for (const type of ["gap", "unsubscribed", "closing"]) {
  source.addEventListener(type, (event) => fail(`unexpected push: ${event.data}`));
}
