import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import * as pithead from "@pithead/client";
import { Pithead, answered } from "@pithead/client";

import { client, keyed, meddling, miner, operator } from "./served.js";

const stop = new AbortController();
let worker;
before(async () => {
  worker = await miner("upper", { signal: stop.signal });
});
after(async () => {
  stop.abort();
  await worker.loop;
});

const job = (prompt, more = {}) => ({ model: "upper", input: { prompt }, price: 0.01, estimated_time: 1, ...more });

test("a job is submitted, waited for, and its result checked", async () => {
  const lab = await client(1);
  const seen = [];
  const { job_id, status } = await lab.submit(job("slow"));
  assert.equal(status, "queued");
  const done = await lab.wait(job_id, { onUpdate: (update) => seen.push(update.status) });
  assert.equal(done.status, "completed");
  assert.equal(done.miner_id, worker.id);
  assert.equal(seen.at(-1), "completed");
  assert.equal(await lab.text(job_id), "SLOW");
  assert.equal((await lab.me()).balance, 0.99);
  assert.equal(new TextDecoder().decode(await lab.run(job("once more"))), "ONCE MORE");
});

test("a map gives outcomes in the order of its requests, and a failure stops nothing", async () => {
  const lab = await client(1);
  const prompts = ["one", "slow", "die", "four", "five", "six"];
  async function* requests() {
    for (const prompt of prompts) yield job(prompt);
  }
  const outcomes = [];
  for await (const outcome of lab.map(requests(), { concurrency: 3, idempotencyKey: "six-of-them" })) outcomes.push(outcome);
  assert.deepEqual(outcomes.map((outcome) => outcome.index), [0, 1, 2, 3, 4, 5]);
  const texts = outcomes.map(({ result, job }) => (result ? new TextDecoder().decode(result) : job.failure.reason));
  assert.deepEqual(texts, ["ONE", "SLOW", "I would rather not", "FOUR", "FIVE", "SIX"]);
  // Under the same name nothing is submitted twice.
  const again = [];
  for await (const outcome of lab.map(requests(), { idempotencyKey: "six-of-them" })) again.push(outcome.job.job_id);
  assert.deepEqual(again, outcomes.map((outcome) => outcome.job.job_id));
  assert.equal((await lab.me()).balance, 0.95);
  const listed = [];
  for await (const { job_id } of lab.jobs()) listed.push(job_id);
  assert.deepEqual(new Set(listed), new Set(again));
});

test("a job that fails says why", async () => {
  const lab = await client(1);
  await assert.rejects(lab.run(job("die")), (error) => {
    assert(error instanceof pithead.JobFailed);
    assert.match(error.message, /failed: bad_input, I would rather not$/);
    return error.job.status === "failed";
  });
});

test("what the coordinator refuses is an error of its kind", async () => {
  const lab = await client(0.005);
  await assert.rejects(lab.submit(job("x")), pithead.PaymentRequired);
  await assert.rejects(lab.job("job_none"), pithead.NotFound);
  await assert.rejects(lab.result("job_none"), pithead.NotFound);
  await assert.rejects(new Pithead({ url: lab.url, key: "key_wrong" }).me(), pithead.Unauthorized);
  await assert.rejects(operator.me(), pithead.Forbidden);
  const invalid = lab.submit({ model: "", input: {}, price: -1 });
  await assert.rejects(invalid, (error) => {
    assert(error instanceof pithead.Invalid && error instanceof pithead.ApiError && error instanceof pithead.PitheadError);
    assert.deepEqual(error.faults.map((fault) => fault.field).sort(), ["model", "price"]);
    assert.equal(error.name, "Invalid");
    assert.equal(error.status, 422);
    return error.problem.request_id !== "";
  });
});

test("a job that nobody takes can be waited for in vain, and cancelled", async () => {
  const lab = await client(1);
  const { job_id } = await lab.submit(job("x", { model: "nobody-has-it" }));
  await assert.rejects(lab.wait(job_id, { timeout: 0.05 }), (error) => {
    assert(error instanceof pithead.WaitTimeout);
    return error.job.status === "queued";
  });
  const impatient = AbortSignal.timeout(20);
  await assert.rejects(lab.wait(job_id, { signal: impatient }), { name: "TimeoutError" });
  assert.equal((await lab.cancel(job_id)).status, "cancelled");
  await assert.rejects(lab.result(job_id), pithead.Conflict);
  assert.equal((await lab.me()).balance, 1);
});

test("an answer that is lost is asked for again, and the job is there once", async () => {
  const { key, url } = await keyed();
  let lost = 0;
  const { fetch, seen } = meddling(async (request) => {
    if (request.method !== "POST" || lost++) return undefined;
    await globalThis.fetch(request);
    return Object.assign(new TypeError("fetch failed"), { cause: new Error("ECONNRESET") });
  });
  const lab = new Pithead({ url, key, fetch });
  const { job_id } = await lab.submit(job("lost"));
  assert.equal(seen.length, 2);
  assert.equal(seen[0].headers.get("idempotency-key"), seen[1].headers.get("idempotency-key"));
  const listed = [];
  for await (const one of lab.jobs()) listed.push(one.job_id);
  assert.deepEqual(listed, [job_id]);
});

