/** One call, tried until it is answered: time limits, retries with back-off, and which calls are safe to repeat. */

import { Unreachable, retryAfter } from "./errors.js";

export interface Patience {
  /** Seconds for one answer to begin. */
  timeout: number;
  /** Seconds in which a call is tried again that met a dropped connection, a busy coordinator or a rate limit. */
  retryFor: number;
  fetch: typeof globalThis.fetch;
}

/** What one try came to: an answer, or what was thrown. */
export interface Attempt {
  outcome: Response | unknown;
  /** Seconds without an answer after which it was given up; 0 where that is not how it ended. */
  limited: number;
}

export interface Persistence {
  /** Whether a try that was not answered may be made again. Default: yes. */
  repeatable?: boolean;
  /** Whether an answer is worth another try. Default: where the coordinator was busy, or a limit was met. */
  again?: (answer: Response) => boolean;
  signal?: AbortSignal;
}

export const OVERLOADED: ReadonlySet<number> = new Set([429, 502, 503, 504]);
const FIRST_PAUSE = 0.25;
const LONGEST_PAUSE = 10;

/** A `fetch` that is patient. A POST is repeated only where it carries an idempotency key: then it is done once. */
export function patient(patience: Patience): (request: Request) => Promise<Response> {
  return (request) =>
    persist(
      patience,
      new URL(request.url).origin,
      () => once(patience.fetch, request.clone(), patience.timeout + held(request)),
      { repeatable: request.method !== "POST" || request.headers.has("idempotency-key"), signal: request.signal },
    );
}

/** Try until there is an answer, or no time is left. A try that got on says so, and has all the time once more. */
export async function persist(
  { retryFor }: Patience,
  origin: string,
  attempt: (gotOn: () => void) => Promise<Attempt>,
  { repeatable = true, again = (answer) => OVERLOADED.has(answer.status), signal }: Persistence,
): Promise<Response> {
  let until = now() + retryFor;
  let pause = FIRST_PAUSE;
  const gotOn = () => {
    until = now() + retryFor;
    pause = FIRST_PAUSE;
  };
  for (;;) {
    const { outcome, limited } = await attempt(gotOn);
    signal?.throwIfAborted();
    const answered = outcome instanceof Response;
    const worthwhile = answered ? again(outcome) : true;
    const wait = (answered ? retryAfter(outcome) : undefined) ?? pause * (0.5 + Math.random() / 2);
    // A rate limit refuses before anything is done, so that any call may be repeated after it.
    const safe = repeatable || (answered && outcome.status === 429);
    if (!worthwhile || !safe || now() + wait > until) {
      if (answered) return outcome;
      const why = limited ? `no answer within ${limited} s` : reason(outcome);
      throw new Unreachable(`the coordinator at ${origin} cannot be reached (${why})`, { cause: outcome });
    }
    if (answered) await outcome.body?.cancel();
    await sleep(wait, signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
}

/** Seconds for which the coordinator was asked to hold the call. */
function held(request: Request): number {
  return Number(new URL(request.url).searchParams.get("wait") ?? 0);
}

/** One try, with so many seconds for the answer to begin. */
export async function once(fetch: typeof globalThis.fetch, request: Request, seconds: number): Promise<Attempt> {
  const limit = new AbortController();
  let limited = 0;
  const stop = () => limit.abort(request.signal.reason);
  const timer = setTimeout(() => {
    limited = seconds;
    limit.abort();
  }, seconds * 1000);
  // Not left to `fetch` alone: a platform may lose the way from one signal to the next when it collects garbage.
  const stopped = new Promise<never>((_, reject) => {
    limit.signal.addEventListener("abort", () => reject(limit.signal.reason), { once: true });
  });
  stopped.catch(() => undefined);
  request.signal.addEventListener("abort", stop, { once: true });
  if (request.signal.aborted) stop();
  try {
    // The timer is for the head of the answer; the caller's signal goes on to hold while the body is read.
    return { outcome: await Promise.race([fetch(request, { signal: limit.signal }), stopped]), limited };
  } catch (error) {
    return { outcome: error, limited };
  } finally {
    clearTimeout(timer);
  }
}

function reason(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  return cause instanceof Error ? (("code" in cause && String(cause.code)) || cause.message) : String(cause);
}

/** Seconds, of a clock that only goes on. */
export function now(): number {
  return performance.now() / 1000;
}

/** Wait so many seconds, or until the signal. */
export function sleep(seconds: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
