/** Input files: up by their hash, gone on with where it broke off; listed, fetched and deleted. */

import { digestOf } from "./crypto.js";
import { BadAnswer, Corrupted, PitheadError, errorOf } from "./errors.js";
import { answered, get, paged, request, signalled, type Line } from "./line.js";
import type { Schemas } from "./schemas.js";
import { OVERLOADED, once, persist, type Attempt } from "./transport.js";

/** A file of the account. */
export type FileView = Schemas["FileView"];
/** How far the upload of a file is. */
export type FileState = Schemas["FileState"];
/** What can be uploaded. A `Blob` may be a `File` of a form, or in Node what `openAsBlob` of `node:fs` gives: neither is read whole. */
export type Data = Blob | ArrayBuffer | Uint8Array | string;
/** The files of a job, by the names that it is to find them under. */
export type JobFiles = Record<string, Data>;

export interface UploadOptions {
  /** The SHA-256 in hex, where it is known already. */
  sha256?: string;
  signal?: AbortSignal;
}

/** From so many bytes on it is asked first what is there already. */
const ASK_FROM = 64 << 10;
/** Seconds for one try of a large upload, beside `timeout`. What arrived by then is kept, and the next try goes on behind it. */
const LONGEST_TRY = 600;
/** Bytes that even a slow line carries in a second. */
const SLOW = 64 << 10;

export class Files {
  readonly #line: Line;

  constructor(line: Line) {
    this.#line = line;
  }

  /**
   * Upload a file, for jobs to name by its `sha256`. One that is there is not sent again, and of one that broke off only the
   * rest, by this call and by later ones. For as long as it gets on it is tried again.
   */
  async upload(data: Data, options: UploadOptions = {}): Promise<FileView> {
    const blob = data instanceof Blob ? data : new Blob([data as BlobPart]);
    const sha256 = options.sha256 ?? (await digestOf(blob));
    options.signal?.throwIfAborted();
    const path = pathOf(sha256);
    const { timeout, fetch } = this.#line.patience;
    let there = 0;
    const attempt = async (gotOn: () => void): Promise<Attempt> => {
      let from = 0;
      if (blob.size >= ASK_FROM) {
        const asked = await once(fetch, request(this.#line, `${path}/upload`, signalled(options)), timeout);
        if (!(asked.outcome instanceof Response) || !asked.outcome.ok) return asked;
        const state = await asked.outcome.json().catch(() => undefined);
        from = Math.min(Number((state as FileState | undefined)?.upload_offset) || 0, blob.size);
        if (from > there) gotOn();
        there = from;
      }
      const headers = {
        "content-type": "application/octet-stream",
        ...(from ? { "upload-offset": String(from) } : {}),
      };
      const body = blob.slice(from);
      const put = request(this.#line, path, { method: "PUT", headers, body, ...signalled(options) });
      return once(fetch, put, timeout + Math.min(body.size / SLOW, LONGEST_TRY));
    };
    // Somebody else went on with it, or a newer part replaced the old one: look again.
    const moved = (answer: Response) => answer.status === 409 && answer.headers.has("upload-offset");
    const answer = await persist(this.#line.patience, new URL(this.#line.url).origin, attempt, {
      again: (answer) => OVERLOADED.has(answer.status) || moved(answer),
      ...signalled(options),
    });
    if (!answer.ok) throw await errorOf(answer);
    const view = (await answer.json().catch(() => undefined)) as FileView | undefined;
    if (view?.sha256 !== sha256) throw new BadAnswer(`${answer.url} does not answer like a Pithead coordinator`);
    return view;
  }

  /** Whether the account has the file, or how much of it. */
  async state(sha256: string, options: { signal?: AbortSignal } = {}): Promise<FileState> {
    const params = { path: { sha256 } };
    return answered(await this.#line.api.GET("/v1/files/{sha256}/upload", { params, ...signalled(options) }));
  }

  /** The account's files, the newest first, a page fetched as it is needed. */
  list(): AsyncGenerator<FileView> {
    return paged(
      async (query) => answered(await this.#line.api.GET("/v1/files", { params: { query } })),
      (page) => page.files,
    );
  }

  /** The bytes of a file of the account, checked against its hash. */
  async get(sha256: string, options: { signal?: AbortSignal } = {}): Promise<Blob> {
    const response = await get(this.#line, pathOf(sha256), {}, options.signal);
    const blob = await response.blob();
    if ((await digestOf(blob)) !== sha256) throw new Corrupted(`the file ${sha256} arrived damaged; fetch it again`);
    return blob;
  }

  /** Delete a file of the account. Throws `Conflict` while an unfinished job needs it. */
  async delete(sha256: string): Promise<FileView> {
    return answered(await this.#line.api.DELETE("/v1/files/{sha256}", { params: { path: { sha256 } } }));
  }

  /** Upload the files of a job, and give what the job is to say of them. */
  async named(files: JobFiles, options: { signal?: AbortSignal } = {}): Promise<Schemas["InputFile"][]> {
    const named: Schemas["InputFile"][] = [];
    for (const [name, data] of Object.entries(files)) {
      named.push({ name, sha256: (await this.upload(data, signalled(options))).sha256 });
    }
    return named;
  }
}

function pathOf(sha256: string): string {
  if (!/^[0-9a-f]{64}$/.test(sha256)) {
    throw new PitheadError(`${sha256.slice(0, 100)} is no SHA-256, which has 64 hex digits in small letters`);
  }
  return `/v1/files/${sha256}`;
}
