/** A served coordinator for the tests: its operator, clients of it, and a miner that does what its jobs say. */

import { webcrypto } from "node:crypto";

import { Pithead, answered } from "@pithead/client";

const url = process.env.PITHEAD_TEST_URL;
export const operator = new Pithead({ url, key: process.env.PITHEAD_TEST_OPERATOR_KEY });

/** A client with this much credit. */
export async function client(credit = 10, options = {}) {
  return new Pithead({ ...(await keyed(credit)), ...options });
}

/** Its address and its key. */
export async function keyed(credit = 1) {
  const made = answered(await operator.api.POST("/v1/admin/clients", { body: { name: "js", credit } }));
  return { url, key: made.api_key };
}

/** A miner that answers each prompt of one model with itself, in capitals; `die` fails, `slow` reports progress first. */
export async function miner(model, { signal }) {
  const body = {
    name: `js-${model}`,
    gpu_type: "cpu",
    gpu_count: 1,
    location: "here",
    price_per_hour: 0.01,
    max_concurrent: 8,
    models: [model],
  };
  const made = answered(await new Pithead({ url }).api.POST("/v1/miners", { body }));
  const self = new Pithead({ url, key: made.api_key });
  const me = { miner_id: made.miner_id };
  answered(await self.api.POST("/v1/miners/{miner_id}/heartbeat", { params: { path: me } }));
  const loop = (async () => {
    while (!signal.aborted) {
      const params = { path: me, query: { wait: 20 } };
      let offered;
      try {
        offered = answered(await self.api.GET("/v1/miners/{miner_id}/jobs/available", { params, signal }));
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      for (const { job_id } of offered.jobs) await work(self, { ...me, job_id });
    }
  })();
  return { id: made.miner_id, loop };
}

async function work(self, path) {
  const job = answered(await self.api.POST("/v1/miners/{miner_id}/jobs/{job_id}/accept", { params: { path } }));
  const prompt = job.input.prompt;
  if (prompt === "die") {
    const body = { kind: "bad_input", reason: "I would rather not" };
    answered(await self.api.POST("/v1/miners/{miner_id}/jobs/{job_id}/fail", { params: { path }, body }));
    return;
  }
  if (prompt === "slow") {
    const body = { fraction: 0.5, message: "half" };
    answered(await self.api.POST("/v1/miners/{miner_id}/jobs/{job_id}/progress", { params: { path }, body }));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const bytes = new TextEncoder().encode(prompt.toUpperCase());
  answered(
    await self.api.PUT("/v1/miners/{miner_id}/jobs/{job_id}/result", {
      params: { path },
      body: bytes,
      bodySerializer: (given) => given,
      headers: { "content-type": "application/octet-stream" },
    }),
  );
  const digest = new Uint8Array(await webcrypto.subtle.digest("SHA-256", bytes));
  const hash = `sha256:${Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  const metrics = { execution_time_seconds: 0.1, gpu_time_seconds: 0.1 };
  const body = { result_hash: hash, metrics };
  answered(await self.api.POST("/v1/miners/{miner_id}/jobs/{job_id}/complete", { params: { path }, body }));
}

/** A `fetch` that does to each request what `meddle` makes of it: a response, an error to throw, or nothing. */
export function meddling(meddle) {
  const seen = [];
  const fetch = async (request) => {
    seen.push(request.clone());
    const made = await meddle(request, seen.length);
    if (made instanceof Error) throw made;
    return made ?? globalThis.fetch(request);
  };
  return { fetch, seen };
}
