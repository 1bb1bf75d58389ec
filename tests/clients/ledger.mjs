// What a client received: a hash over every publication's position and exact text, and the same lines in a file.
//
// Arguments of every script: BASE_URL CHANNEL COUNT TRANSCRIPT. Reports on standard output, one per line:
// READY (subscribed), RESUMED (subscribed again, nothing lost), DONE SHA256 (all COUNT publications are here).
import { createHash } from "node:crypto";
import { openSync, writeSync } from "node:fs";

const PATIENCE_MS = 90_000;

export const [base, channel] = process.argv.slice(2);
const count = Number(process.argv[4]);
const transcript = openSync(process.argv[5], "w");
const hash = createHash("sha256");
let received = 0;
let isReady = false;

/** The position of the newest publication received. */
export let position;

setTimeout(() => fail(`only ${received} of ${count} publications after ${PATIENCE_MS} ms`), PATIENCE_MS).unref();

/** Ends the script as failed. */
export function fail(reason) {
  writeSync(2, `${reason}\n`);
  process.exit(1);
}

/** Takes a `subscribed` push: the first may be fresh, every later one must resume without loss. */
export function subscribed(text) {
  const { resume } = JSON.parse(text);
  if (resume !== (isReady ? "complete" : "fresh")) fail(`subscribed with resume ${resume}: ${text}`);
  writeSync(1, isReady ? "RESUMED\n" : "READY\n");
  isReady = true;
}

/** Takes the exact text of a publication; after the last one, reports the hash and ends the script. */
export function publication(text) {
  const before = position;
  position = JSON.parse(text).position;
  if (before && offset(position) !== offset(before) + 1) fail(`${position} came after ${before}`);
  const line = `${position}\n${text}\n`;
  hash.update(line);
  writeSync(transcript, line);
  received += 1;
  if (received < count) return;
  writeSync(1, `DONE ${hash.digest("hex")}\n`);
  process.exit(0);
}

function offset(position) {
  return Number(position.split("-")[1]);
}
