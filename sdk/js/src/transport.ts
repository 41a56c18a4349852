/** One call, tried until it is answered: time limits, retries with back-off, and which calls are safe to repeat. */

import { Unreachable, retryAfter } from "./errors.js";

export interface Patience {
  /** Seconds for one answer to begin. */
  timeout: number;
  /** Seconds in which a call is tried again that met a dropped connection, a busy coordinator or a rate limit. */
  retryFor: number;
  fetch: typeof globalThis.fetch;
}

const OVERLOADED = new Set([429, 502, 503, 504]);
const FIRST_PAUSE = 0.25;
const LONGEST_PAUSE = 10;

/** A `fetch` that is patient. A POST is repeated only where it carries an idempotency key: then it is done once. */
export function patient({ timeout, retryFor, fetch }: Patience): (request: Request) => Promise<Response> {
  return async (request) => {
    const repeatable = request.method !== "POST" || request.headers.has("idempotency-key");
    const until = now() + retryFor;
    for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      const { outcome, limited } = await once(fetch, request.clone(), timeout + held(request));
      request.signal.throwIfAborted();
      const answered = outcome instanceof Response;
      const again = answered ? OVERLOADED.has(outcome.status) : true;
      const wait = (answered ? retryAfter(outcome) : undefined) ?? pause * (0.5 + Math.random() / 2);
      // A rate limit refuses before anything is done, so that any call may be repeated after it.
      const safe = repeatable || (answered && outcome.status === 429);
      if (!again || !safe || now() + wait > until) {
        if (answered) return outcome;
        const why = limited ? `no answer within ${timeout} s` : reason(outcome);
        throw new Unreachable(`the coordinator at ${new URL(request.url).origin} cannot be reached (${why})`, { cause: outcome });
      }
      if (answered) await outcome.body?.cancel();
      await sleep(wait, request.signal);
    }
  };
}

/** Seconds for which the coordinator was asked to hold the call. */
function held(request: Request): number {
  return Number(new URL(request.url).searchParams.get("wait") ?? 0);
}

async function once(
  fetch: typeof globalThis.fetch,
  request: Request,
  seconds: number,
): Promise<{ outcome: Response | unknown; limited: boolean }> {
  const limit = new AbortController();
  let limited = false;
  const stop = () => limit.abort(request.signal.reason);
  const timer = setTimeout(() => {
    limited = true;
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

function now(): number {
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
