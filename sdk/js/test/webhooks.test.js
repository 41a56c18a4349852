import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import http from "node:http";
import { test } from "node:test";

import { NotFound, PitheadError, WebhookRefused, verifyWebhook } from "@pithead/client";

import { client } from "./served.js";

/** A server that keeps what it is told; `next` is the next message. */
async function receiver() {
  const told = [];
  const waiting = [];
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      response.writeHead(204).end();
      const message = { headers: request.headers, body: Buffer.concat(chunks) };
      const taker = waiting.shift();
      if (taker) taker(message);
      else told.push(message);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const next = () => (told.length ? Promise.resolve(told.shift()) : new Promise((resolve) => waiting.push(resolve)));
  return { url: `http://127.0.0.1:${server.address().port}/hook`, next, close: () => server.close() };
}

test("a webhook is made, tried, changed and deleted, and what it says is verified", async () => {
  const lab = await client(1);
  const { url, next, close } = await receiver();
  try {
    const made = await lab.webhooks.create({ url, events: ["job.cancelled"], description: "mine" });
    assert.match(made.secret, /^whsec_/);
    const sent = await lab.webhooks.test(made.webhook_id);
    const first = await next();
    assert.equal(first.headers["webhook-id"], sent.delivery_id);
    assert.equal((await verifyWebhook(made.secret, first.headers, first.body)).type, sent.event);

    const { job_id } = await lab.submit({ model: "nobody-has-it", input: {}, price: 0.01 });
    await lab.cancel(job_id);
    const message = await next();
    const said = await verifyWebhook(made.secret, new Headers(message.headers), message.body.toString());
    assert.deepEqual([said.type, said.data.job_id], ["job.cancelled", job_id]);

    // While a secret is being changed, both verify.
    const turned = await lab.webhooks.rotateSecret(made.webhook_id);
    assert.notEqual(turned.secret, made.secret);
    await lab.webhooks.replay(made.webhook_id, sent.delivery_id);
    const again = await next();
    for (const { secret } of [made, turned]) assert.equal((await verifyWebhook(secret, again.headers, again.body)).type, sent.event);
    assert.equal(again.headers["webhook-id"], sent.delivery_id);

    const events = [];
    for await (const delivery of lab.webhooks.deliveries(made.webhook_id)) events.push(delivery.event);
    assert.deepEqual(new Set(events), new Set(["job.cancelled", sent.event]));
    const changed = await lab.webhooks.update(made.webhook_id, { enabled: false, description: "" });
    assert.deepEqual([changed.enabled, changed.description, changed.events], [false, "", ["job.cancelled"]]);
    assert.deepEqual((await lab.webhooks.list()).map((one) => one.webhook_id), [made.webhook_id]);
    assert.equal((await lab.webhooks.get(made.webhook_id)).enabled, false);
    await lab.webhooks.delete(made.webhook_id);
    await assert.rejects(lab.webhooks.get(made.webhook_id), NotFound);
  } finally {
    close();
  }
});

// -- what is believed

const SECRET = `whsec_${Buffer.from("the secret of these tests, 32 by").toString("base64")}`;
const NOW = 1_800_000_000;

/** A message as a coordinator sends it, with what is to be wrong with it. */
function signed({ body = '{"type":"job.failed","data":{}}', at = NOW, secret = SECRET, prefix = "v1," } = {}) {
  const key = Buffer.from(secret.replace("whsec_", ""), "base64");
  const signature = createHmac("sha256", key).update(`msg_1.${at}.${body}`).digest("base64");
  const headers = { "Webhook-Id": "msg_1", "webhook-timestamp": String(at), "webhook-signature": prefix + signature };
  return { headers, body };
}

const verified = ({ headers, body }, options = {}) => verifyWebhook(SECRET, headers, body, { now: NOW, ...options });

test("a message is believed in any form that it may come in", async () => {
  const { headers, body } = signed();
  const bytes = new TextEncoder().encode(body);
  const padded = new Uint8Array(bytes.length + 8);
  padded.set(bytes, 4);
  for (const given of [body, bytes, bytes.buffer, padded.subarray(4, 4 + bytes.length)]) {
    assert.equal((await verified({ headers, body: given })).type, "job.failed");
  }
  const listed = { ...headers, "webhook-signature": [`v1a,abc v2,xyz v1,AAAA ${headers["webhook-signature"]}`] };
  assert.equal((await verified({ headers: listed, body })).type, "job.failed");
  assert.equal((await verified(signed({ at: NOW - 299 }))).type, "job.failed");
  assert.equal((await verified(signed({ at: NOW - 5000 }), { tolerance: 6000 })).type, "job.failed");
});

test("a message that is not from there, was changed, or is old is refused", async () => {
  const good = signed();
  const other = `whsec_${Buffer.from("somebody else's").toString("base64")}`;
  const without = (name) => ({ ...good, headers: { ...good.headers, [name]: undefined } });
  const refused = {
    "another secret": [signed({ secret: other }), /not signed with this secret/],
    "another body": [{ ...good, body: good.body + " " }, /not signed with this secret/],
    "another id": [{ ...good, headers: { ...good.headers, "Webhook-Id": "msg_2" } }, /not signed/],
    "another version": [signed({ prefix: "v2," }), /not signed/],
    "no base64": [{ ...good, headers: { ...good.headers, "webhook-signature": "v1,@" } }, /not signed/],
    "too old": [signed({ at: NOW - 301 }), /sent 301 s ago/],
    "from the future": [signed({ at: NOW + 301 }), /sent 301 s from now/],
    "no time": [{ ...good, headers: { ...good.headers, "webhook-timestamp": "now" } }, /is no time/],
    "no id": [without("Webhook-Id"), /has no webhook-id/],
    "no signature": [without("webhook-signature"), /has no webhook-signature/],
    "no JSON": [signed({ body: "<html>" }), /no JSON/],
  };
  for (const [name, [message, why]] of Object.entries(refused)) {
    await assert.rejects(verified(message), (error) => error instanceof WebhookRefused && why.test(error.message), name);
  }
  // A secret that is none is the caller's fault, and nothing about the message.
  await assert.rejects(verifyWebhook("whsec_@", good.headers, good.body, { now: NOW }), (error) => {
    return error instanceof PitheadError && !(error instanceof WebhookRefused);
  });
});
