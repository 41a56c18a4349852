/** WebCrypto, wherever it is; and hashes of what may be large. */

import { PitheadError } from "./errors.js";

/** The platform's. Node 18 has it, but not among the globals. */
async function webCrypto(): Promise<Crypto> {
  return globalThis.crypto ?? ((await ofNode("crypto")) as { webcrypto: Crypto }).webcrypto;
}

/** What signs and hashes. Throws where a browser keeps it back. */
export async function subtle(): Promise<SubtleCrypto> {
  const { subtle } = await webCrypto();
  if (!subtle) throw new PitheadError("nothing can be hashed or checked here: browsers do so only over https or on localhost");
  return subtle;
}

/** A name that nobody else comes upon. */
export async function uuid(): Promise<string> {
  return hex((await webCrypto()).getRandomValues(new Uint8Array(16)));
}

/** The SHA-256 of these bytes. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await (await subtle()).digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}

/** The SHA-256 of a blob, in hex: in Node a piece at a time, in browsers, which hash only what they hold, all at once. */
export async function digestOf(blob: Blob): Promise<string> {
  if (!(globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node) {
    return hex(await sha256(new Uint8Array(await blob.arrayBuffer())));
  }
  const { createHash } = (await ofNode("crypto")) as {
    createHash: (name: string) => { update: (bytes: Uint8Array) => void; digest: (as: "hex") => string };
  };
  const hash = createHash("sha256");
  const reader = (blob.stream() as ReadableStream<Uint8Array>).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) hash.update(piece.value);
  return hash.digest("hex");
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

/** The bytes; nothing where it is no base64. */
export function unbase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}

/** A module of Node's own. A name that is put together is none that a bundler for browsers looks for. */
function ofNode(name: string): Promise<unknown> {
  return import(`node:${name}`);
}
