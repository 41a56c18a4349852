/** What every part of the client asks with: an address, a key, and patience. */

import type { Client } from "openapi-fetch";

import type { paths } from "./api.js";
import { BadAnswer, errorOf, problemOf } from "./errors.js";
import { patient, type Patience } from "./transport.js";

export interface Line {
  readonly url: string;
  /** Those of every request: who asks. */
  readonly headers: Record<string, string>;
  readonly api: Client<paths>;
  readonly patience: Patience;
}

/** What a call of `api` was answered with. Throws the `ApiError` for a problem. */
export function answered<T>(outcome: { data?: T; error?: unknown; response: Response }): T {
  const { data, error, response } = outcome;
  if (response.ok && data !== undefined) return data;
  if (response.ok) throw new BadAnswer(`${response.url} does not answer like a Pithead coordinator`);
  throw problemOf(response, error);
}

/** A request of this line's, for what is no JSON. */
export function request(line: Line, path: string, init: RequestInit): Request {
  return new Request(line.url + path, { ...init, headers: { ...line.headers, ...(init.headers as Record<string, string>) } });
}

/** A good answer to a GET, its body not read yet. Throws the `ApiError` for a problem. */
export async function get(
  line: Line,
  path: string,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<Response> {
  const response = await patient(line.patience)(request(line, path, { headers, ...signalled({ signal }) }));
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** The signal, if there is one, as an option of its own. */
export function signalled(options: { signal?: AbortSignal | undefined }): { signal?: AbortSignal } {
  return options.signal ? { signal: options.signal } : {};
}

/** What a list has, a page fetched as it is needed. */
export async function* paged<P extends { next_cursor: string | null }, T>(
  fetch: (query: { limit: number; cursor?: string }) => Promise<P>,
  items: (page: P) => T[],
): AsyncGenerator<T> {
  for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
    const page: P = await fetch({ limit: 200, ...(cursor === null ? {} : { cursor }) });
    yield* items(page);
    cursor = page.next_cursor;
  }
}
