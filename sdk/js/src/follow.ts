/** A stream of events over as many connections as it takes. */

import { BadAnswer, PitheadError, Unreachable } from "./errors.js";
import { get, type Line } from "./line.js";
import { parse, type ServerSentEvent } from "./sse.js";
import { now, sleep } from "./transport.js";

export interface EventsOptions {
  /** Go on behind the event of this id. */
  lastEventId?: string;
  signal?: AbortSignal;
}

/** Seconds to the next connection, for each in a row that brought nothing. */
const PAUSE = 1;
/** Connections in a row that broke off and brought nothing, after which it is given up. */
const FRUITLESS = 5;
/** Seconds without a byte after which a connection counts as lost: the coordinator says something every fifteen. */
const SILENCE = 45;

/**
 * What is told at `path`, as it happens, from behind the last event that was seen: all events of these kinds, until `ends` is
 * true of one or the coordinator has nothing more to tell.
 */
export async function* follow<E extends { id: string; event: string; data: unknown }>(
  line: Line,
  path: string,
  kinds: ReadonlySet<string>,
  options: EventsOptions,
  ends: (event: E) => boolean = () => false,
): AsyncGenerator<E> {
  let last = options.lastEventId;
  for (let fruitless = 0; ; fruitless++) {
    const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) };
    const response = await get(line, path, headers, options.signal);
    // Nothing more is to come.
    if (response.status === 204 || !response.body) return;
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
      throw new BadAnswer(`${response.url} does not answer with events`);
    }
    const began = now();
    try {
      for await (const said of parse(response.body, { silence: SILENCE, ...options })) {
        // That it begins to tell is not yet something told.
        if (said.event !== "sync") fruitless = 0;
        last = said.id || last;
        if (!kinds.has(said.event)) continue;
        const event = { id: said.id, event: said.event, data: decoded(said) } as E;
        yield event;
        if (ends(event)) return;
      }
    } catch (error) {
      if (error instanceof PitheadError || options.signal?.aborted) throw error;
      if (fruitless >= FRUITLESS) throw new Unreachable(`the events of ${path} keep breaking off`, { cause: error });
    }
    options.signal?.throwIfAborted();
    if (now() - began >= SILENCE) fruitless = 0;
    await sleep(PAUSE * Math.min(fruitless, FRUITLESS), options.signal);
  }
}

function decoded(event: ServerSentEvent): unknown {
  try {
    return JSON.parse(event.data);
  } catch (cause) {
    throw new BadAnswer(`an event ${event.event} is not JSON`, { cause });
  }
}
