import assert from "node:assert/strict";
import { test } from "node:test";

import { Pithead, BadAnswer, Unreachable } from "@pithead/client";

const encoder = new TextEncoder();

/** A body in these chunks; with `error`, it breaks off behind them. */
function body(chunks, error) {
  const left = [...chunks];
  return new ReadableStream({
    pull(controller) {
      if (left.length) controller.enqueue(typeof left[0] === "string" ? encoder.encode(left.shift()) : left.shift());
      else if (error) controller.error(error);
      else controller.close();
    },
  });
}

function answering(...answers) {
  const seen = [];
  const fetch = async (request) => {
    seen.push(request);
    const answer = answers[Math.min(seen.length, answers.length) - 1];
    return typeof answer === "function" ? answer() : answer;
  };
  return { lab: new Pithead({ url: "http://exchange.test", key: "key_x", fetch }), seen };
}

const streaming = { headers: { "content-type": "text/event-stream; charset=utf-8" } };
const told = (id, status) => `id: ${id}\nevent: job\ndata: {"job_id":"job_1","status":"${status}"}\n\n`;

async function all(events) {
  const found = [];
  for await (const event of events) found.push(event);
  return found;
}

test("lines may end anyhow, and chunks anywhere", async () => {
  const text = ': a comment\r\nid: 1\r\nevent: output\r\ndata: {"text":\r\ndata: "für alle"}\r\n\r\nretry: 5\r\r' + told(2, "completed");
  const bytes = encoder.encode(text);
  for (const size of [1, 2, 3, 7, 1000]) {
    const chunks = [];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.slice(at, at + size));
    const { lab } = answering(new Response(body(chunks), streaming));
    const found = await all(lab.events("job_1"));
    assert.deepEqual(found[0], { id: "1", event: "output", data: { text: "für alle" } });
    assert.equal(found[1].data.status, "completed");
    assert.equal(found.length, 2);
  }
});

test("what it does not know is passed over", async () => {
  const { lab } = answering(new Response(body(["event: weather\ndata: rain\n\n", told("1", "failed")]), streaming));
  assert.deepEqual((await all(lab.events("job_1"))).map((event) => event.event), ["job"]);
});

test("an event that is not JSON is nothing of ours", async () => {
  const { lab } = answering(new Response(body(["event: job\ndata: <html>\n\n"]), streaming));
  await assert.rejects(all(lab.events("job_1")), BadAnswer);
});

test("a stream that breaks off is taken up where it was", async () => {
  const { lab, seen } = answering(
    new Response(body([told("a-1", "running")], new TypeError("terminated")), streaming),
    new Response(body([told("a-2", "completed")]), streaming),
  );
  const found = await all(lab.events("job_1"));
  assert.deepEqual(found.map((event) => event.id), ["a-1", "a-2"]);
  assert.equal(seen[0].headers.get("last-event-id"), null);
  assert.equal(seen[1].headers.get("last-event-id"), "a-1");
  assert.equal(seen[1].headers.get("authorization"), "Bearer key_x");
});

test("it begins where it is told to, and ends where there is nothing more", async () => {
  const { lab, seen } = answering(new Response(null, { status: 204 }));
  assert.deepEqual(await all(lab.events("job_1", { lastEventId: "7" })), []);
  assert.equal(seen[0].headers.get("last-event-id"), "7");
});

test("an account's stream goes on for ever, over breaks and kinds that it does not know", async () => {
  const sync = (id, resumed) => `id: ${id}\nevent: sync\ndata: {"resumed":${resumed}}\n\n`;
  const { lab, seen } = answering(
    new Response(body([sync("a", false), told("b", "completed"), "id: c\nevent: weather\ndata: rain\n\n"]), streaming),
    new Response(body([sync("d", true), 'id: e\nevent: payout\ndata: {"payout_id":"p"}\n\n'], new TypeError("cut")), streaming),
    new Response(null, { status: 204 }),
  );
  const found = await all(lab.accountEvents());
  assert.deepEqual(found.map(({ event, id }) => [event, id]), [["sync", "a"], ["job", "b"], ["sync", "d"], ["payout", "e"]]);
  assert.deepEqual(seen.map(({ headers }) => headers.get("last-event-id")), [null, "c", "e"]);
  assert(seen.every(({ url }) => url === "http://exchange.test/v1/account/events"));
});

test("a connection that has gone without a word is made again", async (t) => {
  const real = globalThis.setTimeout;
  const silences = [];
  t.mock.method(globalThis, "setTimeout", (done, milliseconds, ...more) => {
    if (milliseconds === 45_000) silences.push(milliseconds);
    return real(done, milliseconds === 45_000 && silences.length === 2 ? 1 : milliseconds, ...more);
  });
  const silent = new ReadableStream({
    start: (controller) => controller.enqueue(encoder.encode(told("1", "running"))),
  });
  const { lab, seen } = answering(new Response(silent, streaming), new Response(body([told("2", "completed")]), streaming));
  assert.deepEqual((await all(lab.events("job_1"))).map(({ id }) => id), ["1", "2"]);
  assert.equal(seen[1].headers.get("last-event-id"), "1");
});

test("what is no stream is none", async () => {
  const { lab } = answering(new Response("{}", { headers: { "content-type": "application/json" } }));
  await assert.rejects(all(lab.events("job_1")), BadAnswer);
});

test("a caller who had enough is let go", async () => {
  const stop = new AbortController();
  const { lab } = answering(() => new Response(body([told("1", "running")], stop.signal.reason), streaming));
  const events = lab.events("job_1", { signal: stop.signal });
  assert.equal((await events.next()).value.id, "1");
  stop.abort(new Error("enough"));
  await assert.rejects(events.next(), /enough/);
  assert(Unreachable.prototype instanceof Error);
});
