/**
 * The client of Pithead for Node 18 and newer and for browsers: submit jobs, wait for them, fetch and check what comes of them.
 *
 * The types are made from the coordinator's own OpenAPI document. What has no method here is reached, typed, through `api`.
 */

import createClient, { type Client } from "openapi-fetch";

import type { paths } from "./api.js";
import { base64, sha256, uuid } from "./crypto.js";
import { Corrupted, JobFailed, WaitTimeout, type Job } from "./errors.js";
import { Files, type JobFiles } from "./files.js";
import { follow, type EventsOptions } from "./follow.js";
import { answered, get, paged, signalled, type Line } from "./line.js";
import type { Schemas } from "./schemas.js";
import { patient, sleep, type Patience } from "./transport.js";
import { Webhooks } from "./webhooks.js";

export * from "./errors.js";
export type { Data, FileState, FileView, Files, JobFiles, UploadOptions } from "./files.js";
export type { EventsOptions } from "./follow.js";
export { answered } from "./line.js";
export * from "./webhooks.js";
export type { components, operations, paths } from "./api.js";

export type JobRequest = Schemas["SubmitJob"];
export type Submitted = Schemas["Submitted"];
export type Account = Schemas["ClientView"];
export type Status = Job["status"];

export interface Options {
  /** The coordinator's address. Default: `PITHEAD_URL` where there is an environment, else `http://127.0.0.1:8080`. */
  url?: string;
  /** The client's key. Default: `PITHEAD_KEY` where there is an environment. */
  key?: string;
  /** Seconds for one answer. Default: 30. */
  timeout?: number;
  /** Seconds in which a call that met a dropped connection, a busy coordinator or a rate limit is tried again. Default: 60. */
  retryFor?: number;
  /** Another `fetch`, for tests and for proxies. */
  fetch?: typeof globalThis.fetch;
}

export interface SubmitOptions {
  /** A name of your own for the job: submitted again under the same name, it is the same job. */
  idempotencyKey?: string;
  files?: JobFiles;
  signal?: AbortSignal;
}

export interface WaitOptions {
  /** Seconds after which to give up with `WaitTimeout`. Default: never. */
  timeout?: number;
  /** Called with the job as first seen, and upon each change. */
  onUpdate?: (job: Job) => void;
  signal?: AbortSignal;
}

export interface MapOptions extends WaitOptions {
  /** Jobs that are in the exchange at the same time. Default: 32. */
  concurrency?: number;
  /** A name for the whole: run again under the same name, jobs that were submitted already are found, not submitted twice. */
  idempotencyKey?: string;
}

/** What came of one job of a `map`. */
export interface Outcome {
  index: number;
  job: Job;
  /** Of a job that completed: its bytes. */
  result?: Uint8Array;
}

/** What an attempt brings forth, a piece at a time; with another `attempt` than before, what came before is void. */
export type Output = Schemas["OutputPiece"];

/** An event of a job: the job as it stands, or a piece of what its attempt brings forth. `id` is where to go on from. */
export type JobEvent = { id: string; event: "job"; data: Job } | { id: string; event: "output"; data: Output };

/** What is told of an account: `sync` first, and then its jobs, miners, payouts and webhooks, each as it then stood. */
export type AccountEvent = {
  [K in keyof Schemas["AccountStream"]]: { id: string; event: K; data: Schemas["AccountStream"][K] };
}[keyof Schemas["AccountStream"]];

const OF_A_JOB: ReadonlySet<string> = new Set<JobEvent["event"]>(["job", "output"]);
const OF_AN_ACCOUNT: ReadonlySet<string> = new Set<AccountEvent["event"]>(["sync", "job", "miner", "payout", "webhook"]);
const FINISHED: ReadonlySet<Status> = new Set<Status>(["completed", "failed", "cancelled", "expired"]);
/** Seconds that a poll is held: it is answered early only when the job is finished. */
const HOLD = 30;
const HOLD_FOR_UPDATES = 2;
/** Seconds between two tries where something answers at once that should not. */
const PAUSE = 1;

