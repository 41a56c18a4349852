/**
 * The client of Pithead for Node 18 and newer and for browsers: submit jobs, wait for them, fetch and check what comes of them.
 *
 * The types are made from the coordinator's own OpenAPI document. What has no method here is reached, typed, through `api`.
 */

import createClient, { type Client } from "openapi-fetch";

import type { components, paths } from "./api.js";
import { BadAnswer, Corrupted, JobFailed, PitheadError, Unreachable, WaitTimeout, errorOf, problemOf, type Job } from "./errors.js";
import { parse, type ServerSentEvent } from "./sse.js";
import { patient, sleep } from "./transport.js";

export * from "./errors.js";
export type { ServerSentEvent } from "./sse.js";
export type { components, operations, paths } from "./api.js";

type Schemas = components["schemas"];
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

export interface EventsOptions {
  /** Go on behind the event of this id. */
  lastEventId?: string;
  signal?: AbortSignal;
}

/** What an attempt brings forth, a piece at a time; with another `attempt` than before, what came before is void. */
export type Output = Schemas["OutputPiece"];

/** An event of a job: the job as it stands, or a piece of what its attempt brings forth. `id` is where to go on from. */
export type JobEvent = { id: string; event: "job"; data: Job } | { id: string; event: "output"; data: Output };

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
  readonly #fetch: (request: Request) => Promise<Response>;
  readonly #headers: Record<string, string>;

  constructor(options: Options = {}) {
    this.url = (options.url ?? environment("PITHEAD_URL") ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
    const key = options.key ?? environment("PITHEAD_KEY");
    this.#headers = key ? { authorization: `Bearer ${key}` } : {};
    this.#fetch = patient({
      timeout: options.timeout ?? 30,
      retryFor: options.retryFor ?? 60,
      fetch: options.fetch ?? ((...given) => globalThis.fetch(...given)),
    });
    this.api = createClient<paths>({ baseUrl: this.url, headers: this.#headers, fetch: this.#fetch });
  }

  /**
   * Submit a job. It is repeated until it is answered, and done once: under `idempotencyKey`, or one that is made up.
   * With a key of your own, submitting again gives the same job.
   */
  async submit(job: JobRequest, options: { idempotencyKey?: string; signal?: AbortSignal } = {}): Promise<Submitted> {
    const header = { "Idempotency-Key": options.idempotencyKey ?? (await uuid()) };
    // As the command line does: the bytes of the result are wanted, not their hash alone.
    const body = { require_result: true, ...job };
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
  async *jobs(filter: { status?: Status; model?: string } = {}): AsyncGenerator<Job> {
    for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
      const query = { ...filter, limit: 200, ...(cursor === null ? {} : { cursor }) };
      const page: Schemas["JobPage"] = answered(await this.api.GET("/v1/jobs", { params: { query } }));
      yield* page.jobs;
      cursor = page.next_cursor;
    }
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
    const response = await this.#get(`/v1/jobs/${encodeURIComponent(jobId)}/result`, {}, options.signal);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const expected = /(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]+):/.exec(response.headers.get("repr-digest") ?? "")?.[1];
    // Without a digest nothing was checked: that must not pass for a check.
    if (!expected) throw new Corrupted(`the result of ${jobId} came without its SHA-256 digest; fetch it again`);
    if ((await sha256(bytes)) !== expected) {
      throw new Corrupted(`the result of ${jobId} does not match its SHA-256 digest; fetch it again`);
    }
    return bytes;
  }

  /** The result as text. */
  async text(jobId: string, options: { signal?: AbortSignal } = {}): Promise<string> {
    return new TextDecoder().decode(await this.result(jobId, options));
  }

  /** Submit a job, wait for it, and give its result. Throws `JobFailed` where there is none. */
  async run(request: JobRequest, options: WaitOptions & { idempotencyKey?: string } = {}): Promise<Uint8Array> {
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
  async *events(jobId: string, options: EventsOptions = {}): AsyncGenerator<JobEvent> {
    let last = options.lastEventId;
    for (let fruitless = 0; ; fruitless++) {
      const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) };
      const response = await this.#get(`/v1/jobs/${encodeURIComponent(jobId)}/events`, headers, options.signal);
      // Nothing more is to come.
      if (response.status === 204 || !response.body) return;
      if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
        throw new BadAnswer(`${response.url} does not answer with events`);
      }
      try {
        for await (const event of parse(response.body, options.signal)) {
          fruitless = 0;
          last = event.id || last;
          if (event.event !== "job" && event.event !== "output") continue;
          const told = { id: event.id, event: event.event, data: decoded(event) } as JobEvent;
          yield told;
          if (told.event === "job" && isFinished(told.data)) return;
        }
      } catch (error) {
        if (error instanceof PitheadError || options.signal?.aborted) throw error;
        if (fruitless >= 5) throw new Unreachable(`the events of ${jobId} keep breaking off`, { cause: error });
      }
      options.signal?.throwIfAborted();
      await sleep(PAUSE * Math.min(fruitless, 5), options.signal);
    }
  }

  async #get(path: string, headers: Record<string, string>, signal?: AbortSignal): Promise<Response> {
    const request = new Request(this.url + path, {
      headers: { ...this.#headers, ...headers },
      ...(signal ? { signal } : {}),
    });
    const response = await this.#fetch(request);
    if (!response.ok) throw await errorOf(response);
    return response;
  }
}

/** What a call of `api` was answered with. Throws the `ApiError` for a problem. */
export function answered<T>(outcome: { data?: T; error?: unknown; response: Response }): T {
  const { data, error, response } = outcome;
  if (response.ok && data !== undefined) return data;
  if (response.ok) throw new BadAnswer(`${response.url} does not answer like a Pithead coordinator`);
  throw problemOf(response, error);
}

function decoded(event: ServerSentEvent): unknown {
  try {
    return JSON.parse(event.data);
  } catch (cause) {
    throw new BadAnswer(`an event ${event.event} is not JSON`, { cause });
  }
}

function signalled(options: { signal?: AbortSignal }): { signal?: AbortSignal } {
  return options.signal ? { signal: options.signal } : {};
}

function environment(name: string): string | undefined {
  const process = (globalThis as { process?: { env?: Record<string, string | undefined> } }).process;
  return process?.env?.[name] || undefined;
}

async function webCrypto(): Promise<Crypto> {
  if (globalThis.crypto) return globalThis.crypto;
  // Node 18 has it, but not among the globals; a name in a variable is none that a bundler for browsers looks for.
  const name = "node:crypto";
  return ((await import(name)) as { webcrypto: Crypto }).webcrypto;
}

async function uuid(): Promise<string> {
  const bytes = (await webCrypto()).getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function sha256(bytes: Uint8Array): Promise<string> {
  const { subtle } = await webCrypto();
  if (!subtle) throw new PitheadError("a result cannot be checked here: browsers do so only over https or on localhost");
  const digest = new Uint8Array(await subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return btoa(String.fromCharCode(...digest));
}
