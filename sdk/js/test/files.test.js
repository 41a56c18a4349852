import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { test } from "node:test";

import { ApiError, BadAnswer, Conflict, Corrupted, Invalid, NotFound, Pithead, PitheadError } from "@pithead/client";

import { client, keyed, meddling } from "./served.js";

const hashOf = (bytes) => createHash("sha256").update(bytes).digest("hex");
/** A file of five million bytes, no two of its millions alike, and no two of these. */
const large = (mark) => Buffer.concat([...Array(5).keys()].map((n) => Buffer.alloc(1_000_000, `${mark}${n}`)));
const nobody = { model: "nobody-has-it", input: {}, price: 0.01, estimated_time: 1 };

/** Send this much of a file that is larger, and hang up; once it is kept, how many bytes. */
async function cutOff({ url, key }, bytes, much) {
  const path = `${url}/v1/files/${hashOf(bytes)}`;
  const headers = { authorization: `Bearer ${key}`, "content-length": bytes.length };
  const request = http.request(path, { method: "PUT", headers });
  request.on("error", () => undefined);
  await new Promise((resolve) => request.write(bytes.subarray(0, much), resolve));
  const lab = new Pithead({ url, key });
  request.destroy();
  // It takes the coordinator a moment to see that the line broke, and to put away what came.
  for (;;) {
    const { upload_offset } = await lab.files.state(hashOf(bytes));
    if (upload_offset > 0) return upload_offset;
  }
}

test("a file goes up by its hash, a job names it, and it comes down checked", async () => {
  const lab = await client(1);
  const given = { blob: new Blob(["text"]), bytes: new TextEncoder().encode("text"), text: "text" };
  for (const data of Object.values(given)) {
    const file = await lab.files.upload(data);
    assert.deepEqual([file.sha256, file.size], [hashOf("text"), 4]);
  }
  assert.equal(await (await lab.files.get(hashOf("text"))).text(), "text");
  assert.equal((await lab.files.upload("")).size, 0);
  const { job_id } = await lab.submit(nobody, { files: { "a.txt": "text", "b.bin": new Uint8Array([1, 2]) } });
  const named = (await lab.job(job_id)).input_files;
  assert.deepEqual(named.map(({ name, sha256 }) => [name, sha256]), [
    ["a.txt", hashOf("text")],
    ["b.bin", hashOf(new Uint8Array([1, 2]))],
  ]);
  const listed = [];
  for await (const { sha256 } of lab.files.list()) listed.push(sha256);
  assert.deepEqual(new Set(listed), new Set([hashOf("text"), hashOf(""), hashOf(new Uint8Array([1, 2]))]));
  await assert.rejects(lab.files.delete(hashOf("text")), Conflict);
  await lab.cancel(job_id);
  assert.equal((await lab.files.delete(hashOf("text"))).sha256, hashOf("text"));
  await assert.rejects(lab.files.get(hashOf("text")), NotFound);
});

test("what is there is not sent again", async () => {
  const { url, key } = await keyed();
  const bytes = large("once");
  await new Pithead({ url, key }).files.upload(bytes);
  const { fetch, seen } = meddling(() => undefined);
  assert.equal((await new Pithead({ url, key, fetch }).files.upload(bytes)).size, bytes.length);
  const [asked, put] = seen;
  assert.equal(asked.method, "GET");
  assert.equal(put.headers.get("upload-offset"), String(bytes.length));
  assert.equal((await put.blob()).size, 0);
});

test("an upload that broke off is gone on with, by the same call", async () => {
  const { url, key } = await keyed();
  const bytes = large("broken");
  let kept = 0;
  const { fetch, seen } = meddling(async (request) => {
    if (request.method !== "PUT" || kept) return undefined;
    kept = await cutOff({ url, key }, bytes, 3_000_000);
    return Object.assign(new TypeError("fetch failed"), { cause: new Error("ECONNRESET") });
  });
  const file = await new Pithead({ url, key, fetch }).files.upload(new Blob([bytes]));
  assert.equal(file.size, bytes.length);
  const puts = seen.filter(({ method }) => method === "PUT");
  assert.deepEqual(puts.map(({ headers }) => headers.get("upload-offset")), [null, String(kept)]);
  assert.equal((await puts[1].blob()).size, bytes.length - kept);
  assert.equal(hashOf(Buffer.from(await (await new Pithead({ url, key }).files.get(file.sha256)).arrayBuffer())), file.sha256);
});

test("an upload that another one overtook looks again", async () => {
  const { url, key } = await keyed();
  const bytes = large("overtaken");
  const stale = () => Response.json({ sha256: hashOf(bytes), upload_offset: 17, complete: false });
  const { fetch, seen } = meddling((_, number) => (number === 1 ? stale() : undefined));
  assert.equal((await new Pithead({ url, key, fetch }).files.upload(bytes)).size, bytes.length);
  assert.deepEqual(seen.map(({ method }) => method), ["GET", "PUT", "GET", "PUT"]);
});

test("for as long as an upload gets on, it is tried again", async (t) => {
  const bytes = large("slow");
  let [offset, clock] = [0, 0];
  t.mock.method(performance, "now", () => clock);
  const fetch = async (request) => {
    clock += 400;
    if (request.method === "GET") return Response.json({ sha256: "", upload_offset: (offset += 100_000), complete: false });
    if (offset < 900_000) return new Response(null, { status: 503, headers: { "retry-after": "0" } });
    return Response.json({ sha256: hashOf(bytes), size: bytes.length });
  };
  // The time for retries is over before the third: but every one finds more there.
  const lab = new Pithead({ url: "http://exchange.test", retryFor: 1, fetch });
  assert.equal((await lab.files.upload(bytes)).size, bytes.length);
  assert(clock > 5000);
  const stands = async (request) => (request.method === "GET" ? Response.json({ upload_offset: 5 }) : fetch(request));
  offset = 0;
  const stuck = new Pithead({ url: "http://exchange.test", retryFor: 1, fetch: stands });
  await assert.rejects(stuck.files.upload(bytes), (error) => error instanceof ApiError && error.status === 503);
});

test("what is wrong with a file is an error of its kind", async () => {
  const lab = await client(1);
  await assert.rejects(lab.files.upload("one", { sha256: hashOf("another") }), Invalid);
  await assert.rejects(lab.files.upload("one", { sha256: "abc" }), (error) => {
    assert(error instanceof PitheadError);
    return /abc is no SHA-256/.test(error.message);
  });
  await assert.rejects(lab.files.state(hashOf("x"), { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
  await assert.rejects(lab.files.upload("x", { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
  const damaged = new Pithead({ url: lab.url, fetch: async () => new Response("damaged") });
  await assert.rejects(damaged.files.get(hashOf("x")), Corrupted);
  await assert.rejects(damaged.files.upload("x"), BadAnswer);
});