/** Whether nothing more will happen to the job. */
export function isFinished(job: Job): boolean {
  return FINISHED.has(job.status);
}

export class Pithead {
  readonly url: string;
  /** Every call of the API, typed: `api.GET("/v1/jobs/{job_id}", {params: {path: {job_id}}})`. */
  readonly api: Client<paths>;
  /** Input files for jobs. */
  readonly files: Files;
  /** Where to be told of what happens. */
  readonly webhooks: Webhooks;
  readonly #line: Line;

  constructor(options: Options = {}) {
    this.url = (options.url ?? environment("PITHEAD_URL") ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
    const key = options.key ?? environment("PITHEAD_KEY");
    const headers: Record<string, string> = key ? { authorization: `Bearer ${key}` } : {};
    const patience: Patience = {
      timeout: options.timeout ?? 30,
      retryFor: options.retryFor ?? 60,
      fetch: options.fetch ?? ((...given) => globalThis.fetch(...given)),
    };
    this.api = createClient<paths>({ baseUrl: this.url, headers, fetch: patient(patience) });
    this.#line = { url: this.url, headers, api: this.api, patience };
    this.files = new Files(this.#line);
    this.webhooks = new Webhooks(this.#line);
  }

  /**
   * Submit a job. It is repeated until it is answered, and done once: under `idempotencyKey`, or one that is made up.
   * With a key of your own, submitting again gives the same job. `files`, by the names that the job is to find them under, are
   * uploaded first, unless they are there.
   */
  async submit(job: JobRequest, options: SubmitOptions = {}): Promise<Submitted> {
    const header = { "Idempotency-Key": options.idempotencyKey ?? (await uuid()) };
    const named = options.files ? await this.files.named(options.files, signalled(options)) : [];
    const files = named.length ? { input_files: [...(job.input_files ?? []), ...named] } : {};
    // As the command line does: the bytes of the result are wanted, not their hash alone.
    const body = { require_result: true, ...job, ...files };
    return answered(await this.api.POST("/v1/jobs", { body, params: { header }, ...signalled(options) }));
  }

  /** The job as it stands; with `wait` (seconds, at most 60), once it is finished or the time is up. */
  async job(jobId: string, options: { wait?: number; signal?: AbortSignal } = {}): Promise<Job> {
    const query = options.wait === undefined ? {} : { wait: options.wait };
    return answered(
      await this.api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: jobId }, query }, ...signalled(options) }),
    );
  }

  /** The client's jobs, the newest first, a page fetched as it is needed. */
  jobs(filter: { status?: Status; model?: string } = {}): AsyncGenerator<Job> {
    return paged(
      async (query) => answered(await this.api.GET("/v1/jobs", { params: { query: { ...filter, ...query } } })),
      (page) => page.jobs,
    );
  }

  /** Cancel the job; its price goes back. */
  async cancel(jobId: string): Promise<Job> {
    return answered(await this.api.DELETE("/v1/jobs/{job_id}", { params: { path: { job_id: jobId } } }));
  }

  /** The client's account: what it can spend, and what is set aside. */
  async me(): Promise<Account> {
    return answered(await this.api.GET("/v1/clients/me"));
  }

  /** Wait until the job is finished, in whichever way: look at its `status`. */
  async wait(jobId: string, options: WaitOptions = {}): Promise<Job> {
    const began = Date.now();
    let told = "";
    for (;;) {
      const polled = Date.now();
      const left = options.timeout === undefined ? Infinity : options.timeout - (polled - began) / 1000;
      const hold = Math.max(0, Math.min(options.onUpdate ? HOLD_FOR_UPDATES : HOLD, left));
      const job = await this.job(jobId, { wait: hold, ...signalled(options) });
      const state = JSON.stringify([job.status, job.attempts, job.progress, job.progress_message]);
      if (options.onUpdate && state !== told) options.onUpdate(job);
      told = state;
      if (isFinished(job)) return job;
      if (options.timeout !== undefined && (Date.now() - began) / 1000 >= options.timeout) {
        throw new WaitTimeout(job, options.timeout);
      }
      // A coordinator that stops, or a proxy, may answer at once: that must not become a busy loop.
      const pause = Math.min(PAUSE - (Date.now() - polled) / 1000, left);
      if (pause > 0) await sleep(pause, options.signal);
    }
  }

  /** The bytes of the result, checked against the digest that came with them. */
  async result(jobId: string, options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    // Nobody may compress them on the way: the digest is of the bytes as the miner sent them.
    const response = await get(this.#line, `/v1/jobs/${encodeURIComponent(jobId)}/result`, {}, options.signal);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const expected = /(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]+):/.exec(response.headers.get("repr-digest") ?? "")?.[1];
    // Without a digest nothing was checked: that must not pass for a check.
    if (!expected) throw new Corrupted(`the result of ${jobId} came without its SHA-256 digest; fetch it again`);
    if (base64(await sha256(bytes)) !== expected) {
      throw new Corrupted(`the result of ${jobId} does not match its SHA-256 digest; fetch it again`);
    }
    return bytes;
  }

  /** The result as text. */
  async text(jobId: string, options: { signal?: AbortSignal } = {}): Promise<string> {
    return new TextDecoder().decode(await this.result(jobId, options));
  }

  /** Submit a job, wait for it, and give its result. Throws `JobFailed` where there is none. */
  async run(request: JobRequest, options: WaitOptions & SubmitOptions = {}): Promise<Uint8Array> {
    const { job_id } = await this.submit(request, options);
    const job = await this.wait(job_id, options);
    if (job.status !== "completed") throw new JobFailed(job);
    return this.result(job_id, signalled(options));
  }

  /**
   * Run many jobs, and give what came of each, in the order of the requests. A job that fails is an outcome without a result,
   * and stops nothing. No more requests are taken from `requests` than `concurrency` ahead.
   */
  async *map(
    requests: Iterable<JobRequest> | AsyncIterable<JobRequest>,
    options: MapOptions = {},
  ): AsyncGenerator<Outcome> {
    const { concurrency = 32, idempotencyKey = await uuid(), ...waiting } = options;
    const pending: Promise<Outcome>[] = [];
    const one = async (request: JobRequest, index: number): Promise<Outcome> => {
      const { job_id } = await this.submit(request, { idempotencyKey: `${idempotencyKey}-${index}`, ...signalled(options) });
      const job = await this.wait(job_id, waiting);
      if (job.status !== "completed" || job.result_size === null) return { index, job };
      return { index, job, result: await this.result(job_id, signalled(options)) };
    };
    let index = 0;
    for await (const request of requests) {
      const outcome = one(request, index++);
      // It is looked at when its turn comes; until then its failure is not unheard of.
      outcome.catch(() => undefined);
      pending.push(outcome);
      if (pending.length >= concurrency) yield (await pending.shift())!;
    }
    while (pending.length) yield (await pending.shift())!;
  }

  /**
   * What happens to a job, as it happens, until it is finished; a connection that breaks off is taken up where it was.
   * Events of kinds that this client does not know are passed over.
   */
  events(jobId: string, options: EventsOptions = {}): AsyncGenerator<JobEvent> {
    const path = `/v1/jobs/${encodeURIComponent(jobId)}/events`;
    return follow<JobEvent>(this.#line, path, OF_A_JOB, options, ({ event, data }) => event === "job" && isFinished(data));
  }

  /**
   * What happens to the account – a client's jobs, a miner's work and payouts, everything for the operator – as it happens and
   * without end: stop with `break`, or with a signal. A `sync` comes first on each connection; one that is not `resumed` means
   * that something may have been missed: read anew what you show.
   */
  accountEvents(options: EventsOptions = {}): AsyncGenerator<AccountEvent> {
    return follow<AccountEvent>(this.#line, "/v1/account/events", OF_AN_ACCOUNT, options);
  }
}

function environment(name: string): string | undefined {
  const process = (globalThis as { process?: { env?: Record<string, string | undefined> } }).process;
  return process?.env?.[name] || undefined;
}
