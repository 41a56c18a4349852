/** What can go wrong, as errors one can tell apart with `instanceof`. */

import type { Schemas } from "./schemas.js";

export type Job = Schemas["JobView"];
export type Problem = Schemas["Problem"];
export type Fault = Schemas["Fault"];

/** The parent of them all. */
export class PitheadError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The coordinator could not be reached, or did not answer in time, until there was no time left for another try. */
export class Unreachable extends PitheadError {}

/** Something answered that is no Pithead coordinator. */
export class BadAnswer extends PitheadError {}

/** A result arrived that does not match its digest: fetch it again. */
export class Corrupted extends PitheadError {}

/** The job was not finished in the time that `wait` was given. */
export class WaitTimeout extends PitheadError {
  constructor(
    /** The job as it was seen last. */
    readonly job: Job,
    waited: number,
  ) {
    super(`${job.job_id} is still ${job.status} after ${waited} s; wait again, or cancel it`);
  }
}

/** The job ended without a result: it failed, was cancelled or expired. */
export class JobFailed extends PitheadError {
  constructor(readonly job: Job) {
    const why = job.failure ? `: ${job.failure.kind}, ${job.failure.reason}` : "";
    super(`${job.job_id} ${job.status === "failed" ? "failed" : `is ${job.status}`}${why}`);
  }
}

/** The coordinator said no. `problem` is its answer (RFC 9457). */
export class ApiError extends PitheadError {
  readonly status: number;
  constructor(
    readonly problem: Problem,
    message = problem.detail || problem.title,
  ) {
    const where = problem.status >= 500 && problem.request_id ? ` (request ${problem.request_id} in its log)` : "";
    super(`the coordinator answered ${problem.status}: ${message}${where}`);
    this.status = problem.status;
  }
}

/** 401: the key is not accepted. */
export class Unauthorized extends ApiError {}
/** 402: not enough credit. */
export class PaymentRequired extends ApiError {}
/** 403: this key may not do that. */
export class Forbidden extends ApiError {}
/** 404: there is no such thing, or it is not yours. */
export class NotFound extends ApiError {}
/** 409: not possible as things stand. */
export class Conflict extends ApiError {}
/** 410: it is no longer kept. */
export class Gone extends ApiError {}

/** 422: `faults` names every one of them, with its field. */
export class Invalid extends ApiError {
  readonly faults: readonly Fault[];
  constructor(problem: Problem) {
    const faults = problem.errors ?? [];
    super(problem, faults.map((f) => (f.field ? `${f.field}: ${f.message}` : f.message)).join("; ") || problem.detail);
    this.faults = faults;
  }
}

/** 429: over the limit. */
export class RateLimited extends ApiError {
  constructor(
    problem: Problem,
    /** Seconds until it is worth while to ask again; 0 where the coordinator did not say. */
    readonly retryAfter: number,
  ) {
    super(problem);
  }
}

const BY_STATUS: Record<number, new (problem: Problem) => ApiError> = {
  401: Unauthorized,
  402: PaymentRequired,
  403: Forbidden,
  404: NotFound,
  409: Conflict,
  410: Gone,
  422: Invalid,
};

/** The error for an answer that is no success. */
export async function errorOf(response: Response): Promise<ApiError> {
  return problemOf(response, await response.json().catch(() => undefined));
}

/** The same, of one whose body is read already. */
export function problemOf(response: Response, body: unknown): ApiError {
  let problem: Problem = {
    type: "about:blank",
    title: response.statusText || "error",
    status: response.status,
    detail: `${response.url} did not say why; check that it is a Pithead coordinator`,
    request_id: response.headers.get("x-request-id") ?? "",
  };
  if (response.headers.get("content-type")?.startsWith("application/problem+json") && typeof body === "object") {
    problem = { ...problem, ...(body as Partial<Problem>) };
  }
  if (response.status === 429) return new RateLimited(problem, retryAfter(response) ?? 0);
  return new (BY_STATUS[response.status] ?? ApiError)(problem);
}

/** The seconds that `Retry-After` asks for. */
export function retryAfter(response: Response): number | undefined {
  const value = response.headers.get("retry-after")?.trim() ?? "";
  return /^\d+$/.test(value) ? Number(value) : undefined;
}
