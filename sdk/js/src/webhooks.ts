/** Webhooks: where to be told of what happens, and whether what one is told is true. */

import { subtle, unbase64, uuid } from "./crypto.js";
import { PitheadError } from "./errors.js";
import { answered, paged, signalled, type Line } from "./line.js";
import type { Schemas } from "./schemas.js";

export type Webhook = Schemas["WebhookView"];
/** A webhook with its secret, which is shown this once. */
export type WebhookCreated = Schemas["WebhookCreated"];
export type WebhookRequest = Schemas["CreateWebhook"];
/** What was sent, and how that went. */
export type Delivery = Schemas["DeliveryView"];

/** What a message says. `data` has more than its type names, and may grow. */
export interface WebhookMessage {
  type: string;
  /** When it happened, in RFC 3339. */
  timestamp: string;
  data: Record<string, unknown>;
}

/** A message that is not to be believed: its signature, its age or its form is wrong. */
export class WebhookRefused extends PitheadError {}

/** Those of a `Request`, of Node's `IncomingMessage`, or of whatever else has names and values. */
export type WebhookHeaders = Headers | Record<string, string | string[] | undefined>;

interface Repeatable {
  /** A name of your own for it: asked again under the same name, it is done once. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

/** Seconds that a message may be old, or its clock ahead of ours. */
const TOLERANCE = 300;

export class Webhooks {
  readonly #line: Line;

  constructor(line: Line) {
    this.#line = line;
  }

  /** Be told at a URL of these events, or of all that concern the account. The `secret` in the answer is shown this once. */
  async create(webhook: WebhookRequest, options: Repeatable = {}): Promise<WebhookCreated> {
    const params = { header: await named(options) };
    return answered(await this.#line.api.POST("/v1/webhooks", { body: webhook, params, ...signalled(options) }));
  }

  /** The account's webhooks. */
  async list(): Promise<Webhook[]> {
    return answered(await this.#line.api.GET("/v1/webhooks")).webhooks;
  }

  /** A webhook as it stands. */
  async get(webhookId: string): Promise<Webhook> {
    return answered(await this.#line.api.GET("/v1/webhooks/{webhook_id}", { params: path(webhookId) }));
  }

  /** Change what is given; `{ enabled: true }` sends again to one that was disabled. */
  async update(webhookId: string, changes: Schemas["UpdateWebhook"]): Promise<Webhook> {
    const params = path(webhookId);
    return answered(await this.#line.api.PUT("/v1/webhooks/{webhook_id}", { params, body: changes }));
  }

  /** No more of it, its log included. */
  async delete(webhookId: string): Promise<Webhook> {
    return answered(await this.#line.api.DELETE("/v1/webhooks/{webhook_id}", { params: path(webhookId) }));
  }

  /** Another secret; the one before signs too for a day. */
  async rotateSecret(webhookId: string, options: Repeatable = {}): Promise<WebhookCreated> {
    const params = { ...path(webhookId), header: await named(options) };
    return answered(await this.#line.api.POST("/v1/webhooks/{webhook_id}/secret", { params, ...signalled(options) }));
  }

  /** Send a message that tells of nothing. */
  async test(webhookId: string, options: Repeatable = {}): Promise<Delivery> {
    const params = { ...path(webhookId), header: await named(options) };
    return answered(await this.#line.api.POST("/v1/webhooks/{webhook_id}/test", { params, ...signalled(options) }));
  }

  /** What was sent, and how that went, the newest first, a page fetched as it is needed. */
  deliveries(webhookId: string, filter: { status?: Delivery["status"] } = {}): AsyncGenerator<Delivery> {
    return paged(
      async (query) => {
        const params = { ...path(webhookId), query: { ...filter, ...query } };
        return answered(await this.#line.api.GET("/v1/webhooks/{webhook_id}/deliveries", { params }));
      },
      (page) => page.deliveries,
    );
  }

  /** Send a message again, under its id. */
  async replay(webhookId: string, deliveryId: string, options: Repeatable = {}): Promise<Delivery> {
    const params = { path: { webhook_id: webhookId, delivery_id: deliveryId }, header: await named(options) };
    const sent = await this.#line.api.POST("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay", {
      params,
      ...signalled(options),
    });
    return answered(sent);
  }
}

/**
 * What a message says, once its signature was checked (Standard Webhooks, HMAC-SHA256). `body` is what came, byte for byte: read
 * it before anything parses it. Throws `WebhookRefused`. The same message may come twice: remember its `webhook-id`.
 */
export async function verifyWebhook(
  secret: string,
  headers: WebhookHeaders,
  body: string | Uint8Array | ArrayBuffer,
  options: { tolerance?: number; now?: number } = {},
): Promise<WebhookMessage> {
  const { tolerance = TOLERANCE, now = Date.now() / 1000 } = options;
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature");
  if (!/^\d{1,12}$/.test(timestamp)) throw new WebhookRefused(`its webhook-timestamp is ${timestamp}, which is no time`);
  const age = now - Number(timestamp);
  if (Math.abs(age) > tolerance) {
    const where = age > 0 ? "ago" : "from now";
    throw new WebhookRefused(`it says that it was sent ${Math.round(Math.abs(age))} s ${where}: see that the clock is right`);
  }
  const raw = unbase64(secret.replace(/^whsec_/, ""));
  if (!raw?.length) throw new PitheadError("the secret is none of a webhook; it looks like whsec_… and ends in base64");
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : new Uint8Array(body);
  const head = new TextEncoder().encode(`${id}.${timestamp}.`);
  const signed = new Uint8Array(head.length + bytes.length);
  signed.set(head);
  signed.set(bytes, head.length);
  const crypto = await subtle();
  const key = await crypto.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  // More than one, while a secret is being changed. The platform compares in constant time.
  for (const signature of signatures.split(" ")) {
    const given = signature.startsWith("v1,") ? unbase64(signature.slice(3)) : undefined;
    if (given && (await crypto.verify("HMAC", key, given, signed))) return parsed(bytes);
  }
  throw new WebhookRefused("it is not signed with this secret: it is from somebody else, or was changed on its way");
}

function parsed(bytes: Uint8Array): WebhookMessage {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as WebhookMessage;
  } catch (cause) {
    throw new WebhookRefused("it is signed, and no JSON", { cause });
  }
}

function header(headers: WebhookHeaders, name: string): string {
  const found =
    headers instanceof Headers
      ? headers.get(name)
      : Object.entries(headers).find(([given]) => given.toLowerCase() === name)?.[1];
  const value = Array.isArray(found) ? found[0] : found;
  if (!value) throw new WebhookRefused(`it has no ${name}: it is no message of a webhook`);
  return value;
}

function path(webhookId: string): { path: { webhook_id: string } } {
  return { path: { webhook_id: webhookId } };
}

async function named(options: Repeatable): Promise<{ "Idempotency-Key": string }> {
  return { "Idempotency-Key": options.idempotencyKey ?? (await uuid()) };
}
