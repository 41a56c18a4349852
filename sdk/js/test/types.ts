/** What the types let through, and what they do not: compiled, never run. */

import { Pithead, answered, verifyWebhook, type Job, type JobRequest } from "@pithead/client";

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
  for await (const news of exchange.accountEvents()) {
    if (news.event === "payout") news.data.amount.toFixed(2);
    // @ts-expect-error only a job has a status like that
    if (news.event === "sync" && news.data.status) break;
  }
  await exchange.submit(request, { files: { "a.txt": "text", "b.bin": new Blob([]) } });
  // @ts-expect-error a file has bytes
  await exchange.files.upload(5);
  const { secret } = await exchange.webhooks.create({ url: "https://x.example", events: ["job.failed"] });
  // @ts-expect-error there is no such event
  await exchange.webhooks.create({ url: "https://x.example", events: ["job.fails"] });
  const message = await verifyWebhook(secret, new Headers(), "{}");
  message.type.startsWith("job.");
  const page = answered(await exchange.api.GET("/v1/jobs", { params: { query: { status: "queued" } } }));
  // @ts-expect-error a price is a number
  const price: string = page.jobs[0]?.price;
  return page.jobs[0] ?? (await exchange.job(free.model + price));
}
