/** What the types let through, and what they do not: compiled, never run. */

import { Pithead, answered, type Job, type JobRequest } from "@pithead/client";

export async function typed(exchange: Pithead): Promise<Job> {
  const request: JobRequest = { model: "m", input: { any: "thing" }, price: 0.01 };
  // @ts-expect-error a job needs a price
  const free: JobRequest = { model: "m", input: {} };
  // @ts-expect-error there is no such field
  await exchange.submit({ ...request, prize: 1 });
  // @ts-expect-error there is no such path
  await exchange.api.GET("/v1/job/{job_id}");
  // @ts-expect-error the path needs its job
  await exchange.api.GET("/v1/jobs/{job_id}", { params: { path: {} } });
  const page = answered(await exchange.api.GET("/v1/jobs", { params: { query: { status: "queued" } } }));
  // @ts-expect-error a price is a number
  const price: string = page.jobs[0]?.price;
  return page.jobs[0] ?? (await exchange.job(free.model + price));
}