test("a busy coordinator and a limit are waited for, as long as they ask", async () => {
  const { key, url } = await keyed();
  const busy = (status) => new Response(null, { status, headers: { "retry-after": "0" } });
  const { fetch, seen } = meddling((_, number) => [busy(503), busy(429)][number - 1]);
  assert.equal((await new Pithead({ url, key, fetch }).me()).balance, 1);
  assert.equal(seen.length, 3);
  const limited = new Response("{}", { status: 429, headers: { "retry-after": "100" } });
  const impatient = new Pithead({ url, key, retryFor: 1, fetch: async () => limited });
  await assert.rejects(impatient.me(), (error) => error instanceof pithead.RateLimited && error.retryAfter === 100);
});

test("a POST that carries no idempotency key is not repeated", async () => {
  const { fetch, seen } = meddling(() => new TypeError("fetch failed"));
  const lab = new Pithead({ url: operator.url, fetch });
  const posted = lab.api.POST("/v1/jobs", { body: job("x") });
  await assert.rejects(posted, pithead.Unreachable);
  assert.equal(seen.length, 1);
});

test("nobody there is told apart from somebody who says no", async () => {
  const gone = new Pithead({ url: "http://127.0.0.1:9", retryFor: 0 });
  await assert.rejects(gone.me(), (error) => {
    assert(error instanceof pithead.Unreachable);
    return /ECONNREFUSED|bad port/.test(error.message);
  });
  const hangs = new Pithead({ url: operator.url, timeout: 0.02, retryFor: 0, fetch: hang });
  await assert.rejects(hangs.me(), /no answer within 0\.02 s/);
  const page = new Response("<html>", { status: 404, headers: { "content-type": "text/html" } });
  const other = new Pithead({ url: operator.url, fetch: async () => page });
  await assert.rejects(other.job("job_x"), /check that it is a Pithead coordinator/);
});

test("a result that was changed on its way is not taken", async () => {
  const given = await keyed();
  const lab = new Pithead(given);
  const { job_id } = await lab.submit(job("true"));
  await lab.wait(job_id);
  const changes = { cut: ["TRU", {}], undigested: ["TRUE", { "repr-digest": "" }], whole: ["TRUE", {}] };
  const taken = {};
  for (const [name, [body, more]] of Object.entries(changes)) {
    const fetch = async (request) => {
      const headers = { ...Object.fromEntries((await globalThis.fetch(request)).headers), ...more };
      return new Response(body, { headers });
    };
    const damaged = (error) => (error instanceof pithead.Corrupted ? "refused" : error);
    taken[name] = await new Pithead({ ...given, fetch }).text(job_id).catch(damaged);
  }
  assert.deepEqual(taken, { cut: "refused", undigested: "refused", whole: "TRUE" });
});

test("a job is followed as it happens, and from where one was", async () => {
  const lab = await client(1);
  const { job_id } = await lab.submit(job("slow", { model: "followed" }));
  const following = (async () => {
    const seen = [];
    for await (const event of lab.events(job_id)) seen.push(event);
    return seen;
  })();
  const other = new AbortController();
  const late = await miner("followed", { signal: other.signal });
  const seen = await following;
  other.abort();
  await late.loop;
  const jobs = seen.filter(({ event }) => event === "job").map(({ data }) => data);
  assert.equal(jobs.at(-1).status, "completed");
  assert(jobs.length > 1);
  assert(jobs.every((one) => one.job_id === job_id));
  const rest = [];
  for await (const event of lab.events(job_id, { lastEventId: seen.at(-2).id })) rest.push(event);
  assert.deepEqual(rest.map(({ data }) => data.status), ["completed"]);
  for await (const event of lab.events(job_id, { lastEventId: seen.at(-1).id })) assert.fail(JSON.stringify(event));
});

test("an account is told what happens to its jobs, and goes on from where it was", async () => {
  const lab = await client(1);
  const stop = new AbortController();
  const told = [];
  for await (const { event, id, data } of lab.accountEvents({ signal: stop.signal })) {
    // It listens: now something may happen.
    if (event === "sync") await lab.submit(job("slow"));
    told.push({ event, id, data });
    if (event === "job" && pithead.isFinished(data)) break;
  }
  assert.deepEqual([told[0].event, told[0].data.resumed], ["sync", false]);
  const jobs = told.slice(1);
  assert(jobs.length > 1 && jobs.every(({ event, data }) => event === "job" && data.client_id));
  assert.equal(jobs.at(-1).data.status, "completed");
  const { job_id } = await lab.submit(job("x", { model: "nobody-has-it" }));
  const rest = [];
  for await (const news of lab.accountEvents({ lastEventId: jobs.at(-1).id, signal: stop.signal })) {
    rest.push(news);
    if (news.event === "job") break;
  }
  assert.deepEqual(rest.map(({ event, data }) => [event, data.resumed ?? data.job_id]), [["sync", true], ["job", job_id]]);
  await lab.cancel(job_id);
  // The operator hears of everybody's; and a caller who had enough is let go.
  const all = operator.accountEvents({ signal: stop.signal });
  assert.equal((await all.next()).value.event, "sync");
  const next = all.next();
  stop.abort(new Error("enough"));
  await assert.rejects(next.then(() => all.next()), /enough/);
});

test("every call of the API is there, typed or not", async () => {
  const overview = answered(await operator.api.GET("/v1/admin/overview"));
  assert(overview.miners.active >= 2);
});

/** Answers never, and hears of no signal. */
function hang() {
  return new Promise(() => undefined);
}
